"""Taking a finished training further: its last checkpoint becomes the first one of a longer training."""

from __future__ import annotations

import shutil
from pathlib import Path

from workbench.errors import RunError
from workbench.files import atomic_path
from workbench.training.checkpoints import has_checkpoint, load_checkpoint, save_checkpoint
from workbench.training.settings import TrainingSettings

CHANGEABLE = ("epochs", "patience", "validate_every", "learning_rate", "warmup_share", "after")
"""Settings that may differ from those of the training that is taken further."""


def take_up(finished: Path, ours: Path, settings: TrainingSettings) -> None:
    """Begin a training where another one ended: weights, optimiser, moving average, step, best score and budget are its own.

    The finished training's best checkpoint is copied too: it stays the best one until the longer training does better. Patience
    starts to count anew. Nothing is done where the longer training has a checkpoint already.

    Args:
        finished: folder of the checkpoints of the finished training; only read.
        ours: folder of the checkpoints of the longer one.
        settings: of the longer one; `after` is the number of steps that the finished one had done.

    Raises:
        RunError: there is no checkpoint, it is of other settings, or not of the step `settings.after`.
    """
    if has_checkpoint(ours / "last"):
        return
    checkpoint = load_checkpoint(finished / "last")
    saved = TrainingSettings(**checkpoint.metadata["settings"]).decisive()
    changed = [f"{k} {saved[k]!r} -> {v!r}" for k, v in settings.decisive().items() if k not in CHANGEABLE and saved[k] != v]
    if changed:
        raise RunError(f"checkpoint {finished / 'last'} cannot be taken further under other settings: {', '.join(changed)}")
    state = checkpoint.metadata["state"]
    if state["step"] != settings.after or settings.steps <= settings.after:
        raise RunError(
            f"checkpoint {finished / 'last'} is of step {state['step']}: it cannot be the one after step {settings.after} of "
            f"{settings.steps}"
        )
    ours.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        with atomic_path(ours / f"best{suffix}") as temporary:
            shutil.copyfile(finished / f"best{suffix}", temporary)
    metadata = checkpoint.metadata | {
        "state": state | {"stopped": "", "stale": 0, "window": {}, "window_steps": 0},
        "settings": settings.model_dump(mode="json"),
    }
    save_checkpoint(ours / "last", checkpoint.model, checkpoint.optimiser, checkpoint.average, metadata)  # says: taken up

"""Where a training stands, and keeping it: what is saved, what is taken up again, what it has cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from workbench.contracts import Recorder
from workbench.errors import RunError
from workbench.training.average import moving_average
from workbench.training.checkpoints import fit_state, has_checkpoint, load_checkpoint, save_checkpoint
from workbench.training.schedule import build_optimiser
from workbench.training.settings import TrainingSettings


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    step: int
    """Optimiser steps done."""
    best_score: float | None
    """Best validation score (higher is better); None without validation."""
    best_step: int
    stopped: Literal["finished", "early", "cancelled"]
    budget: dict[str, Any]
    """steps, samples, seconds, flops (None where not counted), parameters, threads, processes, device, precision; over all
    resumes, without what a kill lost."""


@dataclass
class TrainingState:
    """Everything besides the tensors: JSON-able, and exact through JSON."""

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    """Validations since the best one."""
    stopped: str = ""
    """'finished' or 'early'; empty while there is more to do."""
    samples: int = 0
    seconds: float = 0.0
    flops: int | None = 0
    stage_flops: dict[str, int] = field(default_factory=dict)
    """Operations of one optimiser step, by stage."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums of the terms since they were last recorded."""
    window_steps: int = 0
    unjudged: bool = False
    """Whether the step's validation is still due: it was broken off because the run was asked to stop."""


class Keeper:
    """Model, optimiser, moving average and state of one training, taken up from the last checkpoint where there is one."""

    def __init__(self, model: Any, settings: TrainingSettings, recorder: Recorder, accelerator: Accelerator) -> None:
        self.model, self.settings, self.recorder, self.accelerator = model, settings, recorder, accelerator
        self.state = TrainingState()
        self.optimiser = build_optimiser(model, settings)
        self.averaged = moving_average(model, settings.ema) if settings.ema else None
        if has_checkpoint(recorder.checkpoint("last")):
            self._resume()
        self._seconds_before, self._started = self.state.seconds, time.monotonic()

    def judged(self) -> nn.Module:
        """The weights that are validated and used: the moving average where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def save(self, name: Literal["last", "best"]) -> None:
        """Write a checkpoint (main process only): 'best' is the judged weights alone, 'last' all that is needed to go on."""
        if not self.accelerator.is_main_process:
            return
        self.state.seconds = self._seconds_before + time.monotonic() - self._started
        metadata = {
            "model": describe(self.model),
            "step": self.state.step,
            "state": asdict(self.state),
            "settings": self.settings.model_dump(mode="json"),
            "budget": self.budget(),
        }
        stem = self.recorder.checkpoint(name)
        if name == "best":
            save_checkpoint(stem, self.judged().state_dict(), metadata=metadata)
        else:
            average = None if self.averaged is None else self.averaged.state_dict()
            save_checkpoint(stem, self.model.state_dict(), self.optimiser.state_dict(), average, metadata)

    def _resume(self) -> None:
        """Take up the last checkpoint."""
        stem = self.recorder.checkpoint("last")
        checkpoint = load_checkpoint(stem)
        saved = TrainingSettings(**checkpoint.metadata["settings"]).decisive()
        changed = [f"{k} {saved[k]!r} -> {v!r}" for k, v in self.settings.decisive().items() if saved[k] != v]
        if changed:
            raise RunError(
                f"checkpoint {stem} was written under other settings ({', '.join(changed)}): use them, or another folder"
            )
        before, now = checkpoint.metadata.get("budget", {}).get("processes", 1), self.accelerator.num_processes
        if before != now:
            raise RunError(
                f"checkpoint {stem} was trained by {before} processes, and this is {now}: batches would be left out or repeated; "
                "use as many, or another folder"
            )
        fit_state(self.model, checkpoint.model, path=stem, written_for=checkpoint.metadata["model"])
        if checkpoint.optimiser is not None:
            try:
                self.optimiser.load_state_dict(checkpoint.optimiser)
            except ValueError as error:  # weights of an older network can be taken over, what the optimiser knew of them cannot
                raise RunError(
                    f"checkpoint {stem} was written by an older version, whose network had other parameters: its training cannot "
                    "go on here. Use that version to finish it, or train anew under another experiment"
                ) from error
        if self.averaged is not None and checkpoint.average is not None:
            self.averaged.load_state_dict(checkpoint.average)
        self.state = TrainingState(**checkpoint.metadata["state"])

    def budget(self) -> dict[str, Any]:
        """What the training has cost so far."""
        state, accelerator = self.state, self.accelerator
        cuda = accelerator.device.type == "cuda"
        return {
            "steps": state.step,
            "samples": state.samples,
            "seconds": round(state.seconds, 3),
            "flops": state.flops,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "threads": torch.get_num_threads(),
            "processes": accelerator.num_processes,
            "device": torch.cuda.get_device_name(accelerator.device) if cuda else accelerator.device.type,
            "precision": accelerator.mixed_precision,
        }


def describe(model: Any) -> Mapping[str, Any]:
    """What a checkpoint says about the model it was written for: `model.architecture()` where it has that."""
    architecture = getattr(model, "architecture", None)
    return architecture() if callable(architecture) else {"method": getattr(model, "name", "") or type(model).__name__}

"""What `size` sets for each method: `paper` is the published recipe, `demo` a short one on small images. No torch."""

from __future__ import annotations

from typing import Any

from workbench.contracts import MARKER_TASK
from workbench.models.catalogue import FACTS, card

_SHARED: dict[str, Any] = {
    "marker_loss": "cross_entropy", "class_weights": "inverse_frequency", "label_smoothing": 0.0, "batch_size": 2,
    "optimiser": "adamw", "dropout_mode": "each", "accumulate": 1, "warmup": 0.05, "clip": 1.0, "patience": 0,
    "weight_decay": 1e-5, "augmentation": "light", "mirror": "none", "window_batch": 1,
}  # fmt: skip
_DEMO: dict[str, Any] = {
    "spacing": 3.0, "patch": 64, "sampling": "whole", "epochs": 4, "steps_per_epoch": 10, "learning_rate": 1e-3,
    "modality_dropout": 0.1, "validate_every": 4, "ema": 0.95, "subsets": "few",
}  # fmt: skip
_PAPER: dict[str, Any] = {
    "spacing": 1.0, "patch": 128, "sampling": "patch", "epochs": 300, "steps_per_epoch": 250, "learning_rate": 1e-4,
    "modality_dropout": 0.0, "validate_every": 5, "ema": 0.0, "subsets": "all",
}  # fmt: skip


def size_defaults(method: str, size: str) -> dict[str, Any]:
    """What `size` sets of the parameters that all methods share: what the method's facts say, else what most methods have."""
    markers = "idh,codel,grade" if MARKER_TASK in card(method).tasks else "none"
    facts = FACTS[method]
    general, own = (_DEMO, facts.demo) if size == "demo" else (_PAPER, facts.paper)
    return _SHARED | {"markers": markers} | general | {k: v for k, v in own.items() if k not in facts.options.model_fields}

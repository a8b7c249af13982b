"""What `size` sets for each method: `paper` is the published recipe, `demo` a short one on small images. No torch."""

from __future__ import annotations

from typing import Any

from workbench.models.catalogue import card

UNSET = -1
"""Stands for a number that is not set."""


def size_defaults(method: str, size: str) -> dict[str, Any]:
    """What `size` sets: paper values are those of the method's fact sheet (nnU-Net's recipe for `unet`)."""
    tasks = card(method).tasks
    markers = "idh,codel,grade" if "markers" in tasks else "none"
    if size == "demo":
        shared = {
            "spacing": 3.0, "patch": 64, "sampling": "whole", "batch_size": 2, "modality_dropout": 0.1,
            "validate_every": 4, "patience": 0, "weight_decay": 1e-5, "markers": markers, "ema": 0.95, "subsets": "few",
        } | _PLAIN  # fmt: skip
        return shared | _DEMO.get(method, {"epochs": 4, "steps_per_epoch": 10, "learning_rate": 1e-3})
    shared = {
        "spacing": 1.0, "batch_size": 2, "modality_dropout": 0.0, "validate_every": 5, "patience": 0,
        "weight_decay": 1e-5, "markers": markers, "steps_per_epoch": 250, "ema": 0.0, "subsets": "all",
    } | _PLAIN  # fmt: skip
    return shared | _PAPER.get(method, {"patch": 128, "sampling": "patch", "epochs": 300, "learning_rate": 1e-4})


_PLAIN = {
    "marker_loss": "cross_entropy", "class_weights": "inverse_frequency", "label_smoothing": 0.0,
    "optimiser": "adamw", "dropout_mode": "each", "accumulate": 1, "warmup": 0.05, "clip": 1.0,
}  # fmt: skip
_DEMO: dict[str, dict[str, Any]] = {
    "unet": {"epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
    "mts_unet": {"epochs": 4, "steps_per_epoch": 8, "learning_rate": 2e-3},
    "mgmt_net": {"epochs": 6, "steps_per_epoch": 10, "learning_rate": 3e-3, "markers": "idh,codel,tert"},
    "pretrain_swin": {
        "sampling": "patch", "epochs": 4, "steps_per_epoch": 5, "learning_rate": 1e-3, "weight_decay": 0.1,
        "modality_dropout": 0.0, "validate_every": 2, "ema": 0.0,
    },
    # seven networks a step: batches of one
    "mome": {
        "epochs": 10, "steps_per_epoch": 6, "learning_rate": 1e-2, "batch_size": 1, "validate_every": 5,
        "modality_dropout": 0.0,
    },
    "mome_plus": {
        "epochs": 10, "steps_per_epoch": 6, "learning_rate": 1e-2, "batch_size": 1, "validate_every": 5,
        "modality_dropout": 1.0, "dropout_mode": "subset",
    },
    "pooled_unet": {
        "epochs": 10, "steps_per_epoch": 12, "learning_rate": 1e-2, "batch_size": 1, "validate_every": 5,
        "modality_dropout": 0.0,
    },
    "brainfm": {"epochs": 6, "steps_per_epoch": 10, "learning_rate": 4e-3, "modality_dropout": 1.0, "dropout_mode": "subset"},
    "brainfm_pretrain": {
        "epochs": 10, "steps_per_epoch": 12, "learning_rate": 1e-3, "weight_decay": 0.05, "modality_dropout": 0.0,
        "validate_every": 2, "ema": 0.0, "batch_size": 4,
    },
    "segresnet": {"epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
    "amaes": {"epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3, "modality_dropout": 1.0, "dropout_mode": "subset"},
    "amaes_pretrain": {
        "sampling": "patch", "epochs": 4, "steps_per_epoch": 6, "learning_rate": 3e-3, "modality_dropout": 0.0,
        "validate_every": 2, "ema": 0.0,
    },
    "m4oe": {"epochs": 8, "steps_per_epoch": 8, "learning_rate": 2e-3, "modality_dropout": 1.0, "dropout_mode": "subset"},
    "mmformer": {"epochs": 4, "steps_per_epoch": 6, "learning_rate": 2e-3, "modality_dropout": 1.0, "dropout_mode": "subset"},
    "swin_unetr": {"epochs": 4, "steps_per_epoch": 8, "learning_rate": 2e-3},
    "unetr": {"epochs": 8, "steps_per_epoch": 12, "learning_rate": 2e-3},
    "attention_unet": {"epochs": 12, "steps_per_epoch": 12, "learning_rate": 5e-3},
    "mednext": {"epochs": 4, "steps_per_epoch": 10, "learning_rate": 5e-3},
    "densenet121": {"epochs": 16, "steps_per_epoch": 12, "learning_rate": 1e-3},
    # four encoder passes a case: batches of one
    "masm": {"epochs": 6, "steps_per_epoch": 8, "learning_rate": 5e-3, "batch_size": 1},
}  # fmt: skip
_NNUNET: dict[str, Any] = {
    "patch": 128, "sampling": "patch", "optimiser": "sgd", "learning_rate": 1e-2, "weight_decay": 3e-5, "batch_size": 2,
    "warmup": 0.0, "clip": 12.0,
}  # fmt: skip
_PAPER: dict[str, dict[str, Any]] = {
    # nnU-Net: 1000 epochs of 250 steps, batch 2, patch 128^3, initial learning rate 1e-2 (SGD) - AdamW here, hence lower
    "unet": {"patch": 128, "sampling": "patch", "epochs": 1000, "learning_rate": 1e-3, "weight_decay": 3e-5},
    # Zhang: SGD; nnU-Net's 1000 epochs at 1e-2 times five experts (their length is not published), shared out by their images,
    # then 800 at 1e-3
    "mome": _NNUNET | {"epochs": 5800},
    # a sample trains the experts of all its sequences: 1000 epochs, then 800; uniform over subsets
    "mome_plus": _NNUNET | {"epochs": 1800, "modality_dropout": 1.0, "dropout_mode": "subset"},
    "pooled_unet": _NNUNET | {"epochs": 1000},
    # fine-tuning is not published: the pretraining's AdamW, and every subset of sequences equally often
    "brainfm": {
        "patch": 128, "sampling": "patch", "epochs": 300, "learning_rate": 1e-4, "weight_decay": 0.05, "modality_dropout": 1.0,
        "dropout_mode": "subset",
    },
    # AdamW 1e-4, weight decay 0.05, 40 epochs of one pass, 10 of them warm-up, batches of 4, accumulation 8
    "brainfm_pretrain": {
        "patch": 128, "sampling": "patch", "batch_size": 4, "epochs": 40, "steps_per_epoch": UNSET, "learning_rate": 1e-4,
        "weight_decay": 0.05, "validate_every": 1, "accumulate": 8, "warmup": 0.25,
    },
    # Myronenko: Adam 1e-4, weight decay 1e-5, 300 epochs, batch 1
    "segresnet": {"patch": 128, "sampling": "patch", "epochs": 300, "learning_rate": 1e-4, "batch_size": 1},
    "swin_unetr": {"patch": 128, "sampling": "patch", "epochs": 300, "learning_rate": 1e-4, "batch_size": 1},
    # Hatamizadeh: AdamW 1e-4, 20,000 steps of 6 patches
    "unetr": {"patch": 128, "sampling": "patch", "epochs": 80, "learning_rate": 1e-4, "batch_size": 6},
    "attention_unet": {"patch": 128, "sampling": "patch", "epochs": 300, "learning_rate": 1e-4},
    # Roy: nnU-Net's 1000 epochs of 250 steps of 2 patches, AdamW 1e-3
    "mednext": {"patch": 128, "sampling": "patch", "epochs": 1000, "learning_rate": 1e-3, "weight_decay": 3e-5},
    # no recipe for markers is published for it: as `mts_unet`, on whole brains
    "densenet121": {
        "patch": 192, "sampling": "whole", "epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
        "validate_every": 1,
    },
    # Munk: 500 epochs of 100 steps of 8 patches; all subsets of the sequences equally often is the workbench's
    "amaes": {
        "patch": 128, "sampling": "patch", "epochs": 500, "steps_per_epoch": 100, "learning_rate": 1e-4, "batch_size": 8,
        "weight_decay": 3e-5, "modality_dropout": 1.0, "dropout_mode": "subset",
    },
    # 100 epochs of one pass; its 5 epochs of warm-up: warmup 0.05
    "amaes_pretrain": {
        "patch": 128, "sampling": "patch", "epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "batch_size": 8,
    },
    # early stopping, epochs and weight decay are M4oE's; its 36 slices a batch with SGD 0.05 have no counterpart in 3-D
    "m4oe": {
        "patch": 128, "sampling": "patch", "epochs": 150, "learning_rate": 1e-4, "weight_decay": 1e-4, "validate_every": 2,
        "patience": 7, "modality_dropout": 1.0, "dropout_mode": "subset",
    },
    # Zhang: 1000 epochs of one pass, batch 8, 2e-4, weight decay 1e-4, all non-empty subsets equally often
    "mmformer": {
        "patch": 128, "sampling": "patch", "epochs": 1000, "steps_per_epoch": UNSET, "learning_rate": 2e-4, "batch_size": 8,
        "weight_decay": 1e-4, "modality_dropout": 1.0, "dropout_mode": "subset",
    },
    # the sheet's silent points: AdamW 1e-4, weight decay 1e-5, 100 epochs, patience 20, tumour-centred 96^3 crop at 1 mm
    "mts_unet": {
        "patch": 96, "sampling": "tumour", "epochs": 100, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
        "validate_every": 1,
    },
    # AdamW 4e-4, weight decay 0.1, 100,000 steps of 2 volumes with 2 crops each, 500 of them warm-up
    "pretrain_swin": {
        "patch": 96, "sampling": "patch", "batch_size": 4, "epochs": 400, "steps_per_epoch": 250, "learning_rate": 4e-4,
        "weight_decay": 0.1, "validate_every": 2, "warmup": 0.005,
    },
    # label smoothing and modality dropout as in the paper; the share dropped and the patience are not given there
    "mgmt_net": {
        "patch": 128, "sampling": "tumour", "epochs": 150, "steps_per_epoch": UNSET, "learning_rate": 1e-4, "patience": 20,
        "validate_every": 1, "modality_dropout": 0.1, "label_smoothing": 0.1, "markers": "idh,codel,tert",
    },
}  # fmt: skip

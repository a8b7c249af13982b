"""What nnU-Net's recipe sets of the parameters that all methods share. No torch."""

from __future__ import annotations

from typing import Any

NNUNET: dict[str, Any] = {
    "optimiser": "sgd", "learning_rate": 1e-2, "weight_decay": 3e-5, "batch_size": 2, "steps_per_epoch": 250, "warmup": 0.0,
    "clip": 12.0, "augmentation": "nnunet", "mirror": "xyz",
}  # fmt: skip
"""nnU-Net v2, 3d_fullres (Isensee et al., Nature Methods 2021): SGD with Nesterov momentum 0.99 and polynomial decay. The length,
1000 epochs, is each method's own: MoME's is several networks' together."""
EPOCHS = 1000
"""Of one nnU-Net."""

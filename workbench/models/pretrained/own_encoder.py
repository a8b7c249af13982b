"""Reading back an encoder that a pretraining of this workbench left: safetensors with a description in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.models.pretrained.file import HEADER, refusal
from workbench.models.pretrained.seen import Seen


@dataclass(frozen=True)
class OwnEncoder:
    """One file: its tensors, what built it, whom it has seen."""

    path: Path
    tensors: dict[str, Tensor]
    description: Mapping[str, Any]
    seen: Seen


def read_own_encoder(path: str | Path, architecture: str, method: str) -> OwnEncoder:
    """Read `checkpoints/encoder.safetensors` of a pretraining run.

    Args:
        path: the file.
        architecture: what `encoder_description` of a fitting method calls itself.
        method: the pretraining method to name in messages.

    Raises:
        InputError: missing, damaged, another program's, of another architecture, incomplete, or holding values not finite.
    """
    path = Path(path)
    remedy = f"pass checkpoints/encoder.safetensors of a {method} run"
    if not path.is_file():
        raise refusal(path, "the file of pretrained weights does not exist", remedy)
    if path.suffix != ".safetensors":
        raise refusal(path, "no safetensors file", remedy)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise refusal(path, f"truncated or damaged, it cannot be read: {error}", "fetch it again") from error
    if not description:
        raise refusal(path, "it holds tensors, but no encoder of this workbench: its header has no description", remedy)
    if description.get("architecture") != architecture:
        raise refusal(path, f"an encoder of architecture '{description.get('architecture')}', expected '{architecture}'", remedy)
    try:
        seen = Seen.model_validate(description["seen"])
    except (KeyError, ValidationError) as error:
        raise refusal(path, f"its description is incomplete: {error}", remedy) from error
    wrong = [name for name, value in tensors.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if wrong:
        raise refusal(path, f"{len(wrong)} tensors hold values that are not finite, such as {wrong[0]}")
    return OwnEncoder(path, tensors, description, seen)

"""Reading a file of pretrained Swin weights: safely, and brought to MONAI's names, whatever it calls them.

A pickle is only ever opened by `torch.load(weights_only=True)`, which builds tensors and plain values and refuses the rest;
NumPy's numbers count as plain values, since nnU-Net's checkpoints log their scores as such.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.errors import InputError, Problem
from workbench.files import atomic_path, write_json
from workbench.models.pretrained.kinds import KINDS, PretrainedKind
from workbench.models.pretrained.seen import Seen

HEADER = "workbench-encoder"
"""Key of the description in the header of an encoder that this workbench wrote."""
STEM = "swinViT.patch_embed.proj.weight"
_HEADS = ("rotation_head.", "contrastive_head.", "conv.")
DECODER = ("encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10.", "decoder", "out.")
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")),
    *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # NumPy 1 and 2
]
_WRAPPERS = ("state_dict", "model", "model_state_dict", "network_weights")
"""Keys under which training programs keep a state dict."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_BLOCK = re.compile(r"swinViT\.layers(\d)\.0\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class PretrainedFile:
    """The weights of one file, under MONAI's names (`swinViT.*`, `encoder1.*`, ...), on the CPU."""

    path: Path
    kind: PretrainedKind
    tensors: dict[str, Tensor]
    """What may be loaded."""
    heads: tuple[str, ...]
    """Names in the file of the pretext tasks' heads, which no other model has."""
    unexpected: tuple[str, ...]
    """Names in the file that belong to nothing known."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The description of an encoder that this workbench wrote."""

    @property
    def total(self) -> int:
        """Tensors in the file."""
        return len(self.tensors) + len(self.heads) + len(self.unexpected)

    @property
    def stem(self) -> Tensor:
        """(feature size, channels, 2, 2, 2)."""
        return self.tensors[STEM]

    @property
    def depths(self) -> tuple[int, ...]:
        """Transformer blocks per stage."""
        last: dict[int, int] = {}
        for name in self.tensors:
            if match := _BLOCK.match(name):
                stage, block = int(match[1]), int(match[2])
                last[stage] = max(last.get(stage, 0), block + 1)
        return tuple(last.get(stage, 0) for stage in range(1, max(last, default=0) + 1))

    @property
    def window(self) -> int:
        """Side of the attention windows: the table of relative positions has (2 w - 1)^3 rows."""
        table = self.tensors.get("swinViT.layers1.0.blocks.0.attn.relative_position_bias_table")
        return 0 if table is None else (round(len(table) ** (1 / 3)) + 1) // 2


def refusal(path: Path, message: str, remedy: str = "") -> InputError:
    """The error of a file that cannot be used."""
    return InputError(Problem(file=str(path), message=message, remedy=remedy))


def read_pretrained(path: str | Path) -> PretrainedFile:
    """Read a file and recognise its kind by its keys.

    Raises:
        InputError: missing, truncated, not weights, holding Python objects, 2-D, of other channels, or of no known layout.
    """
    path = Path(path)
    _is_file(path)
    tensors, wrapper, header = _open(path)
    prefix = "module." if tensors and all(name.startswith("module.") for name in tensors) else ""  # DistributedDataParallel
    named = {name.removeprefix(prefix): value for name, value in tensors.items()}
    kind, renamed = _recognise(path, named, wrapper, header)
    stem = renamed.get(STEM)
    if stem is None:
        raise refusal(path, f"{kind.title} is expected to hold {STEM}, and does not: the file is incomplete")
    if stem.ndim != 5:
        raise refusal(path, f"its patch embedding has shape {tuple(stem.shape)}: weights of a 2-D network, these models are 3-D")
    expected = max(1, len(kind.channels))
    if stem.shape[1] != expected:
        raise refusal(path, f"expected {expected} input channels of {kind.title}, found {stem.shape[1]}")
    wrong = [name for name, value in renamed.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if wrong:
        raise refusal(path, f"{len(wrong)} tensors hold values that are not finite, such as {wrong[0]}")
    loaded = {name: value for name, value in renamed.items() if name.startswith(("swinViT.", *DECODER))}
    heads = tuple(name for name in renamed if name.startswith(_HEADS))
    others = tuple(name for name in renamed if name not in loaded and name not in heads)
    return PretrainedFile(path, kind, loaded, heads, others, header)


def save_encoder(path: str | Path, state: Mapping[str, Tensor], description: Mapping[str, Any], seen: Seen) -> None:
    """Write an encoder as `<path>.safetensors`, its description in the header, and as `<path>.json` to read.

    Args:
        path: without suffix.
        state: name -> tensor.
        description: JSON-able: `architecture` (what can load it), `modalities` in the order of the channels, and sizes.
        seen: what it was trained on.
    """
    stem = Path(path)
    full = {"format": 1, **description, "seen": json.loads(seen.model_dump_json())}
    with atomic_path(stem.with_name(stem.name + ".safetensors")) as temporary:
        packed = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(packed, temporary, {HEADER: json.dumps(full, allow_nan=False)})
    write_json(stem.with_name(stem.name + ".json"), full)


def open_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights, whatever they are wrapped in.

    Raises:
        InputError: missing, truncated, no weights, or holding Python objects.
    """
    _is_file(path)
    return _open(path)[0]


def _is_file(path: Path) -> None:
    if path.is_dir():
        raise refusal(path, "a folder, expected a file of pretrained weights", "pass the file inside it")
    if not path.is_file():
        raise refusal(path, "the file of pretrained weights does not exist")


def _open(path: Path) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """(tensors, the key they were wrapped in, the description in the header)."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                header = (file.metadata() or {}).get(HEADER, "{}")
                return {name: file.get_tensor(name) for name in file.keys()}, "", json.loads(header)  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise refusal(path, f"truncated or damaged, it cannot be read: {error}", "fetch it again") from error
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMBERS):
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)  # it loads, or is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))  # PyTorch's own sentence goes on to recommend weights_only=False: it is not shown
        if named is None:
            raise refusal(path, "no file of tensors that PyTorch can read safely", "pass the file of weights itself") from error
        raise refusal(
            path,
            f"it holds more than tensors and plain values, so opening it could run a program: refused. It names {named[1]}",
            "where you trust its origin, save its state dict alone, best as safetensors",
        ) from error
    except Exception as error:  # damaged bytes raise nearly everything in the unpickler: KeyError, IndexError, OSError, ...
        raise refusal(
            path,
            f"truncated or damaged, or no file of PyTorch, it cannot be read ({_reason(error)})",
            "fetch it again, or pass the file of weights itself",
        ) from error
    wrapper = next((key for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)), "")
    state = content[wrapper] if wrapper else content
    if isinstance(state, dict) and state and all(isinstance(value, dict) for value in state.values()):  # of several networks
        state = {f"{network}.{name}": value for network, part in state.items() for name, value in part.items()}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise refusal(path, "it holds no state dict (name -> tensor)", "pass the file of weights itself")
    return {str(name): value for name, value in state.items()}, wrapper, {}


def _reason(error: Exception) -> str:
    """Type and first line of an error: a bare KeyError says nothing but a byte."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _recognise(
    path: Path, named: dict[str, Tensor], wrapper: str, header: Mapping[str, Any]
) -> tuple[PretrainedKind, dict[str, Tensor]]:
    """The kind, and the tensors under MONAI's names."""
    if header:
        return _own_kind(path, header), named
    if any(name.startswith(("model/", "average/")) for name in named):
        raise refusal(
            path, "this is the checkpoint of a run, not an encoder", "pass checkpoints/encoder.safetensors of a pretrain_swin run"
        )
    channels = named[STEM].shape[1] if STEM in named and named[STEM].ndim > 1 else 0
    if STEM in named and "rotation_head.weight" in named:
        return KINDS["bsf_brats" if channels > 1 else "bsf_ukb"], named
    if STEM in named and "out.conv.conv.weight" in named:
        outputs = len(named["out.conv.conv.weight"])
        if outputs != 3:
            raise refusal(path, f"a whole SwinUNETR is expected to have three outputs (TC, WT, ET), found {outputs}")
        return KINDS["monai_brats21" if wrapper == "state_dict" else "bsf_finetuned"], named
    if "patch_embed.proj.weight" in named and "layers1.0.blocks.0.attn.qkv.weight" in named:
        inside = ("patch_embed.", "layers")
        return KINDS["monai_ct"], {
            f"swinViT.{name.replace('.mlp.fc', '.mlp.linear')}" if name.startswith(inside) else name: value
            for name, value in named.items()
        }
    if "encoder.patch_embed.proj.weight" in named:
        return KINDS["monai_dae"], {_dae_name(name): value for name, value in named.items()}
    known = "; ".join([*(kind.title for kind in KINDS.values()), "an encoder of pretrain_swin"])
    raise refusal(
        path, f"its {len(named)} keys, such as {', '.join(list(named)[:3])}, are those of no known file of Swin weights: {known}"
    )


def _dae_name(name: str) -> str:
    """MONAI's name for a key of the disruptive autoencoder: `encoder.layers1.0.0.blocks` -> `swinViT.layers1.0.blocks`."""
    inner = re.sub(r"^encoder\.(layers\d\.0)\.0\.", r"encoder.\1.", name)
    return f"swinViT.{inner.removeprefix('encoder.')}" if inner.startswith(("encoder.patch_embed", "encoder.layers")) else name


def _own_kind(path: Path, header: Mapping[str, Any]) -> PretrainedKind:
    if header.get("architecture") != "swin":
        raise refusal(path, f"an encoder of architecture '{header.get('architecture')}', expected 'swin'")
    try:
        seen = Seen.model_validate(header["seen"])
        title = f"encoder of {header['method']}"
        return PretrainedKind("workbench", title, "encoder", tuple(header["modalities"]), header["merging"], seen)
    except (KeyError, ValidationError, TypeError) as error:
        raise refusal(path, f"its description is incomplete: {error}") from error

"""Checkpoints without pickle: one safetensors file that replaces its predecessor whole, and a JSON beside it to read.

`<stem>.safetensors` holds every tensor (prefixed `model/`, `optimiser/`, `average/`) and, in its header, everything else as
JSON. The file is written under a temporary name and renamed, so tensors and description can never be of different steps.
`<stem>.json` is a copy of the description for people and for readers without torch; it is written right after, and a process
killed in between leaves it one save behind, which loading never notices since it reads the header.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import RunError, listed
from workbench.files import write_json

FORMAT = 1
_PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin")
_PICKLE_STARTS = (b"\x80", b"PK\x03\x04")  # protocol >= 2, and the zip archives of torch.save


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, on the CPU."""

    model: dict[str, Tensor]
    optimiser: dict[str, Any] | None = None
    """In the form of `Optimizer.state_dict()`."""
    average: dict[str, Tensor] | None = None
    """State of the moving average of the weights (`AveragedModel.state_dict()`)."""
    metadata: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path_stem: str | Path,
    model_state: Mapping[str, Tensor],
    optimiser_state: Mapping[str, Any] | None = None,
    ema_state: Mapping[str, Tensor] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write `<stem>.safetensors` and `<stem>.json`; a process killed at any moment leaves the old checkpoint or the new one.

    Raises:
        RunError: the disk is full or the folder cannot be written.

    Args:
        path_stem: path without suffix.
        model_state: `model.state_dict()`.
        optimiser_state: `optimiser.state_dict()`, or None.
        ema_state: `AveragedModel.state_dict()`, or None.
        metadata: anything JSON-able.
    """
    stem = Path(path_stem)
    tensors = {f"model/{name}": value for name, value in model_state.items()}
    tensors |= {f"average/{name}": value for name, value in (ema_state or {}).items()}
    description: dict[str, Any] = {"format": FORMAT, "metadata": dict(metadata or {}), "average": ema_state is not None}
    if optimiser_state is not None:
        flat, description["optimiser"] = _flatten(optimiser_state)
        tensors |= flat
    names = [stem.name + ".safetensors", stem.name + ".json"]
    with _workspace(stem) as folder:
        save_file(_packed(tensors), folder / names[0], {"workbench": json.dumps(description, allow_nan=False)})
        write_json(folder / names[1], {"format": FORMAT, "tensors": names[0], **description["metadata"]})
        with (folder / names[0]).open("rb+") as handle:
            os.fsync(handle.fileno())
        for name in names:
            (folder / name).replace(stem.with_name(name))


def has_checkpoint(path_stem: str | Path) -> bool:
    """Whether a checkpoint of this stem exists."""
    return _tensors_path(path_stem).is_file()


def load_checkpoint(path_stem: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path_stem: path without suffix, or the `.safetensors` file itself.

    Raises:
        RunError: there is none, it is truncated or damaged, it is a pickle, or another program wrote it.
    """
    path = _tensors_path(path_stem)
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get("workbench")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError) as error:
        raise RunError(f"checkpoint {path} is truncated or damaged and cannot be read: {error}. Delete it and resume") from error
    if header is None:
        raise RunError(f"{path} is a safetensors file, but not a checkpoint of this workbench: its header has no description")
    description = json.loads(header)
    if description["format"] != FORMAT:
        raise RunError(f"checkpoint {path} has format {description['format']}, this version reads format {FORMAT}")
    optimiser = description.get("optimiser")
    return Checkpoint(
        model=_part(tensors, "model/"),
        optimiser=None if optimiser is None else _unflatten(tensors, optimiser),
        average=_part(tensors, "average/") if description["average"] else None,
        metadata=description["metadata"],
    )


def load_weights(path_stem: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint's weights into `model` (the moving average where there is one) and return its metadata.

    Raises:
        RunError: as `load_checkpoint`, or the weights belong to another architecture; the message lists what does not fit.
    """
    checkpoint = load_checkpoint(path_stem)
    state = checkpoint.model
    if checkpoint.average is not None:
        state = _part(checkpoint.average, "module.")
    fit_state(model, state, path=_tensors_path(path_stem), written_for=checkpoint.metadata.get("model"))
    return checkpoint.metadata


def fit_state(model: nn.Module, state: Mapping[str, Tensor], *, path: Path, written_for: Mapping[str, Any] | None = None) -> None:
    """Load `state` into `model`, whose names and shapes must be exactly the same, after `model.upgraded` where there is that.

    Raises:
        RunError: they are not; the message names the first of each kind.
    """
    own = model.state_dict()
    if callable(upgraded := getattr(model, "upgraded", None)):
        state = upgraded(state)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    found = [
        f"{title}: {listed(names, 3)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if found:
        origin = f", written for {json.dumps(dict(written_for))}," if written_for else ""
        name = getattr(model, "name", type(model).__name__)
        raise RunError(
            f"checkpoint {path}{origin} does not fit this {name} - {'; '.join(found)}. "
            "Build the model with the options, modalities and markers it was trained with"
        )
    model.load_state_dict(dict(state))


def _tensors_path(path_stem: str | Path) -> Path:
    path = Path(path_stem)
    if path.suffix in (".safetensors", *_PICKLE_SUFFIXES):
        return path
    return path.with_name(path.name + ".safetensors")


def _refuse_pickle(path: Path) -> None:
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    with path.open("rb") as handle:
        start = handle.read(9)
    # safetensors begins with the header's length in eight bytes, of which the first may be any, then the header, a JSON object
    safe = start[8:] == b"{"
    if path.suffix in _PICKLE_SUFFIXES or (start.startswith(_PICKLE_STARTS) and not safe):
        raise RunError(
            f"{path} is a pickle (torch.save): opening it could run any program, so it is refused. "
            "Where you trust its origin, convert it: safetensors.torch.save_file(torch.load(file, weights_only=True), ...)"
        )


@contextmanager
def _workspace(stem: Path) -> Iterator[Path]:
    """A folder to write in, beside the checkpoint; what a killed process left in it is gone with the next save.

    A run folder has one writer, so the name can be fixed; safetensors leaves temporary files of its own when killed.
    """
    folder = stem.parent / f".{stem.name}.writing"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
    except (OSError, SafetensorError) as error:
        raise RunError(f"checkpoint {stem} cannot be written: {error}; the one before stays") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors of which no two share memory (tied weights are stored twice)."""
    seen: set[int] = set()
    packed = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        packed[name] = value.clone() if address in seen else value
        seen.add(address)
    return packed


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors named `optimiser/<parameter>/<entry>` and a JSON-able rest."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        rest[str(index)] = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{index}/{name}"] = value
            else:
                rest[str(index)][name] = value
    return tensors, {"state": rest, "param_groups": state["param_groups"]}


def _unflatten(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `_flatten`."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in rest["state"].items()}
    for name, value in _part(tensors, "optimiser/").items():
        index, entry = name.split("/", 1)
        state[int(index)][entry] = value
    return {"state": state, "param_groups": rest["param_groups"]}

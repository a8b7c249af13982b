"""How far apart two runs' files of one kind are: weights, scalars, tables, masks, logits, maps. What is volatile is never read:
times, seconds of the budget, hosts.

Each function takes the same file of two runs and returns None where both hold the same bits, else the largest `Difference`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from workbench.errors import RunError
from workbench.evaluation.metrics import Kind, metric
from workbench.files import file_digest, read_json
from workbench.records.run_folder import read_events

Tolerances = Mapping[str, float]
How = Callable[[Path, Path], "list[Difference]"]
"""The same file of two runs -> what differs in it."""

TOLERANCES: dict[str, float] = {
    "losses": 0.02,
    "weights": 0.05,
    "logits": 0.02,
    "marker logits": 0.1,
    "masks": 0.05,
    "overlap": 0.02,
    "distance": 5.0,
    "volume error": 0.25,
    "maps": 0.1,
    "numbers": 0.05,
}
"""How far apart results of one run may be on two devices, thread counts or versions of a library: kind -> largest difference.

Rounding differs in the last bit of a sum, and training amplifies it step by step. Measured with a small U-Net on one and on two
threads of one processor: after 2 steps the weights differ by 2e-7, after 60 steps by 2e-3, and then the losses by 5e-4, logits by
8e-5, masks by 6e-4, Dice by 3e-4, HD95 by 0.5 mm. The limits are three to several hundred times that, and far below what
another seed does. They are no physical constants: a training of many thousand steps can drift further, and is then compared by
its statistics (`workbench compare`), or with tolerances of your own.
"""

UNITS = {
    "losses": "of the scalar's largest value",
    "weights": "of the norm of all weights",
    "logits": "of their root mean square",
    "marker logits": "logit",
    "masks": "of the voxels in either mask",
    "overlap": "absolute",
    "distance": "mm",
    "volume error": "absolute",
    "maps": "of their root mean square",
    "numbers": "of the column's root mean square",
    "": "",
}
"""What a difference of each kind is a share of, or its unit."""

_METRIC_KINDS = {Kind.DISTANCE: "distance", Kind.VOLUME: "volume error"}
_FOLLOWS = {"n_prediction"}
"""Columns that follow from masks, which are judged themselves."""


@dataclass(frozen=True)
class Difference:
    """The largest difference found in a file."""

    kind: str
    """Key of `TOLERANCES`; empty: what admits of no tolerance (other rows, other shapes)."""
    size: float
    where: str
    """Tensor, scalar and step, or row; empty where the file is about one thing."""

    def excess(self, tolerances: Tolerances) -> float:
        """Size as a share of what is tolerated: above 1 is too much."""
        if self.size == 0:
            return 0.0
        limit = tolerances[self.kind] if self.kind else 0.0
        return self.size / limit if limit and math.isfinite(self.size) else math.inf


def compare_files(first: Path, second: Path, how: How, limits: Tolerances) -> Difference | None:
    """The worst difference of two files as `how` finds them; None where they hold the same.

    Raises:
        RunError: one cannot be read.
    """
    if first.stat().st_size == second.stat().st_size and file_digest(first) == file_digest(second):
        return None
    try:
        found = how(first, second)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise RunError(f"{first} and {second} cannot be compared, one of them may be damaged: {error}") from error
    return max(found, key=lambda difference: difference.excess(limits), default=None)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays hold the same bits."""
    return first.shape == second.shape and first.dtype == second.dtype and first.tobytes() == second.tobytes()


def weights(first: Path, second: Path) -> list[Difference]:
    """Tensors of the model and of its moving average; not the optimiser's."""
    from workbench.training.checkpoints import load_checkpoint

    return _tensors(*(_state(load_checkpoint(path)) for path in (first, second)))


def _state(checkpoint: Any) -> dict[str, np.ndarray]:
    averaged = {f"average/{name}": value for name, value in (checkpoint.average or {}).items()}
    return {name: _array(value) for name, value in {**checkpoint.model, **averaged}.items()}


def encoder(first: Path, second: Path) -> list[Difference]:
    """Tensors of an encoder that pretraining left."""
    from safetensors.torch import load_file

    return _tensors(*({name: _array(value) for name, value in load_file(path).items()} for path in (first, second)))


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.float().numpy() if value.is_floating_point() else value.numpy())


def _tensors(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> list[Difference]:
    other = [name for name in {**first, **second} if name not in first or name not in second]
    other += [name for name in first if name in second and first[name].shape != second[name].shape]
    if other:
        return [Difference("", math.inf, f"{other[0]} is in one only, or of another shape")]
    changed = [name for name in first if not same(first[name], second[name])]
    if not changed:
        return []
    counted = [name for name in changed if first[name].dtype.kind != "f"]
    if counted:
        return [Difference("", math.inf, counted[0])]
    apart = {name: _norm(first[name].astype(float) - second[name]) for name in changed}
    whole = _norm(np.array([_norm(value.astype(float)) for value in first.values() if value.dtype.kind == "f"]))
    worst = max(apart, key=lambda name: _never_less(apart[name]))
    return [Difference("weights", _ratio(_norm(np.array(list(apart.values()))), whole), worst)]


def events(first: Path, second: Path) -> list[Difference]:
    """Scalars by name and step; their times are not read."""
    left, right = (read_events(path).set_index(["name", "step"])["value"] for path in (first, second))
    if set(left.index) != set(right.index):
        odd = sorted(set(left.index) ^ set(right.index), key=lambda key: (key[1], key[0]))[0]
        return [Difference("", math.inf, f"{odd[0]} at step {odd[1]} is in one only")]
    right = right.loc[left.index]
    a, b = left.to_numpy(), right.to_numpy()
    if same(a, b):
        return []
    scale = left.abs().groupby(level="name").transform("max").to_numpy()
    sizes = np.array([0.0 if _equal(x, y) else _ratio(abs(x - y), s) for x, y, s in zip(a, b, scale, strict=True)])
    name, step = left.index[int(np.argmax(np.where(np.isnan(sizes), np.inf, sizes)))]
    begins = min(left.index[i][1] for i in range(len(a)) if not _equal(a[i], b[i], bits=True))
    return [Difference("losses", _worst(sizes), f"{name} at step {step}, first at step {begins}")]


def masks(first: Path, second: Path) -> list[Difference]:
    """Label maps, voxel by voxel, and where they lie."""
    left, right = (nib.Nifti1Image.from_filename(path) for path in (first, second))
    if left.shape != right.shape or not np.allclose(left.affine, right.affine, atol=1e-4):
        return [Difference("", math.inf, "another grid")]
    a, b = (np.asarray(image.dataobj) for image in (left, right))
    wrong = int((a != b).sum())
    if not wrong:
        return []
    place = ", ".join(str(int(i)) for i in np.argwhere(a != b)[0])
    return [Difference("masks", wrong / int(((a > 0) | (b > 0)).sum()), f"{wrong} voxel{'s' * (wrong > 1)}, first ({place})")]


def logits(first: Path, second: Path) -> list[Difference]:
    """Voxel logits of a validation case."""
    from workbench.inference.export import load_logits

    return _arrays("logits", load_logits(first), load_logits(second))


def maps(first: Path, second: Path) -> list[Difference]:
    """Explanation maps."""
    return _arrays("maps", *(np.asarray(nib.Nifti1Image.from_filename(path).dataobj) for path in (first, second)))


def _arrays(kind: str, a: np.ndarray, b: np.ndarray) -> list[Difference]:
    if a.shape != b.shape:
        return [Difference("", math.inf, f"shape {a.shape} and {b.shape}")]
    if same(a, b):
        return []
    apart = a.astype(float) - b
    return [Difference(kind, _ratio(_norm(apart), _norm(a.astype(float))), f"at most {np.abs(apart).max():.3g}")]


def case_document(first: Path, second: Path) -> list[Difference]:
    """A case's marker logits, and the centre that its crop was taken around."""
    left, right = read_json(first), read_json(second)
    kinds = [name for name, value in left.items() if isinstance(value, dict)]
    found = []
    if left.get("centre") != right.get("centre"):
        found.append(Difference("marker logits", 0.0, "centre of the tumour"))  # follows from the mask, which is judged itself
    if set(left) != set(right) or any(set(left[kind]) != set(right[kind]) for kind in kinds):
        return [Difference("", math.inf, "other markers")]
    for kind in kinds:
        for marker, values in left[kind].items():
            a, b = np.ravel(values).astype(float), np.ravel(right[kind][marker]).astype(float)
            if a.shape != b.shape:
                return [Difference("", math.inf, f"{marker}: other classes")]
            if not same(a, b):
                found.append(Difference("marker logits", _worst(np.abs(a - b)), marker))
    return found


def tables(first: Path, second: Path) -> list[Difference]:
    """Long tables: the same rows in any order, numbers compared by what they are."""
    left, right = (pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path) for path in (first, second))
    if set(left) != set(right):
        return [Difference("", math.inf, f"other columns: {', '.join(sorted(map(str, set(left) ^ set(right))))}")]
    names = [str(name) for name in left]
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(left[name]) and name != "fold"]
    keys = [name for name in names if name not in numbers]
    left, right = (_sorted(table, keys) for table in (left, right))
    if len(left) != len(right) or (keys and not _keys(left, keys).equals(_keys(right, keys))):
        return [Difference("", math.inf, f"other rows: {_odd_row(left, right, keys)}")]
    found = []
    for name in numbers:
        a, b = left[name].to_numpy(float, na_value=np.nan), right[name].to_numpy(float, na_value=np.nan)
        if same(a, b):
            continue
        for index in np.flatnonzero(~((a == b) | (np.isnan(a) & np.isnan(b)))):
            row = left.iloc[index]
            kind, size = _judge(name, row, a[index], b[index], a)
            found.append(Difference(kind, size, ", ".join(str(row[key]) for key in _TOLD if key in keys) or name))
    return found


_TOLD = ("case", "present", "region", "metric", "marker", "class", "disturbance", "sequence", "map", "modality", "feature")
"""Columns that say which row it is."""


def _judge(column: str, row: pd.Series, a: float, b: float, values: np.ndarray) -> tuple[str, float]:
    apart = _never_less(abs(a - b))
    if column in _FOLLOWS:
        return "numbers", 0.0
    if column in ("truth", "n_truth"):
        return "", math.inf
    if column == "logit":
        return "marker logits", apart
    if column in ("probability", "alone", "fused"):
        return "overlap", apart
    if column == "value" and "metric" in row:
        return _METRIC_KINDS.get(metric(str(row["metric"])).kind, "overlap"), apart
    return "numbers", _ratio(apart, float(np.sqrt(np.nanmean(values**2))))


def _sorted(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table.sort_values(keys, kind="stable", ignore_index=True) if keys and len(table) else table.reset_index(drop=True)


def _keys(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table[keys].astype(object).where(table[keys].notna(), None).astype(str)


def _odd_row(left: pd.DataFrame, right: pd.DataFrame, keys: list[str]) -> str:
    told = [key for key in _TOLD if key in keys]
    rows = [set(map(tuple, _keys(table, told).to_numpy())) for table in (left, right)]
    odd = sorted(rows[0] ^ rows[1])
    return ", ".join(odd[0]) if odd else f"{len(left)} and {len(right)}"


def documents(first: Path, second: Path) -> list[Difference]:
    """Numbers that follow from the tables (thresholds, headline): the same or not; how far apart is said of the tables."""
    left, right = (json.dumps(_without_run(read_json(path)), sort_keys=True) for path in (first, second))
    return [] if left == right else [Difference("numbers", 0.0, "follows from the tables")]


def _without_run(document: Any) -> Any:
    return {key: value for key, value in document.items() if key != "run"} if isinstance(document, dict) else document


def _equal(a: float, b: float, *, bits: bool = False) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and (not bits or math.copysign(1, a) == math.copysign(1, b))


def _norm(values: np.ndarray) -> float:
    return float(np.sqrt(np.sum(values.astype(float) ** 2)))


def _ratio(part: float, whole: float) -> float:
    return _never_less(part / whole) if whole else (0.0 if part == 0 else math.inf)


def _never_less(value: float) -> float:
    """Not-a-number on one side only is no small difference."""
    return math.inf if math.isnan(value) else value


def _worst(sizes: np.ndarray) -> float:
    return _never_less(float(np.max(sizes)))

"""Arrays that public implementations made: their weights, inputs and outputs, as shipped here (thinned) and, where somebody has
them, in full. What they are, whose, and how they were made: `tests/parity/README.md`.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

DATA = Path(__file__).with_name("data")
FULL = "WORKBENCH_PARITY"
"""Environment variable: folder of the full arrays, `<name>.npz`."""
MOST = 1000
"""Numbers of a floating output that are shipped: every k-th of more."""
TOLERANCE, SUMS_TOLERANCE, EXACT = 1e-4, 1e-6, 1e-12


@dataclass
class Reference:
    """One public implementation."""

    name: str
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, np.ndarray]
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """Shapes of the outputs before they were thinned."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The weights below a prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self.weights.items() if name.startswith(prefix)}

    def needs(self, prefix: str) -> None:
        """Skip where the weights of this part are not shipped."""
        if not self.part(prefix):
            pytest.skip(f"the weights {self.name}/{prefix}* are in the full arrays only: set {FULL} to their folder")

    def check(self, name: str, ours: Tensor | np.ndarray | float, *, exact: bool = False) -> None:
        """Hold one output against the reference, at the tolerance of its kind.

        Floating arrays: max |difference| <= 1e-4 x max(1, largest |reference|); sums over volumes 1e-6 x largest; weights of
        losses and schedules (`exact`) 1e-12; integers and masks must be the same.
        """
        expected = self.outputs[name]
        found = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
        assert list(found.shape) == self.sizes[name], f"{name}: shape {found.shape}, expected {self.sizes[name]}"
        found = thinned(found) if found.size != expected.size else found.reshape(expected.shape)
        if expected.dtype.kind in "bui":
            np.testing.assert_array_equal(found, expected, err_msg=name)
            return
        largest = max(1.0, float(np.abs(expected).max()))
        limit = EXACT if exact else (SUMS_TOLERANCE if "_sums" in name else TOLERANCE) * largest
        difference = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
        assert difference <= limit, f"{name}: largest difference {difference:.3g} of {largest:.3g}, allowed {limit:.3g}"


def thinned(array: np.ndarray) -> np.ndarray:
    """Flat: every k-th number, the least k that leaves no more than `MOST`."""
    return array.reshape(-1)[:: -(-array.size // MOST)]


def _thin(array: np.ndarray) -> bool:
    return array.size > MOST and array.dtype.kind == "f"  # masks and indices are needed whole


def third(volume: Tensor) -> Tensor:
    """How the full arrays are thinned: of the last three axes, those longer than 8 at every third voxel."""
    index = [slice(None, None, 3) if side > 8 else slice(None) for side in volume.shape[-3:]]
    return volume[(..., *index)]


def sums(volume: Tensor) -> Tensor:
    """(B, C, ...) -> (B, C, 2) float64: sum and sum of squares over each volume."""
    flat = volume.detach().double().flatten(2)
    return torch.stack([flat.sum(2), flat.square().sum(2)], dim=2)


def read_full(path: Path) -> Reference:
    """A full file: `weights/<name>`, `input/<name>`, `output/<name>`."""
    groups: dict[str, dict[str, Any]] = {"weights": {}, "input": {}, "output": {}}
    with np.load(path, allow_pickle=False) as file:
        for key in file.files:
            kind, _, name = key.partition("/")
            groups[kind][name] = file[key]
    tensors = [
        {name: torch.from_numpy(np.asarray(value)) for name, value in groups[kind].items()} for kind in ("weights", "input")
    ]
    sizes = {name: list(value.shape) for name, value in groups["output"].items()}
    return Reference(path.stem, tensors[0], tensors[1], groups["output"], sizes)


def write_shipped(reference: Reference, path: Path, left_out: tuple[str, ...] = ()) -> None:
    """The thinned form: weights as the two bytes that they have (they are rounded to eight significant bits, bfloat16), the
    first bytes apart from the second since they compress; outputs as `thinned`.

    Args:
        reference: a full one.
        path: the file to write.
        left_out: prefixes of weights that are not shipped.
    """
    kept = {name: value for name, value in reference.weights.items() if not name.startswith(left_out or ("\0",))}
    flat = (
        torch.cat([value.float().reshape(-1) for value in kept.values()]).numpy().view(np.uint32) if kept else np.zeros(0, "u4")
    )
    assert not (flat & 0xFFFF).any(), "weights of more than eight significant bits"
    words = (flat >> 16).astype(np.uint16)
    words = (words << 1) | (words >> 15)  # the sign last: the first byte is then the exponent
    index = {
        "weights": {name: list(value.shape) for name, value in kept.items()},
        "outputs": reference.sizes,
    }
    arrays: dict[str, np.ndarray] = {
        "index": np.frombuffer(json.dumps(index).encode(), np.uint8),
        "first": (words >> 8).astype(np.uint8),
        "second": (words & 255).astype(np.uint8),
    }
    arrays |= {f"input/{name}": value.numpy() for name, value in reference.inputs.items()}
    arrays |= {f"output/{name}": thinned(value) if _thin(value) else value for name, value in reference.outputs.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        for name, value in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(value, order="C"), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_LZMA)  # no date: the same bytes again


def read_shipped(path: Path) -> Reference:
    """The inverse of `write_shipped`."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    index = json.loads(arrays["index"].tobytes())
    words = (arrays["first"].astype(np.uint16) << 8) | arrays["second"]
    words = (words >> 1) | (words << 15)
    flat = torch.from_numpy((words.astype(np.uint32) << 16).view(np.float32))
    counts = [int(np.prod(shape)) for shape in index["weights"].values()]
    parts = zip(index["weights"].items(), flat.split(counts) if counts else (), strict=True)
    weights = {name: values.reshape(shape).clone() for (name, shape), values in parts}
    inputs = {
        key.partition("/")[2]: torch.from_numpy(np.asarray(value)) for key, value in arrays.items() if key.startswith("input/")
    }
    outputs = {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith("output/")}
    return Reference(path.stem, weights, inputs, outputs, index["outputs"])


def open_reference(name: str, source: str) -> Reference:
    """The arrays of a public implementation, 'shipped' or 'full'; where there are no full ones the test is skipped."""
    if source == "shipped":
        return read_shipped(DATA / f"{name}.npz")
    folder = os.environ.get(FULL)
    if not folder:
        pytest.skip(f"the full arrays: set {FULL} to their folder")
    return read_full(Path(folder) / f"{name}.npz")

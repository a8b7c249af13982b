"""The arrays themselves: what is shipped is the full arrays, thinned; it stays small; it is read back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from public_arrays import DATA, MOST, Reference, open_reference, read_shipped, third, write_shipped

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "mome_plus": ("network",),  # the same networks as MoME's
    "nnunet": ("plain.",),  # as above
}
"""Weights that are not shipped: tests that need them run on the full arrays only."""
SHIPPED = sorted(path.stem for path in DATA.glob("*.npz"))


def test_what_is_shipped_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.glob("*.npz")) < 5_000_000
    assert SHIPPED == ["amaes", "brainfm", "m4oe", "mmformer", "mome", "mome_plus", "mts_cmd", "nnunet", "swin_merging", "vicreg"]


def test_weights_and_outputs_come_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"a.bias": torch.tensor([-1.5]), "a.weight": torch.randn(3, 5, generator=generator).bfloat16().float()}
    outputs = {"many": np.arange(4.0 * MOST).reshape(4, MOST), "few": np.array([1.25, -2.0])}
    given = Reference("made", weights, {"images": torch.ones(2, 3), "mask": torch.tensor([True])}, outputs)
    given.sizes = {name: list(value.shape) for name, value in outputs.items()}
    write_shipped(given, tmp_path / "made.npz", ("none",))
    found = read_shipped(tmp_path / "made.npz")
    assert list(found.weights) == list(weights)
    assert all(torch.equal(found.weights[name], value) for name, value in weights.items())
    assert found.inputs["mask"].tolist() == [True]
    found.check("many", outputs["many"])
    found.check("few", outputs["few"])
    with pytest.raises(AssertionError, match="shape"):
        found.check("many", outputs["many"][:3])
    with pytest.raises(AssertionError, match="largest difference"):
        found.check("few", outputs["few"] + 1e-3)
    wrong = outputs["many"].copy()
    wrong[0, 4] += 1
    with pytest.raises(AssertionError):
        found.check("many", wrong)
    assert third(torch.arange(20.0).view(1, 1, 1, 20)).tolist() == [[[[0.0, 3, 6, 9, 12, 15, 18]]]]


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_the_full_arrays_thinned(name: str) -> None:
    full, shipped = open_reference(name, "full"), open_reference(name, "shipped")
    assert full.sizes == shipped.sizes
    kept = [key for key in full.weights if not key.startswith(LEFT_OUT.get(name, ("\0",)))]
    assert (list(shipped.weights), list(shipped.inputs)) == (kept, list(full.inputs))
    assert all(torch.equal(value, full.weights[key]) for key, value in shipped.weights.items())
    assert all(torch.equal(value, full.inputs[key]) for key, value in shipped.inputs.items())
    for key, value in full.outputs.items():
        shipped.check(key, value)
        assert shipped.outputs[key].size == value.size or shipped.outputs[key].size <= MOST

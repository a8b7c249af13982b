"""Where a case's markers were read: around what prediction said, or the whole brain."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from workbench.files import write_json
from workbench.steps.marker_window import case_tensors, marker_window


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Any, Any]:
    """A setup of three sequences, and a case that has two of them, in another order; every voxel has its own value."""
    t1 = np.arange(20 * 16 * 12, dtype=np.float32).reshape(20, 16, 12) + 1
    stored = {"t2": -t1, "t1": t1}
    case = SimpleNamespace(
        name="c", shape=(20, 16, 12), modalities=("t2", "flair", "t1"), present=(True, False, True), brain_centre=(10, 8, 6),
        images=lambda modalities: np.stack([stored.get(name, np.zeros_like(t1)) for name in modalities]),
    )  # fmt: skip
    setup = SimpleNamespace(
        modalities=("t1", "t2", "flair"), device="cpu", patch=(8, 8, 8), parameters=SimpleNamespace(sampling="patch"),
        network=SimpleNamespace(divisor=8, minimum=8), run=SimpleNamespace(folder=tmp_path),
    )  # fmt: skip
    (tmp_path / "predictions").mkdir()
    return setup, case


def test_a_case_is_given_in_the_models_order_with_what_it_has(scene: tuple[Any, Any]) -> None:
    images, present = case_tensors(*scene)
    assert images.shape == (1, 3, 20, 16, 12)
    assert present.tolist() == [[True, True, False]]
    assert images[0, :, 0, 0, 0].tolist() == [1, -1, 0]


def test_the_window_lies_around_the_centre_that_prediction_kept(scene: tuple[Any, Any]) -> None:
    setup, case = scene
    write_json(setup.run.folder / "predictions" / "c.json", {"markers": {}, "centre": [12, 6, 4]})
    found = marker_window(setup, case)
    assert (found.start, found.shape) == ((8, 2, 0), (8, 8, 8))
    assert torch.equal(found.images, case_tensors(setup, case)[0][:, :, 8:16, 2:10, 0:8])
    assert found.present.tolist() == [[True, True, False]]


@pytest.mark.parametrize("document", [{"markers": {}}, {"markers": {}, "centre": None}])
def test_without_a_centre_it_is_the_brains(document: dict[str, Any], scene: tuple[Any, Any]) -> None:
    setup, case = scene
    write_json(setup.run.folder / "predictions" / "c.json", document)
    assert marker_window(setup, case).start == (6, 4, 2)


def test_of_whole_brains_it_is_the_whole_and_no_prediction_is_asked(scene: tuple[Any, Any]) -> None:
    setup, case = scene
    setup.parameters.sampling = "whole"
    found = marker_window(setup, case)
    assert found.shape == (24, 16, 16), "up to the next multiple of 8"
    assert found.start == (-2, 0, -2)
    assert (found.images != 0).sum() == 2 * 20 * 16 * 12, "nothing is cut off"

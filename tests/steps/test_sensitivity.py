"""Disturbances of gate and registration: what they do to arrays, and what the table says of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from scipy.special import expit

from workbench.contracts import Prediction
from workbench.sampling.corruption import registration_errors
from workbench.steps.marker_window import MarkerWindow
from workbench.steps.sensitivity import (
    DISTURBANCES,
    UNDISTURBED,
    Disturbance,
    disturbed_logits,
    eroded,
    sensitivity_table,
    shifted,
)


def test_erosion_is_scipys_and_takes_at_least_a_voxel() -> None:
    gate = torch.rand(1, 1, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    expected = ndimage.grey_erosion(gate[0, 0].numpy(), size=(5, 5, 5), mode="constant", cval=np.inf)
    np.testing.assert_allclose(eroded(gate, 2.2)[0, 0].numpy(), expected)
    assert torch.equal(eroded(gate, 0.2), eroded(gate, 1.0))


def test_shift_moves_by_whole_voxels_and_never_by_none() -> None:
    gate = torch.zeros(1, 1, 6, 6, 6)
    gate[0, 0, 2, 3, 4] = 1
    assert [tuple(v) for v in np.argwhere(shifted(gate, np.array([1.2, -2.0, 0.4]))[0, 0].numpy())] == [(3, 1, 4)]
    assert [tuple(v) for v in np.argwhere(shifted(gate, np.array([0.1, -0.3, 0.2]))[0, 0].numpy())] == [(2, 2, 4)]
    assert not shifted(gate, np.array([9.0, 0, 0])).any(), "what leaves on one side does not come in on the other"


def rows(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    truth = np.repeat([0.0, 1.0], n // 2)
    z = truth * 4 - 2 + rng.normal(0, 0.5, n)
    parts = []
    for name, logit, kept in ((UNDISTURBED, z, n), ("FLAIR shifted 3 mm", np.where(truth == 1, -z, z), n - 5)):
        parts.append(
            pd.DataFrame(
                {
                    "case": [f"c{i}" for i in range(n)], "subject": [f"s{i}" for i in range(n)], "split": "test",
                    "present": "t1", "marker": "idh", "class": "mutant", "truth": truth, "logit": logit,
                    "probability": expit(logit), "disturbance": name,
                }
            ).iloc[:kept]
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_table_compares_with_the_same_cases_left_alone() -> None:
    table = sensitivity_table(rows()).set_index("disturbance")
    alone, moved = table.loc[UNDISTURBED], table.loc["FLAIR shifted 3 mm"]
    assert alone["change"] == 0
    assert alone["flipped"] == 0
    assert alone["auc"] == alone["undisturbed"] == 1
    assert moved["n"] == 35
    assert moved["undisturbed"] == 1
    assert moved["auc"] < 0.6
    assert moved["flipped"] == pytest.approx(15 / 35)


def test_cases_that_lack_a_sequence_are_judged_with_the_others() -> None:
    mixed = rows()
    mixed.loc[mixed["case"] == "c3", "present"] = "t1+t2"
    pd.testing.assert_frame_equal(sensitivity_table(mixed), sensitivity_table(rows()))


def test_names_are_unique_and_the_first_one_changes_nothing() -> None:
    assert len({d.name for d in DISTURBANCES}) == len(DISTURBANCES)
    assert DISTURBANCES[0].name == UNDISTURBED
    assert DISTURBANCES[0].shift == 0
    assert DISTURBANCES[0].gate == ""


class Probe:
    """A gated model that keeps what it was shown, and answers with the mean of its gate."""

    gated = True
    gate_change = None

    def __call__(self, images: torch.Tensor, present: torch.Tensor, modalities: tuple[str, ...], **how: Any) -> Prediction:
        self.images = images
        self.gate = torch.full((1, 1, *images.shape[2:]), 0.25)
        if self.gate_change is not None:
            self.gate = self.gate_change(self.gate)
        return Prediction(markers={"idh": self.gate.mean().reshape(1, 1)})


@pytest.fixture
def scene() -> tuple[Any, Any, MarkerWindow]:
    """An experiment, a case of 20 x 16 x 16 voxels with a cubic tumour, and a window that begins before it; 2 mm voxels."""
    labels = np.zeros((20, 16, 16), np.uint8)
    labels[4:10, 5:9, 5:9] = 2
    images = torch.zeros(1, 3, 16, 16, 16)
    images[:, :, 6:10, 6:10, 6:10] = 1
    experiment = SimpleNamespace(modalities=("t1", "t2", "flair"), device="cpu", parameters=SimpleNamespace(spacing=2.0, seed=0))
    case = SimpleNamespace(name="c", labels=lambda: labels)
    return experiment, case, MarkerWindow(images, torch.ones(1, 3, dtype=torch.bool), (-2, 0, 0), (16, 16, 16))


def test_a_shift_moves_flair_by_its_millimetres_and_nothing_else(scene: tuple[Any, Any, MarkerWindow]) -> None:
    experiment, case, window = scene
    model, original = Probe(), window.images.clone()
    found = disturbed_logits(model, experiment, case, window, Disturbance("x", shift=3.0))
    assert set(found) == {"idh"}
    assert torch.equal(model.images[:, :2], original[:, :2])
    assert torch.equal(window.images, original), "the case itself stays as it is"
    before, after = (np.array(ndimage.center_of_mass(volume[0, 2].numpy())) for volume in (original, model.images))
    assert np.linalg.norm(after - before) * 2.0 == pytest.approx(3.0, abs=0.05)
    assert model.gate_change is None


def test_sequences_lie_aside_as_in_training(scene: tuple[Any, Any, MarkerWindow]) -> None:
    experiment, case, window = scene
    model = Probe()
    disturbed_logits(model, experiment, case, window, Disturbance("x", aside=3.0))
    assert torch.equal(model.images[:, 0], window.images[:, 0]), "the first that a case shows stays"
    errors = registration_errors(0, "c", ("t1", "t2", "flair"), 3.0)
    for channel, name in ((1, "t2"), (2, "flair")):
        centres = [np.array(ndimage.center_of_mass(volume[0, channel].numpy())) for volume in (window.images, model.images)]
        np.testing.assert_allclose((centres[1] - centres[0]) * 2.0, errors[name], atol=0.05)
    alone = MarkerWindow(window.images, torch.tensor([[False, False, True]]), window.start, window.shape)
    assert disturbed_logits(Probe(), experiment, case, alone, Disturbance("x", aside=1.0)) == {}


def test_gates_are_what_their_names_say(scene: tuple[Any, Any, MarkerWindow]) -> None:
    experiment, case, window = scene
    model = Probe()

    def gate(kind: str, amount: float = 0.0) -> np.ndarray:
        disturbed_logits(model, experiment, case, window, Disturbance("x", gate=kind, amount=amount))
        assert model.gate_change is None, "the model is left as it was"
        return np.asarray(model.gate[0, 0])

    assert (gate("none") == 1).all()
    truth = gate("truth")
    assert truth.sum() == 6 * 4 * 4
    assert truth[6:12, 5:9, 5:9].all(), "the mask in the window's own voxels: two further along X"
    assert gate("eroded", 3.0)[8, 8, 8] == 0.25
    assert (gate("shifted", 6.0) == 0).any(), "zeros move in"


def test_what_does_not_apply_is_left_out(scene: tuple[Any, Any, MarkerWindow]) -> None:
    experiment, case, window = scene
    blind = MarkerWindow(window.images, torch.tensor([[True, True, False]]), window.start, window.shape)
    assert disturbed_logits(Probe(), experiment, case, blind, Disturbance("x", shift=1.0)) == {}
    open_model = Probe()
    open_model.gated = False
    assert disturbed_logits(open_model, experiment, case, window, Disturbance("x", gate="none")) == {}
    unmasked = SimpleNamespace(name="c", labels=lambda: None)
    assert disturbed_logits(Probe(), experiment, unmasked, window, Disturbance("x", gate="truth")) == {}

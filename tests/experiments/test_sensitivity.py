"""Disturbances of gate and registration: what they do to arrays, and what the table says of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from scipy.special import expit

from workbench.experiments.sensitivity import DISTURBANCES, UNDISTURBED, eroded, sensitivity_table, shifted


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
    table = sensitivity_table(rows(), resamples=100).set_index("disturbance")
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
    pd.testing.assert_frame_equal(sensitivity_table(mixed, resamples=100), sensitivity_table(rows(), resamples=100))


def test_names_are_unique_and_the_first_one_changes_nothing() -> None:
    assert len({d.name for d in DISTURBANCES}) == len(DISTURBANCES)
    assert DISTURBANCES[0].name == UNDISTURBED
    assert DISTURBANCES[0].shift == 0
    assert DISTURBANCES[0].gate == ""

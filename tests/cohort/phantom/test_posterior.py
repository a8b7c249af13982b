"""The posterior against brute force: among subjects drawn alike, the share of mutants must be what it says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from workbench.cohort.phantom.classes import STATES, log_density
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.posterior import best_possible, posterior, state_log_likelihood
from workbench.cohort.phantom.truth import make_truth
from workbench.errors import ParameterError

OPTIONS = PhantomOptions()
DRAWS = 3000


@cache
def truth(signal: str = "normal") -> pd.DataFrame:
    return make_truth(DRAWS, 11, signal, OPTIONS)


def indicator(table: pd.DataFrame, marker: str) -> np.ndarray:
    return (table["grade"] == int(marker[-1])).to_numpy(float) if marker.startswith("grade") else table[marker].to_numpy(float)


def assert_calibrated(probability: np.ndarray, outcome: np.ndarray, groups: np.ndarray) -> None:
    """In every group the outcomes add up to the probabilities, within 4 standard deviations."""
    for group in np.unique(groups):
        inside = groups == group
        spread = np.sqrt((probability[inside] * (1 - probability[inside])).sum())
        assert abs((outcome - probability)[inside].sum()) < 4 * spread + 0.5, group


@pytest.mark.parametrize("with_age", [False, True])
@pytest.mark.parametrize("marker", ["idh", "codel", "tert", "grade2", "grade3", "grade4"])
def test_calibrated_in_bins(marker: str, with_age: bool) -> None:
    table = truth()
    probability = best_possible(table, marker, with_age=with_age)
    assert_calibrated(probability, indicator(table, marker), np.minimum((probability * 10).astype(int), 9))


@pytest.mark.parametrize("marker", ["idh", "codel", "grade4"])
def test_brute_force_on_a_coarse_grid_of_everything_drawn(marker: str) -> None:
    table = truth()
    probability, outcome = best_possible(table, marker), indicator(table, marker)
    for columns in (
        ["mismatch", "enhancement"],
        ["heterogeneous", "cortical"],
        ["lobe"],
        ["site", "enhancement"],
        ["width", "volume"],
        ["ventricle", "width"],
    ):
        cells = table.assign(
            width=pd.qcut(table["width_mm"], 5, labels=False),
            volume=pd.qcut(table["volume_ml"], 3, labels=False),
            ventricle=pd.qcut(table["ventricle_mm"], 5, labels=False),
        )
        assert_calibrated(probability, outcome, cells.groupby(columns).ngroup().to_numpy())


@pytest.mark.parametrize("marker", ["idh", "codel", "grade4"])
def test_diffusion_and_blood_volume_count_where_they_are_made(marker: str) -> None:
    options = OPTIONS.model_copy(update={"extra": ("adc", "cbv")})
    table = make_truth(DRAWS, 11, "normal", options)
    probability, outcome = best_possible(table, marker), indicator(table, marker)
    assert_calibrated(probability, outcome, np.minimum((probability * 10).astype(int), 9))
    cells = table.assign(adc=pd.qcut(table["solid_adc"], 5, labels=False), cbv=pd.qcut(table["solid_cbv"], 5, labels=False))
    assert_calibrated(probability, outcome, cells.groupby(["adc", "cbv"]).ngroup().to_numpy())
    assert log_loss(outcome, probability) < log_loss(outcome, best_possible(truth(), marker)) - 0.01


def test_what_surgery_removed_of_the_maps_is_summed_out() -> None:
    options = OPTIONS.model_copy(update={"extra": ("adc",)})
    table = make_truth(200, 11, "normal", options).assign(signs_show=False)
    gone = posterior(table, options, "normal", with_age=False)
    assert np.allclose(gone, posterior(table, OPTIONS, "normal", with_age=False))
    assert not np.allclose(gone["idh"], posterior(table.assign(signs_show=True), options, "normal", with_age=False)["idh"])


def test_age_is_used_only_where_asked() -> None:
    table = truth()
    older = table.assign(age=80.0)
    assert np.allclose(posterior(older, OPTIONS, "normal", with_age=False)["idh"], table["posterior_idh"])
    assert posterior(older, OPTIONS, "normal", with_age=True)["idh"].mean() < table["posterior_idh_with_age"].mean() - 0.1
    loss = [log_loss(table["idh"], best_possible(table, "idh", with_age=age)) for age in (False, True)]
    assert loss[1] < loss[0] - 0.01


def test_bayes_by_hand_for_one_case() -> None:
    table = truth().iloc[[5]]
    row = table.iloc[0]
    logs = state_log_likelihood(table, OPTIONS, "normal", with_age=True)[0]
    for column, (klass, grade) in enumerate(STATES):
        own = OPTIONS.classes[klass]
        mismatch, ring, patchy = OPTIONS.sign_rates(klass, grade)
        chance = {True: mismatch}.get(row["mismatch"], ring if row["enhancement"] == "ring" else 1 - mismatch - ring)
        if row["enhancement"] != "ring":
            chance *= patchy / (1 - ring) if row["enhancement"] == "patchy" else 1 - patchy / (1 - ring)
        if not row["mismatch"]:
            rate = own.heterogeneous / (1 - mismatch)
            chance *= rate if row["heterogeneous"] else 1 - rate
        chance *= own.lobes[row["lobe"]]
        if row["lobe"] not in ("insular", "deep"):
            chance *= own.cortical if row["cortical"] else 1 - own.cortical
        for value, (middle, spread), limits in (
            (np.log(row["volume_ml"]), (np.log(own.volume[0]), own.volume[1]), np.log(OPTIONS.volume_range)),
            (np.log(row["width_mm"]), (np.log(own.width[0]), own.width[1]), np.log(OPTIONS.width_range)),
            (row["age"], own.age, OPTIONS.age_range),
        ):
            grid = np.linspace(*limits, 20_001)
            bell = np.exp(-0.5 * ((grid - middle) / spread) ** 2)
            chance *= np.exp(-0.5 * ((value - middle) / spread) ** 2) / np.trapezoid(bell, grid)
        assert logs[column] == pytest.approx(np.log(chance), abs=1e-4)


def test_truncated_density_integrates_to_one() -> None:
    grid = np.linspace(-1.0, 2.5, 40_001)
    assert np.trapezoid(np.exp(log_density(grid, 0.4, 0.7, (-1.0, 2.5))), grid) == pytest.approx(1, abs=1e-6)
    assert np.isneginf(log_density(np.array([2.6]), 0.4, 0.7, (-1.0, 2.5)))[0]


def test_one_carrier_decides_in_the_focused_modes() -> None:
    table = make_truth(1500, 2, "focus", OPTIONS.model_copy(update={"carrier_sensitivity": 0.9, "carrier_false": 0.2}))
    share = 0.47
    expected = {True: share * 0.9 / (share * 0.9 + (1 - share) * 0.2), False: share * 0.1 / (share * 0.1 + (1 - share) * 0.8)}
    assert np.allclose(table["posterior_idh"], table["carrier"].map(expected))
    assert np.allclose(table["posterior_idh"], table["posterior_idh_with_age"])
    assert_calibrated(table["posterior_idh"].to_numpy(), table["idh"].to_numpy(float), table["carrier"].to_numpy(int))


@pytest.mark.parametrize("signal", ["permuted", "site_permuted"])
def test_permuted_modes_leave_prevalence_only(signal: str) -> None:
    table = truth(signal)
    groups = table.groupby("site") if signal == "site_permuted" else table.groupby(lambda _: 0)
    for _, part in groups:
        assert part["posterior_idh"].nunique() == 1
        assert part["posterior_idh"].iloc[0] == pytest.approx(part["idh"].mean())
    auc = roc_auc_score(table["idh"], best_possible(table, "idh"))
    assert auc == 0.5 if signal == "permuted" else 0.52 < auc < 0.7


def test_best_scores_and_their_order() -> None:
    table = make_truth(1200, 3, "normal", OPTIONS)
    image, both = (best_possible(table, "idh", with_age=age) for age in (False, True))
    assert 0.93 < roc_auc_score(table["idh"], image) < roc_auc_score(table["idh"], both) < 1
    assert brier_score_loss(table["idh"], both) < brier_score_loss(table["idh"], image) < 0.12


def test_best_possible_follows_the_cases_asked_for() -> None:
    table = truth().head(30)
    cases = list(table["case"][[4, 2, 9]])
    assert best_possible(table, "idh", cases).tolist() == table["posterior_idh"][[4, 2, 9]].tolist()
    grades = best_possible(table, "grade", cases)
    assert grades.shape == (3, 3)
    assert np.allclose(grades.sum(1), 1)
    with pytest.raises(ParameterError, match="mgmt"):
        best_possible(table, "mgmt")
    with pytest.raises(ParameterError, match="nobody"):
        best_possible(table, "idh", ["nobody"])

"""Curves against scikit-learn; bands and bins by hand and by counting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.interpolate import CubicSpline
from scipy.special import expit
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve as sklearn_calibration
from statsmodels.stats.proportion import proportion_confint

from workbench.evaluation.curves import (
    calibration_bins,
    calibration_curve,
    confusion_at,
    precision_recall_band,
    precision_recall_curve,
    roc_curve,
    roc_curve_band,
)
from workbench.evaluation.markers import Sample, auc_interval, make_sample, marker_metrics


def sample(n: int = 80, seed: int = 0, decimals: int = 12) -> Sample:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return make_sample(truth, np.round(expit(rng.normal(size=n) * 1.5 + 1.6 * truth - 0.8), decimals))


BY_HAND = make_sample([1, 0, 1, 0], [0.9, 0.6, 0.4, 0.2])


def test_curves_by_hand() -> None:
    roc = roc_curve(BY_HAND)
    assert roc["fpr"].tolist() == [0, 0, 0.5, 0.5, 1]
    assert roc["tpr"].tolist() == [0, 0.5, 0.5, 1, 1]
    assert roc["threshold"].tolist() == [np.inf, 0.9, 0.6, 0.4, 0.2]
    recall = precision_recall_curve(BY_HAND)
    assert recall["threshold"].tolist() == [0.9, 0.6, 0.4, 0.2]
    assert recall["recall"].tolist() == [0.5, 0.5, 1, 1]
    assert recall["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    band = precision_recall_band(BY_HAND, points=5)
    assert band["precision"].tolist() == pytest.approx([1, 1, 1, 2 / 3, 2 / 3])  # at recall 0, 0.25, 0.5, 0.75, 1


@pytest.mark.parametrize("decimals", [12, 1])
def test_roc_on_the_grid_is_scikit_learns_and_lies_in_its_band(decimals: int) -> None:
    data = sample(decimals=decimals)
    band = roc_curve_band(data, points=11, resamples=400)
    fpr, tpr, _ = reference.roc_curve(data.truth, data.probability)
    assert band["fpr"].tolist() == pytest.approx(np.linspace(0, 1, 11))
    assert band["tpr"].to_numpy() == pytest.approx(np.interp(band["fpr"], fpr, tpr))
    assert (np.diff(band[["tpr", "low", "high"]], axis=0) >= 0).all()
    assert ((band["low"] <= band["tpr"] + 1e-9) & (band["tpr"] <= band["high"] + 1e-9)).all()
    assert band.iloc[-1].tolist() == [1, 1, 1, 1]
    wide = roc_curve_band(data, points=11, resamples=400, seed=1)
    assert not wide["low"].equals(band["low"])
    pd.testing.assert_frame_equal(band, roc_curve_band(data, points=11, resamples=400))


def test_the_area_under_the_drawn_curve_is_the_auc_in_the_table() -> None:
    data = sample()
    curve = roc_curve(data)
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    table = marker_metrics(data).set_index("metric").loc["auc"]
    legend = auc_interval(data)
    assert area == pytest.approx(table["value"])
    assert (legend.value, legend.low, legend.high) == pytest.approx((table["value"], table["low"], table["high"]))


def test_precision_recall_agrees_with_scikit_learn() -> None:
    data = sample(decimals=1)
    precision, recall, threshold = reference.precision_recall_curve(data.truth, data.probability)
    curve = precision_recall_curve(data)
    assert curve["threshold"].to_numpy() == pytest.approx(threshold[::-1])
    assert curve["precision"].to_numpy() == pytest.approx(precision[:-1][::-1])
    assert curve["recall"].to_numpy() == pytest.approx(recall[:-1][::-1])
    band = precision_recall_band(data, points=21, resamples=300)
    assert ((band["low"] <= band["precision"] + 1e-9) & (band["precision"] <= band["high"] + 1e-9)).all()
    assert band["precision"].iloc[-1] == pytest.approx(precision[recall == 1].max())


def test_few_cases_have_a_curve_without_a_band_and_one_class_has_none() -> None:
    band = roc_curve_band(BY_HAND)
    assert band["tpr"].notna().all()
    assert band[["low", "high"]].isna().all(axis=None)
    assert precision_recall_band(BY_HAND)["low"].isna().all()
    one = make_sample([1, 1, 1], [0.2, 0.3, 0.9])
    for table in (roc_curve(one), roc_curve_band(one), precision_recall_curve(one), precision_recall_band(one)):
        assert table.empty
        assert len(table.columns) >= 3
    nobody = make_sample([], [])
    assert roc_curve_band(nobody).empty
    assert calibration_bins(nobody).empty
    assert confusion_at(nobody, 0.5)["n"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("curve", [roc_curve_band, precision_recall_band])
def test_a_perfect_predictor_has_a_band(curve: Callable[..., pd.DataFrame]) -> None:
    perfect = make_sample([0] * 12 + [1] * 12, np.linspace(0.1, 0.9, 24))
    band = curve(perfect, points=11)
    assert band.iloc[:, 1].to_numpy() == pytest.approx(1)
    inside = band.iloc[5]
    assert inside["high"] == 1
    expected = (
        proportion_confint(12, 12, method="wilson") if curve is roc_curve_band else proportion_confint(6, 6, method="wilson")
    )
    assert inside["low"] == pytest.approx(expected[0])
    if curve is roc_curve_band:
        assert band.iloc[-1].tolist() == [1, 1, 1, 1], "by definition, not by chance"


def test_the_roc_band_rises_and_is_of_no_width_only_where_the_curve_ends() -> None:
    for seed in range(8):
        band = roc_curve_band(sample(60, seed), points=41, resamples=200)
        assert (np.diff(band["low"]) >= -1e-12).all()
        assert (np.diff(band["high"]) >= -1e-12).all()
        assert (band["high"] - band["low"]).iloc[:-1].min() > 0.01


def test_calibration_bins_hold_everybody_once_and_agree_with_scikit_learn() -> None:
    data = sample(100)
    bins = calibration_bins(data)
    assert bins["n"].tolist() == [10] * 10
    assert bins["n_positive"].sum() == data.truth.sum()
    assert (bins["highest"].to_numpy()[:-1] < bins["lowest"].to_numpy()[1:]).all()
    observed, predicted = sklearn_calibration(data.truth, data.probability, n_bins=10, strategy="quantile")
    assert bins["observed"].to_numpy() == pytest.approx(observed)
    assert bins["probability"].to_numpy() == pytest.approx(predicted)
    low, high = proportion_confint(bins.loc[3, "n_positive"], 10, method="wilson")
    assert bins.loc[3, ["low", "high"]].tolist() == pytest.approx([low, high])


def test_equal_probabilities_share_a_bin_and_empty_bins_have_no_row() -> None:
    bins = calibration_bins(make_sample([0, 1, 0, 1, 1, 1], [0.3] * 5 + [0.8]), bins=3)
    assert bins["n"].tolist() == [5, 1]
    assert bins["observed"].tolist() == pytest.approx([0.6, 1.0])
    # Wilson's interval of 3 of 5, by its formula
    z2 = 1.959963984540054**2
    centre = (3 + z2 / 2) / (5 + z2)
    half = np.sqrt(z2) / (5 + z2) * np.sqrt(3 * 2 / 5 + z2 / 4)
    assert bins.loc[0, ["low", "high"]].tolist() == pytest.approx([centre - half, centre + half])


@pytest.mark.parametrize("threshold", [0.0, 0.37, 0.5, 1.0])
def test_confusion_matrix_agrees_with_scikit_learn(threshold: float) -> None:
    data = sample(decimals=2)
    table = confusion_at(data, threshold)
    called = data.probability >= threshold
    expected = reference.confusion_matrix(data.truth, called)
    assert table["n"].tolist() == expected.ravel().tolist()
    assert table["share"].to_numpy() == pytest.approx(reference.confusion_matrix(data.truth, called, normalize="true").ravel())


def test_the_best_possible_curve_is_an_ordinary_one_from_posterior_probabilities() -> None:
    """Nothing that is computed from the same evidence ranks better than the posterior, on average."""
    rng = np.random.default_rng(2)
    evidence = rng.normal(size=3000)
    truth = rng.random(3000) < expit(1.5 * evidence)
    best = make_sample(truth, expit(1.5 * evidence))
    noisy = make_sample(truth, expit(1.5 * (evidence + rng.normal(size=3000))))
    values = {
        name: marker_metrics(s, resamples=20).set_index("metric")["value"] for name, s in (("best", best), ("noisy", noisy))
    }
    assert values["best"]["auc"] > values["noisy"]["auc"] + 0.03
    assert values["best"]["brier"] < values["noisy"]["brier"]
    assert values["best"]["calibration_slope"] == pytest.approx(1, abs=0.15)


def test_the_smooth_calibration_curve_is_the_logistic_regression_on_a_natural_spline() -> None:
    data = sample(150)
    curve = calibration_curve(data, points=41)
    knots = np.quantile(data.logit, [0.1, 0.5, 0.9])
    basis = CubicSpline(knots, np.eye(3), bc_type="natural")  # cubic between the knots, straight beyond them
    grid = np.linspace(data.logit.min(), data.logit.max(), 41)

    def natural(x: np.ndarray) -> np.ndarray:
        inside = np.clip(x, knots[0], knots[-1])
        return basis(inside) + (x - inside)[:, None] * np.where(x[:, None] > 0, basis(knots[-1:], 1), basis(knots[:1], 1))

    fitted = sm.GLM(data.truth.astype(float), natural(data.logit), family=sm.families.Binomial()).fit()
    assert curve["probability"].to_numpy() == pytest.approx(expit(grid))
    assert curve["observed"].to_numpy() == pytest.approx(fitted.predict(natural(grid)), abs=1e-6)
    assert ((curve["low"] < curve["observed"]) & (curve["observed"] < curve["high"])).all()


def test_the_smooth_curve_follows_a_bent_truth_and_its_band_holds_it() -> None:
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        odds = rng.normal(0, 1.5, 300)
        data = make_sample(rng.random(300) < expit(0.5 * odds + 0.4), expit(odds))
        curve = calibration_curve(data, points=21)
        true = expit(0.5 * np.log(curve["probability"] / (1 - curve["probability"])) + 0.4)
        held.append(((curve["low"] <= true) & (true <= curve["high"])).to_numpy())
    assert 0.90 <= np.mean(held) <= 0.99
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 2, 4000)
    bent = calibration_curve(make_sample(rng.random(4000) < expit(np.abs(odds) - 1), expit(odds)))
    middle = bent["observed"][(bent["probability"] > 0.4) & (bent["probability"] < 0.6)].mean()
    assert middle < min(bent["observed"].iloc[0], bent["observed"].iloc[-1]) - 0.3, "a straight line cannot do this"


def test_sessions_of_a_subject_widen_the_band_and_what_cannot_be_fitted_has_no_curve() -> None:
    data = sample(80)
    four = make_sample(*(np.repeat(side, 4) for side in (data.truth, data.probability, data.subjects)))
    alone, whole = calibration_curve(data), calibration_curve(four)
    np.testing.assert_allclose(alone, whole, rtol=1e-5)
    apart = make_sample(np.repeat(data.truth, 4), np.repeat(data.probability, 4))
    assert (calibration_curve(apart)["high"] - calibration_curve(apart)["low"]).mean() < 0.6 * (
        whole["high"] - whole["low"]
    ).mean()
    assert calibration_curve(BY_HAND).empty
    assert calibration_curve(make_sample([0] * 12 + [1] * 12, np.linspace(0.1, 0.9, 24))).empty, "separated"
    assert calibration_curve(make_sample([0, 1] * 12, [0.5] * 24)).empty, "nothing varies"

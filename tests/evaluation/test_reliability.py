"""Intervals of scores and of the calibration line: against the delete-one jackknife, statsmodels, by hand and by counting."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit, logit

from workbench.evaluation import weighted
from workbench.evaluation.reliability import calibration_error, line_bounds, loss_bounds, skill_bounds


def drawn(n: int = 80, seed: int = 0, slope: float = 1.0, prevalence: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    """Truth and logits whose calibration slope is `slope` and whose calibrated AUC is 0.86."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < prevalence
    score = rng.normal(size=n) + 1.5 * truth
    return truth, (logit(prevalence) + 1.5 * score - 1.125) / slope


def names(n: int, per: int = 1) -> np.ndarray:
    return (np.arange(n) // per).astype(str)


def test_the_interval_of_a_mean_loss_is_students_on_the_log_of_the_jackknife() -> None:
    truth, odds = drawn()
    losses = (expit(odds) - truth) ** 2
    low, high = loss_bounds(losses, (expit(odds) - ~truth) ** 2, names(80, 2))
    left_out = np.log([np.delete(losses, [2 * i, 2 * i + 1]).mean() for i in range(40)])
    spread = np.sqrt(39 / 40 * np.sum((left_out - left_out.mean()) ** 2))
    assert np.log([low, high]) == pytest.approx(np.log(losses.mean()) + np.array([-1, 1]) * stats.t.ppf(0.975, 39) * spread)


def test_the_interval_of_the_skill_follows_the_jackknife_of_both_scores() -> None:
    truth, odds = drawn()
    p = expit(odds)

    def relative(keep: np.ndarray) -> float:
        return float(np.mean((p - truth)[keep] ** 2) / np.var(truth[keep]))

    every = np.ones(80, bool)
    left_out = np.log([relative(np.arange(80) != i) for i in range(80)])
    reach = stats.t.ppf(0.975, 79) * np.sqrt(79 * np.var(left_out))
    assert skill_bounds(truth, p, names(80)) == pytest.approx(
        (1 - relative(every) * np.exp(reach), 1 - relative(every) * np.exp(-reach))
    )
    assert weighted.brier_skill(np.ones((1, 80)), truth, p)[0] == pytest.approx(1 - relative(every))


def test_errors_that_were_not_seen_are_allowed_for() -> None:
    truth = np.arange(40) < 20
    sure = loss_bounds(np.zeros(40), np.ones(40), names(40))
    z2 = 1.959963984540054**2
    assert sure == pytest.approx((0, z2 / (40 + z2))), "none of 40, by Wilson"
    p = np.where(truth, 0.9, 0.1)
    low, high = loss_bounds((p - truth) ** 2, (p - ~truth) ** 2, names(40))
    assert (low, high) == pytest.approx((0.01, 0.01 + z2 / (40 + z2) * 0.8))
    assert skill_bounds(truth, p, names(40)) == pytest.approx((1 - 4 * high, 1 - 4 * low))
    assert np.isnan(loss_bounds(np.full(40, 0.25), np.full(40, 0.25), names(40))).all()
    assert loss_bounds(np.zeros(40), np.ones(40), names(40, 4))[1] > 2.5 * sure[1], "ten subjects, not forty"


def test_the_line_has_walds_interval_of_the_larger_variance() -> None:
    truth, odds = drawn()
    model = sm.Logit(truth, sm.add_constant(odds))
    plain, robust = model.fit(disp=0), model.fit(disp=0, cov_type="HC0")
    spread = max(plain.bse[1], robust.bse[1] * np.sqrt(80 / 79))
    slope, shift = line_bounds(truth, odds, names(80))
    assert slope == pytest.approx(plain.params[1] + np.array([-1, 1]) * 1.959964 * spread, rel=1e-5)
    fitted = sm.GLM(truth, np.ones((80, 1)), family=sm.families.Binomial(), offset=odds).fit()
    robust_shift = sm.GLM(truth, np.ones((80, 1)), family=sm.families.Binomial(), offset=odds).fit(cov_type="HC0")
    of_shift = max(fitted.bse[0], robust_shift.bse[0] * np.sqrt(80 / 79))
    assert shift == pytest.approx(fitted.params[0] + np.array([-1, 1]) * 1.959964 * of_shift, rel=1e-5)


def test_copies_of_a_subjects_cases_narrow_neither_line_nor_scores() -> None:
    truth, odds = drawn()
    twice = [np.repeat(side, 2) for side in (truth, odds, names(80))]
    for alone, both in zip(line_bounds(truth, odds, names(80)), line_bounds(*twice), strict=True):
        assert alone == pytest.approx(both, rel=1e-6)
    assert np.diff(line_bounds(*twice[:2], names(160))[0]) < 0.8 * np.diff(line_bounds(*twice)[0])


def test_what_has_no_slope_has_no_interval() -> None:
    truth = np.arange(30) < 15
    slope, shift = line_bounds(truth, np.where(truth, 2.0, -2.0) + np.linspace(0, 0.1, 30), names(30))
    assert np.isnan(slope).all()
    assert np.isfinite(shift).all()


def test_the_ece_of_a_calibrated_model_is_all_chance() -> None:
    """100 cases: ECE about 0.08, what chance alone shows about the same, the excess about 0 and its interval around 0."""
    values, excesses, held = [], [], 0
    for seed in range(60):
        truth, odds = drawn(100, seed)
        found = calibration_error(truth, expit(odds), names(100), resamples=200, seed=seed)
        values.append(found.value)
        excesses.append(found.excess)
        held += found.excess_bounds[0] <= 0 <= found.excess_bounds[1]
    assert np.mean(values) > 0.06
    assert abs(np.mean(excesses)) < 0.01
    assert held >= 54
    truth, odds = drawn(400, 1, slope=0.3)
    over = calibration_error(truth, expit(odds), names(400))
    assert over.excess_bounds[0] > 0.02
    assert over.value > over.calibrated_range[1]


def test_chance_alone_by_hand() -> None:
    """Two bins of one probability each: the ECE of a calibrated model is a mean of two binomial deviations."""
    p = np.repeat([0.2, 0.7], 50)
    found = calibration_error(p > 0.5, p, names(100), resamples=4000)
    expected = [stats.binom.expect(lambda k, q=q: abs(k / 50 - q), args=(50, q)) for q in (0.2, 0.7)]
    assert found.calibrated == pytest.approx(np.mean(expected), rel=0.03)
    whole = calibration_error(p > 0.5, p, np.repeat(["a", "b", "c", "d", "e", "f"], [17, 17, 16, 17, 17, 16]), resamples=4000)
    assert whole.calibrated > 2 * found.calibrated, "a patient's sessions have one truth"


def test_same_seed_same_numbers_however_large_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, odds = drawn()
    first = calibration_error(truth, expit(odds), names(80), resamples=50, seed=3)
    assert first == calibration_error(truth, expit(odds), names(80), resamples=50, seed=3)
    assert first != calibration_error(truth, expit(odds), names(80), resamples=50, seed=4)
    monkeypatch.setattr("workbench.evaluation.intervals.CHUNK", 500)
    again = calibration_error(truth, expit(odds), names(80), resamples=50, seed=3)
    assert (again.calibrated, *again.excess_bounds) == pytest.approx((first.calibrated, *first.excess_bounds))


@pytest.mark.parametrize(("n", "prevalence", "per"), [(50, 0.35, 1), (120, 0.35, 3)])
def test_coverage_of_slope_and_brier(n: int, prevalence: float, per: int) -> None:
    held = np.zeros(2)
    large_truth, large = drawn(200_000, 99, 0.7, prevalence)
    brier = np.mean((expit(large) - large_truth) ** 2)
    for seed in range(200):
        truth, odds = drawn(n // per, seed, 0.7, prevalence)
        truth, odds = np.repeat(truth, per), np.repeat(odds, per)
        (low, high), _ = line_bounds(truth, odds, names(n, per))
        held[0] += low <= 0.7 <= high
        p = expit(odds)
        low, high = loss_bounds((p - truth) ** 2, (p - ~truth) ** 2, names(n, per))
        held[1] += low <= brier <= high
    assert ((held / 200 >= 0.91) & (held / 200 <= 1)).all(), held / 200

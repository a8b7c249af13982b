"""Marker metrics against scikit-learn and statsmodels, on resamples too, and in what they refuse to estimate."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, softmax
from sklearn import metrics as reference

from workbench.contracts import MARKER_TASK
from workbench.errors import InputError, ParameterError
from workbench.evaluation.intervals import resample_weights
from workbench.evaluation.markers import (
    COLUMNS,
    OF_CHANCE,
    auc_interval,
    class_rows,
    make_sample,
    marker_metrics,
    metric_values,
    sample_of,
)
from workbench.evaluation.metrics import metrics_of


def rows(n: int = 100, *, seed: int = 0, slope: float = 0.7, per_subject: int = 1, decimals: int | None = None) -> pd.DataFrame:
    """Rows of markers.parquet whose true calibration slope is `slope`; rounded logits make ties."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n) if decimals is None else np.round(rng.normal(0, 2, n), decimals)
    truth = (rng.random(n) < expit(slope * logit + 0.3)).astype(float)
    return pd.DataFrame(
        {
            "case": [f"case-{index:04d}" for index in range(n)],
            "subject": [f"s-{index // per_subject:04d}" for index in range(n)],
            "site": "north", "fold": 0, "split": "test", "present": "t1+t2", "marker": "idh", "class": "mutant",
            "truth": truth, "logit": logit, "probability": expit(logit),
        }
    )  # fmt: skip


def oracle(truth: np.ndarray, probability: np.ndarray, logit: np.ndarray, threshold: float) -> dict[str, float]:
    called = probability >= threshold
    line = sm.Logit(truth, sm.add_constant(logit)).fit(disp=0)
    large = sm.GLM(truth, np.ones((truth.size, 1)), family=sm.families.Binomial(), offset=logit).fit()
    observed, predicted = reference_bins(truth, probability)
    return {
        "auc": reference.roc_auc_score(truth, probability),
        "average_precision": reference.average_precision_score(truth, probability),
        "accuracy": reference.accuracy_score(truth, called),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, called),
        "precision": reference.precision_score(truth, called),
        "npv": reference.precision_score(truth, called, pos_label=0),
        "recall": reference.recall_score(truth, called),
        "specificity": reference.recall_score(truth, called, pos_label=0),
        "f1": reference.f1_score(truth, called),
        "mcc": reference.matthews_corrcoef(truth, called),
        "calibration_slope": line.params[1],
        "calibration_intercept": large.params[0],
        "brier": reference.brier_score_loss(truth, probability),
        "brier_skill": 1 - np.mean((probability - truth) ** 2) / np.mean((np.mean(truth) - truth) ** 2),
        "log_loss": reference.log_loss(truth, probability),
        "ece": np.mean(np.abs(observed - predicted)),
    }


def reference_bins(truth: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ten groups of equal size in the order of the probabilities (n is a multiple of ten, no ties)."""
    order = np.argsort(probability)
    return truth[order].reshape(10, -1).mean(axis=1), probability[order].reshape(10, -1).mean(axis=1)


@pytest.mark.parametrize(("seed", "threshold"), [(0, 0.5), (1, 0.31), (2, 0.8)])
def test_every_metric_agrees_with_scikit_learn_and_statsmodels(seed: int, threshold: float) -> None:
    frame = rows(100, seed=seed)
    table = marker_metrics(frame, threshold=threshold)
    assert tuple(table.columns) == COLUMNS
    expected = oracle(*(frame[name].to_numpy() for name in ("truth", "probability", "logit")), threshold)
    assert tuple(table["metric"]) == tuple(metrics_of(MARKER_TASK)) == (*expected, *OF_CHANCE)
    found = table.set_index("metric")["value"]
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-7), metric
    assert found["ece_excess"] == pytest.approx(found["ece"] - found["ece_calibrated"])
    inside = table[table["metric"] != "ece"]
    assert table[table["metric"] == "ece"][["low", "high"]].isna().all(axis=None), "an ECE is above 0 by chance alone"
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()
    assert (table["n"] == 100).all()
    assert (table["n_positive"] == frame["truth"].sum()).all()


def test_weights_mean_repetition() -> None:
    """A resample's weights give what scikit-learn gives on the repeated rows, ties included."""
    frame = rows(60, seed=5, decimals=0)
    sample = sample_of(frame)
    weights = resample_weights(sample.subjects, 5, 0)
    values = metric_values(sample, weights, 0.4)
    for line in range(5):
        repeated = frame.loc[np.repeat(np.arange(60), weights[line].astype(int))]
        truth, probability, logit = (repeated[name].to_numpy() for name in ("truth", "probability", "logit"))
        expected = oracle(truth, probability, logit, 0.4)
        for metric in set(expected) - {"ece"}:  # the bins of ECE are those of the whole sample
            assert values[metric][line] == pytest.approx(expected[metric], abs=1e-7), metric


def test_nothing_is_estimated_from_fewer_than_ten_of_a_class() -> None:
    frame = rows(60)
    positives = frame.index[frame["truth"] == 1]
    few = frame.drop(positives[9:])
    table = marker_metrics(few)
    assert not table["estimable"].any()
    assert table[["value", "low", "high"]].isna().all(axis=None)
    assert (table["n"] == len(few)).all()
    assert (table["n_positive"] == 9).all()
    assert not auc_interval(few).estimable
    enough = marker_metrics(frame.drop(positives[10:]))
    assert enough["estimable"].all()
    assert not marker_metrics(frame.iloc[:0])["estimable"].any()


def test_unknown_truth_is_left_out_and_counted() -> None:
    frame = rows(80)
    gaps = frame.assign(truth=frame["truth"].where(frame.index % 4 > 0))
    table = marker_metrics(gaps)
    pd.testing.assert_frame_equal(table, marker_metrics(frame[frame.index % 4 > 0]).assign(n_unknown=20))


def test_same_seed_same_table_and_rows_in_any_order() -> None:
    frame = rows(70, per_subject=2)
    first = marker_metrics(frame, seed=3)
    pd.testing.assert_frame_equal(first, marker_metrics(frame, seed=3))
    pd.testing.assert_frame_equal(first, marker_metrics(frame.sample(frac=1, random_state=1), seed=3), rtol=1e-9)
    other = marker_metrics(frame, seed=4)
    drawn = first["metric"].isin(OF_CHANCE)
    assert (first.loc[drawn, "low"] != other.loc[drawn, "low"]).all(), "what is drawn follows the seed"
    pd.testing.assert_frame_equal(first[~drawn].drop(columns="remark"), other[~drawn].drop(columns="remark"))


def test_copies_of_a_subjects_cases_narrow_no_interval() -> None:
    frame = rows(60)
    copies = pd.concat([frame, frame.assign(case=frame["case"] + "b")])
    once, twice = marker_metrics(frame), marker_metrics(copies)
    columns = ["metric", "value", "low", "high"]
    same = [not metric.startswith("ece") for metric in once["metric"]]
    pd.testing.assert_frame_equal(once.loc[same, columns], twice.loc[same, columns], rtol=1e-6)
    independent = marker_metrics(copies.assign(subject=copies["case"]))
    assert independent.loc[0, "high"] - independent.loc[0, "low"] < 0.85 * (twice.loc[0, "high"] - twice.loc[0, "low"])


def test_separable_classes_have_no_slope_and_raise_no_warning() -> None:
    logit = np.r_[np.linspace(-3, -1, 15), np.linspace(1, 3, 15)]
    table = marker_metrics(make_sample(logit > 0, expit(logit))).set_index("metric")
    assert table.loc["auc", "value"] == 1
    assert table.loc["auc", "low"] < 0.9
    assert table.loc["calibration_slope", "remark"] == "not estimable: the classes do not overlap"
    assert np.isnan(table.loc["calibration_slope", "value"])
    assert not table.loc["calibration_slope", "estimable"]
    assert np.isfinite(table.loc["calibration_intercept", "value"])


def test_precision_is_undefined_where_nothing_is_called_positive() -> None:
    frame = rows(60)
    whole = marker_metrics(frame, threshold=1.0).set_index("metric")
    table = whole["value"]
    assert np.isnan(table["precision"])
    assert whole.loc["precision", "remark"] == "no case is called positive"
    assert (table["f1"], table["mcc"], table["recall"], table["specificity"]) == (0, 0, 0, 1)


def test_softmax_logits_are_not_taken_for_log_odds() -> None:
    frame = rows(60)
    shifted = frame.assign(logit=frame["logit"] + 5)
    pd.testing.assert_frame_equal(marker_metrics(frame), marker_metrics(shifted), rtol=1e-4)
    saturated = frame.assign(logit=frame["logit"] * 20, probability=expit(frame["logit"] * 20).astype(np.float32))
    slope = marker_metrics(saturated).set_index("metric").loc["calibration_slope", "value"]
    assert slope == pytest.approx(marker_metrics(frame).set_index("metric").loc["calibration_slope", "value"] / 20, rel=1e-4)


def test_the_expected_shapes_of_bad_rows() -> None:
    frame = rows(40)
    with pytest.raises(InputError, match=r"case-0003.*idh.*probability is nan"):
        marker_metrics(frame.assign(probability=frame["probability"].mask(frame.index == 3)))
    with pytest.raises(InputError, match="case-0000: the case has several predictions"):
        marker_metrics(pd.concat([frame, frame]))
    with pytest.raises(ParameterError, match="one present at a time, but the rows hold t1\\+t2, t1"):
        marker_metrics(pd.concat([frame, frame.assign(present="t1")]))
    with pytest.raises(ParameterError, match=r"threshold is 1\.5"):
        marker_metrics(frame, threshold=1.5)


@pytest.mark.parametrize("value", [2.0, 0.3, -1.0])
def test_a_truth_that_is_no_class_is_refused(value: float) -> None:
    frame = rows(40)
    with pytest.raises(InputError, match=rf"case case-0003, channel idh: the true class is {value}, expected 0, 1"):
        sample_of(frame.assign(truth=frame["truth"].mask(frame.index == 3, value)))


def test_two_patients_with_ten_sessions_each_are_two() -> None:
    frame = rows(60)
    sessions = frame.assign(subject=np.where(frame["truth"] == 1, np.where(frame.index % 2 == 0, "x", "y"), frame["subject"]))
    table = marker_metrics(sessions)
    assert not table["estimable"].any()
    assert table["remark"].str.startswith("2 positive and ").all()
    assert marker_metrics(frame)["estimable"].all()


def test_probabilities_of_0_and_1_that_are_right_leave_slope_and_intercept_alone() -> None:
    frame = rows(80).drop(columns="logit")
    sure = pd.DataFrame(
        {"case": ["a", "b", "c"], "subject": ["a", "b", "c"], "truth": [1.0, 0.0, 1.0], "probability": [1.0, 0, 1]}
    )
    both = marker_metrics(pd.concat([frame, frame.iloc[:3].assign(**sure)])).set_index("metric")
    alone = marker_metrics(frame).set_index("metric")
    for metric in ("calibration_slope", "calibration_intercept"):
        assert both.loc[metric, ["value", "low", "high"]].tolist() == pytest.approx(
            alone.loc[metric, ["value", "low", "high"]].tolist()
        )
        assert both.loc[metric, "remark"].startswith("3 cases with a probability of exactly 0 or 1")
    assert both.loc["log_loss", "value"] == pytest.approx(alone.loc["log_loss", "value"] * 80 / 83)
    assert both.loc["brier", "value"] == pytest.approx(alone.loc["brier", "value"] * 80 / 83)


def test_one_that_is_wrong_makes_slope_intercept_and_log_loss_impossible() -> None:
    frame = rows(80).drop(columns="logit")
    row = frame.index[frame["truth"] == 0][0]
    table = marker_metrics(frame.assign(probability=frame["probability"].mask(frame.index == row, 1.0))).set_index("metric")
    for metric in ("calibration_slope", "calibration_intercept", "log_loss"):
        assert not table.loc[metric, "estimable"]
        assert table.loc[metric, ["value", "low", "high"]].isna().all()
        assert table.loc[metric, "remark"] == "not estimable: 1 cases have a probability of exactly 0 or 1 and are wrong"
    assert table.loc["brier", "estimable"]
    own = rows(80).assign(logit=lambda t: t["logit"].mask(t.index == row, 40.0), probability=lambda t: expit(t["logit"]))
    assert own.loc[row, "probability"] == 1
    assert marker_metrics(own)["estimable"].all(), "a model's own logit is known, though its probability is rounded to 1"


def extreme(kind: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.permutation(np.arange(n) < rng.integers(0, n + 1))
    noise = rng.normal(size=n)
    score = {
        "perfect": np.where(truth, 0.9, 0.1), "certain": truth.astype(float), "wrong": 1.0 - truth, "constant": np.full(n, 0.5),
        "two values": np.where(noise > 0, 0.3, 0.6), "separated": expit(noise + 20 * truth - 10), "random": expit(noise),
    }  # fmt: skip
    return truth, score[kind]


@pytest.mark.parametrize("kind", ["perfect", "certain", "wrong", "constant", "two values", "separated", "random"])
def test_no_interval_is_of_no_width(kind: str) -> None:
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = int(rng.choice([3, 22, 40, 150]))
        truth, probability = extreme(kind, n, rng)
        sample = make_sample(truth, probability, (np.arange(n) // rng.integers(1, 4)).astype(str).tolist())
        table = marker_metrics(sample, resamples=60)
        area = auc_interval(sample)
        for metric, value, low, high in [
            *table[["metric", "value", "low", "high"]].to_numpy(),
            ("", area.value, area.low, area.high),
        ]:
            if np.isfinite([low, high]).all():
                seen += 1
                assert high - low > 1e-3, (metric, seed)
                assert low - 1e-9 <= value <= high + 1e-9, (metric, seed)
            else:
                assert np.isnan([low, high]).all(), (metric, seed)
    assert seen > 30


def test_a_thousand_resamples_of_every_metric_cost_less_than_200_aucs_of_scikit_learn() -> None:
    frame = rows(100)
    times = [time.process_time()]
    marker_metrics(frame, resamples=1000)
    times.append(time.process_time())
    for _ in range(200):
        reference.roc_auc_score(frame["truth"], frame["probability"])
    times.append(time.process_time())
    assert times[1] - times[0] < times[2] - times[1]


def test_one_logit_is_one_class_against_the_rest() -> None:
    ((name, truth, logit, probability),) = class_rows("idh", 1, np.array([0.4]))
    assert (name, truth, logit) == ("mutant", 1.0, 0.4)
    assert probability == pytest.approx(expit(0.4))
    assert [class_rows("grade", grade, np.array([-1.0]))[0][:2] for grade in (2, 4)] == [("4", 0.0), ("4", 1.0)]
    assert np.isnan(class_rows("mgmt", None, np.array([0.0]))[0][1]), "unknown truth"


def test_three_logits_are_each_grade_against_the_other_two() -> None:
    logits = np.array([0.2, -1.0, 2.5])
    found = class_rows("grade", 3, logits)
    assert [name for name, *_ in found] == ["2", "3", "4"]
    assert [truth for _, truth, *_ in found] == [0.0, 1.0, 0.0]
    expected = softmax(logits)
    assert [probability for *_, probability in found] == pytest.approx(expected)
    assert [logit for *_, logit, _ in found] == pytest.approx(np.log(expected / (1 - expected)))
    assert np.isnan([truth for _, truth, *_ in class_rows("grade", pd.NA, logits)]).all()

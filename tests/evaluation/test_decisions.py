"""Thresholds and calibration maps come from validation rows and undo what an imbalance loss shifts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score, recall_score

from workbench.contracts import MARKER_TASK
from workbench.evaluation.decisions import calibration_table, decision_table, fitted_artefact
from workbench.evaluation.metrics import Place, shown_in
from workbench.evaluation.robustness import markers_by_subset
from workbench.evaluation.run_comparison import compare_markers
from workbench.evaluation.summaries import summarise_markers
from workbench.evaluation.thresholds import youden_threshold


def shifted(n: int = 400, *, shift: float = 1.5, seed: int = 0) -> pd.DataFrame:
    """Rows whose truth follows the logit z, and whose model says z + shift, as after training with weighted classes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.0, 2.0, n)
    truth = (rng.random(n) < expit(z)).astype(float)
    split = np.where(np.arange(n) % 2 == 0, "validation", "test")
    return pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(n)], "subject": [f"s{i}" for i in range(n)], "site": "north", "fold": 0,
            "split": split, "present": "t1", "marker": "idh", "class": "mutant", "truth": truth,
            "logit": z + shift, "probability": expit(z + shift),
        }
    )  # fmt: skip


def value(table: pd.DataFrame, metric: str, **where: str) -> float:
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    (found,) = table.loc[table["metric"] == metric, "value"]
    return float(found)


def test_platt_undoes_the_shift_of_the_intercept() -> None:
    table = calibration_table(shifted(), resamples=100)
    assert set(table["split"]) == {"test"}
    assert value(table, "calibration_intercept", calibration="none") == pytest.approx(-1.5, abs=0.3)
    assert abs(value(table, "calibration_intercept", calibration="platt")) < 0.3
    # a temperature only stretches: the shift stays
    assert value(table, "calibration_intercept", calibration="temperature") < -0.6
    assert value(table, "brier", calibration="platt") < value(table, "brier", calibration="none")
    assert table["trusted"].all()


def test_test_rows_do_not_move_thresholds_or_maps() -> None:
    rows = shifted()
    other = rows.copy()
    at_test = other["split"] == "test"
    other.loc[at_test, "truth"] = 1 - other.loc[at_test, "truth"]
    assert fitted_artefact(rows, "r") == fitted_artefact(other, "r")
    columns = ["rule", "threshold"]
    a, b = (decision_table(t, resamples=100)[columns].drop_duplicates() for t in (rows, other))
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))


def test_decisions_are_those_of_the_validation_threshold() -> None:
    rows = shifted()
    table = decision_table(rows, resamples=100)
    validation, test = (rows[rows["split"] == name] for name in ("validation", "test"))
    cut = youden_threshold(validation["truth"], validation["probability"])
    called = test["probability"] >= cut
    assert value(table, "balanced_accuracy", rule="youden") == pytest.approx(balanced_accuracy_score(test["truth"], called))
    called = test["probability"] >= table.loc[table["rule"] == "sensitivity", "threshold"].iloc[0]
    assert value(table, "recall", rule="sensitivity") == pytest.approx(recall_score(test["truth"], called))
    assert value(table, "recall", rule="sensitivity") > 0.85
    assert set(table["metric"]) == set(shown_in(Place.DECISIONS, MARKER_TASK))


def test_validation_of_one_class_gives_no_threshold_and_no_map() -> None:
    rows = shifted()
    rows.loc[rows["split"] == "validation", "truth"] = 0.0
    table = decision_table(rows, resamples=100)
    assert table.loc[table["rule"] != "0.5", "value"].isna().all()
    assert table.loc[table["rule"] == "0.5", "value"].notna().all()
    fits = calibration_table(rows, resamples=100)
    platt, temperature, none = (fits[fits["calibration"] == name] for name in ("platt", "temperature", "none"))
    for fitted in (platt, temperature):
        assert not fitted["trusted"].any()
        assert fitted["value"].tolist() == pytest.approx(none["value"].tolist()), "the identity where there is nothing to fit"


def test_no_validation_rows_at_all() -> None:
    rows = shifted()
    rows = rows[rows["split"] == "test"]
    table = decision_table(rows, resamples=100)
    assert set(table.loc[table["value"].notna(), "rule"]) == {"0.5"}
    assert set(calibration_table(rows, resamples=100)["calibration"]) == {"none"}


def test_the_artefact_names_its_parent_and_is_json() -> None:
    artefact = fitted_artefact(shifted(), "abc")
    assert artefact["parent"] == "abc"
    (entry,) = artefact["fitted"]
    assert entry["marker"] == "idh"
    assert entry["trusted"] is True
    assert set(entry["thresholds"]) == {"youden", "sensitivity"}
    assert entry["calibration"]["platt"]["intercept"] == pytest.approx(-1.5, abs=0.6)
    json.dumps(artefact, allow_nan=False)
    one = shifted()
    one["truth"] = 0.0
    json.dumps(fitted_artefact(one, "abc"), allow_nan=False)


@pytest.mark.parametrize("kind", ["perfect", "certain", "wrong", "constant", "random"])
def test_no_table_of_markers_has_an_interval_of_no_width(kind: str) -> None:
    """Tables of decisions, calibration, all metrics, subsets, and of two runs, where everything is right, wrong or the same."""
    rows = shifted(120).assign(present="t1+t2")
    truth = rows["truth"].to_numpy() > 0.5
    says = {
        "perfect": np.where(truth, 0.9, 0.1), "certain": truth.astype(float), "wrong": 1.0 - truth,
        "constant": np.full(120, 0.5), "random": expit(np.random.default_rng(1).normal(size=120)),
    }[kind]  # fmt: skip
    rows = rows.assign(probability=says).drop(columns="logit")
    other = shifted(120, seed=0).assign(present="t1+t2")
    cut = {("idh", "mutant"): 0.5}
    tables = [
        decision_table(rows, resamples=50), calibration_table(rows, resamples=50), summarise_markers(rows, resamples=50),
        markers_by_subset(rows), compare_markers(rows, other, thresholds_a=cut, resamples=50),
        compare_markers(rows, rows, resamples=50),
    ]  # fmt: skip
    for table in tables:
        known = table[table["low"].notna() | table["high"].notna()]
        assert (known["high"] - known["low"] > 1e-4).all(), known[known["high"] - known["low"] <= 1e-4].T
    assert all(len(table) for table in tables)

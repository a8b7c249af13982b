"""The table of metrics is sound, and it decides: what is computed must be in it, and what is in it shows where it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from judged_cases import markers, metrics

from app.comparison import ComparisonPanel
from app.state import AppState
from app.store import Store
from workbench.contracts import MARKER_TASK, PRETRAINING, SEGMENTATION
from workbench.errors import ParameterError
from workbench.evaluation import metrics as table
from workbench.evaluation import segmentation, weighted
from workbench.evaluation.ablation import Cell, ablation_deltas
from workbench.evaluation.decisions import calibration_table, decision_table
from workbench.evaluation.markers import OF_CHANCE, make_sample, marker_metrics, metric_values
from workbench.evaluation.metrics import METRICS, Better, Kind, Metric, Place, metric, metric_title, metrics_of, shown_in
from workbench.evaluation.pairwise import pairwise_deltas
from workbench.evaluation.robustness import added_sequence, judgements
from workbench.evaluation.run_comparison import compare_markers
from workbench.evaluation.summaries import headline, summarise_segmentation
from workbench.files import write_parquet
from workbench.geometry import Grid
from workbench.records.index import list_runs
from workbench.records.run_folder import RunFolder
from workbench.reports.ablation_review import parse_outcomes
from workbench.reports.comparison import compare
from workbench.reports.run_report import result_table
from workbench.views.cases.table import column_digits, metric_column, run_table, worst_first
from workbench.views.figures.forest import direction
from workbench.views.figures.result_stills import distribution_figure
from workbench.views.tables import runs_table

NEW = Metric("surface_gap", "Surface gap", Kind.DISTANCE, Better.LOWER, "both 0, one 99", "mm", limits=(0, np.inf), digits=1,
             shown=tuple(Place))  # fmt: skip


def test_every_entry_says_what_a_reader_asks() -> None:
    places = [(entry.task, entry.name) for entry in METRICS]
    assert len(set(places)) == len(places)
    for entry in METRICS:
        assert entry.title, entry.name
        assert entry.empty, entry.name
        assert entry.limits[0] < entry.limits[1], entry.name
        assert not (entry.signed and entry.better is not Better.NEITHER), "an error with a sign is best at 0"
    assert metric("precision").task == SEGMENTATION, "the voxels' where markers have one of the same name"
    assert metric("from_elsewhere").better is Better.NEITHER
    assert (metric_title("hd95"), metric_title("from_elsewhere")) == ("HD95 (mm)", "from elsewhere")


def test_a_value_without_an_entry_and_an_entry_without_a_value_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, mask = Grid((3, 3, 3), np.eye(4)), np.ones((3, 3, 3), np.uint8)
    overlap, confusion = segmentation._overlap, weighted.confusion_metrics
    monkeypatch.setattr(segmentation, "_overlap", lambda *given: overlap(*given) | {"lost": 0.0})
    with pytest.raises(ParameterError, match=r"metric 'lost' of segmentation is computed, but has no entry"):
        segmentation.case_metrics(mask, mask, mask > 0, grid, ["lesion"])
    monkeypatch.setattr(weighted, "confusion_metrics", lambda found: confusion(found) | {"lost": found.tp})
    with pytest.raises(ParameterError, match=r"metric 'lost' of markers is computed, but has no entry"):
        marker_metrics(make_sample([0, 1] * 20, np.linspace(0.1, 0.9, 40)))
    monkeypatch.undo()
    monkeypatch.setattr(table, "METRICS", (*METRICS, NEW))
    with pytest.raises(ParameterError, match=r"metric 'surface_gap' of segmentation has an entry in .*, but is not computed"):
        segmentation.case_metrics(mask, mask, mask > 0, grid, ["lesion"])
    with pytest.raises(ParameterError, match=r"metric 'dice' of pretraining is computed"):
        table.require_known(["zero_l1", "dice"], PRETRAINING)


def with_all(rows: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The rows of Dice again under each of some names."""
    dice = rows[rows["metric"] == "dice"]
    return pd.concat([dice.assign(metric=name) for name in names], ignore_index=True)


def test_what_is_said_to_be_shown_of_markers_is() -> None:
    """A marker metric cannot be added to these by its entry alone: the statistics of each are its own."""
    rows = markers()
    idh = rows[rows["marker"] == "idh"]
    cells = [Cell("", arm, 0, 0, arm, None, idh) for arm in ("baseline", "switch")]
    assert set(ablation_deltas(cells, resamples=50).table["metric"]) == set(shown_in(Place.OUTCOME, MARKER_TASK))
    assert {key.split()[0] for key in headline(None, idh, resamples=50)} == set(shown_in(Place.HEADLINE, MARKER_TASK))
    assert set(shown_in(Place.RUN_LIST)) <= set(shown_in(Place.HEADLINE))
    assert set(compare_markers(idh, idh, resamples=50)["metric"]) == set(shown_in(Place.COMPARISON, MARKER_TASK))
    judged = pd.concat([idh, idh.assign(split="validation")])
    assert set(decision_table(judged, resamples=50)["metric"]) == set(shown_in(Place.DECISIONS))
    assert set(calibration_table(judged, resamples=50)["metric"]) == set(shown_in(Place.RECALIBRATION))
    assert {metric.kind for name, metric in metrics_of(MARKER_TASK).items() if name in shown_in(Place.DECISIONS)} == {
        Kind.DECISION
    }
    computed = metric_values(make_sample([0, 1], [0.2, 0.8]), np.ones((1, 2)))
    assert list(computed) == [name for name in metrics_of(MARKER_TASK) if name not in OF_CHANCE]


def evaluated(folder: Path, name: str, rows: pd.DataFrame) -> RunFolder:
    cohort = {"name": "tiny", "phantom": True, "fingerprint": "x"}
    run = RunFolder.create(folder, {"run": name, "method": "unet", "experiment": "e", "parameters": {}, "cohort": cohort})
    write_parquet(run.path("metrics.parquet"), rows)
    write_parquet(run.path("markers.parquet"), markers().iloc[:0])
    return run


def test_a_metric_is_added_by_computing_it_and_by_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The recipe of CONTRIBUTING: nothing else is edited, and it is where its entry says, and in the tables that hold all."""
    monkeypatch.setattr(table, "METRICS", (*METRICS, NEW))
    overlap = segmentation._overlap
    monkeypatch.setattr(segmentation, "_overlap", lambda *given: overlap(*given) | {"surface_gap": 7.0})
    mask = np.ones((3, 3, 3), np.uint8)
    scored = segmentation.case_metrics(mask, mask, mask > 0, Grid((3, 3, 3), np.eye(4)), ["lesion"]).set_index("metric")
    assert list(scored.index) == [*(entry.name for entry in METRICS if entry.task == SEGMENTATION), "surface_gap"]
    assert scored.loc["surface_gap", "value"] == 7.0

    rows, other = (with_all(metrics(seed=seed), tuple(scored.index)) for seed in (0, 1))
    first, second = evaluated(tmp_path, "one", rows), evaluated(tmp_path, "two", other)
    assert list(summarise_segmentation(rows, resamples=50)["metric"])[: len(scored)] == list(scored.index)
    assert "surface_gap WT" in headline(rows, None, resamples=50)
    assert "surface_gap:WT" in judgements(rows, markers())
    assert "surface_gap" in set(compare(first, second, resamples=50)["metric"])
    cells = [Cell("", arm, 0, 0, arm, side) for arm, side in (("one", rows), ("two", other))]
    assert "surface_gap" in set(pairwise_deltas(cells, resamples=50).table["metric"])
    assert "surface_gap" in parse_outcomes("")

    info = SimpleNamespace(name="tiny", phantom=True)
    setup = SimpleNamespace(run=first, cohort=SimpleNamespace(info=info), parameters=SimpleNamespace(resamples=50, method="unet"))
    shown = result_table(setup, "segmentation")
    assert {"Surface gap (mm), median", "Surface gap (mm), quartiles"} <= set(shown.columns), "a distance leads with its median"
    assert "IoU" not in shown.columns, "the others stay where they are"
    assert [ax.get_ylabel() for ax in distribution_figure(rows, title="").axes] == ["Dice", "HD95 (mm)", "Surface gap (mm)"]

    cases = run_table(rows, None, "test")
    column = metric_column("surface_gap", "WT")
    assert column == "Surface gap WT (mm)"
    assert column in cases.columns
    assert column_digits(column) == 1
    assert worst_first(cases, "surface_gap", "WT") == [{"field": column, "dir": "desc"}]
    assert direction("surface_gap") == ("← better", "worse →")
    assert direction("volume_error") == ("← lower", "higher →"), "a difference of signed errors has no better side"

    panel = ComparisonPanel(AppState(), Store(tmp_path))
    assert panel.metric.options["Surface gap (mm)"] == "surface_gap"
    (row, *_) = list_runs(tmp_path)
    listed = runs_table([row], {row.run: headline(rows, None, resamples=50)}, columns=20)
    assert "Surface gap (mm) WT" in listed.columns


def test_a_fall_of_a_metric_that_is_better_when_lower_is_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "METRICS", (*METRICS, NEW, replace(NEW, name="drift", better=Better.NEITHER, signed=True)))
    values = {"t1": -6.0, "t1+t2": 2.0}
    rows = pd.DataFrame([
        {"case": case, "subject": case, "split": "test", "present": present, "region": "WT", "metric": name, "value": value}
        for name in ("surface_gap", "drift", "dice") for case in "ab" for present, value in values.items()
    ])  # fmt: skip
    found = added_sequence(rows)
    assert found[found["added"] == "t2"].set_index("metric")["gain"].to_dict() == {"surface_gap": -8, "drift": 4, "dice": 8}

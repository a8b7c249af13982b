"""The folds of a cross-validation as one run: who is in it, whose thresholds judge whom, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from workbench.errors import InputError, RunError
from workbench.evaluation.decisions import calibration_table, decision_table
from workbench.evaluation.thresholds import ALL_FOLDS, by_fold, validation_thresholds, youden_threshold
from workbench.experiments.pooling import mean_markers, pool
from workbench.files import write_json, write_parquet
from workbench.records.headline_file import read_headline as headline
from workbench.records.index import read_row
from workbench.records.run_folder import RunFolder
from workbench.reports.comparison import compare


@pytest.fixture(scope="module")
def made(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[RunFolder]]:
    """A pooled run of three folds, and the folds."""
    folds = fabricate.make_fold_runs(tmp_path_factory.mktemp("pooled") / "runs")
    for run in folds:
        for case in run.metrics().query("split == 'test'")["case"].unique()[:2]:
            run.path("predictions", f"{case}.nii.gz").write_bytes(f"{run.folder.name} {case}".encode())
    return pool([folds[2], folds[0], folds[1]]), folds


@pytest.fixture
def copies(made: tuple[RunFolder, list[RunFolder]], tmp_path: Path) -> list[RunFolder]:
    """The folds once more, to be spoilt."""
    return [RunFolder.open(shutil.copytree(run.folder, tmp_path / "cv" / run.folder.name)) for run in made[1]]


def test_every_subject_is_tested_once_by_the_fold_that_did_not_know_it(made: tuple[RunFolder, list[RunFolder]]) -> None:
    run, folds = made
    metrics, markers = run.metrics(), run.markers()
    test = metrics[(metrics["split"] == "test") & (metrics["region"] == "WT") & (metrics["metric"] == "dice")]
    assert len(test) == test["subject"].nunique() == 90
    for parent in folds:
        fold = parent.spec["parameters"]["fold"]
        mine = parent.markers().query("split == 'test'").sort_values(["case", "marker", "class"], ignore_index=True)
        here = markers[(markers["split"] == "test") & (markers["fold"] == fold)]
        pd.testing.assert_frame_equal(here.sort_values(["case", "marker", "class"], ignore_index=True), mine)
    assert run.state == "completed"
    assert run.spec["parameters"]["fold"] == "all"
    assert run.spec["derived"]["parents"] == [parent.spec["run"] for parent in folds]
    assert run.status["budget"]["samples"] == 3 * 2400
    assert headline(run.folder)["dice WT"]["n"] == 90
    row = read_row(run.folder.parents[1], f"cv/{run.folder.name}")
    assert row.name == "mts_unet (3 folds)"
    assert row.derived["kind"] == "pooled"


def test_pooling_again_is_a_no_op_and_the_order_does_not_matter(made: tuple[RunFolder, list[RunFolder]]) -> None:
    run, folds = made
    before = run.path("metrics.parquet").stat().st_mtime_ns
    assert pool([str(parent.folder) for parent in folds]).folder == run.folder
    assert run.path("metrics.parquet").stat().st_mtime_ns == before


def test_predictions_are_those_of_the_fold_that_tested_the_case(made: tuple[RunFolder, list[RunFolder]]) -> None:
    run, folds = made
    files = sorted(run.path("predictions").glob("*.nii.gz"))
    assert len(files) == 6
    assert not any(path.is_symlink() for path in files)
    for parent in folds:
        for case in parent.metrics().query("split == 'test'")["case"].unique()[:2]:
            assert run.path("predictions", f"{case}.nii.gz").read_text() == f"{parent.folder.name} {case}"


def test_a_threshold_judges_its_own_fold_only(made: tuple[RunFolder, list[RunFolder]]) -> None:
    run, folds = made
    markers = run.markers()
    idh = markers[markers["marker"] == "idh"]
    cuts = by_fold(validation_thresholds(markers), "youden")["idh", "mutant"]
    right, n = 0, 0
    for parent in folds:
        fold = parent.spec["parameters"]["fold"]
        own = parent.markers().query("marker == 'idh' and split == 'validation'")
        assert cuts[fold] == youden_threshold(own["truth"], own["probability"])
        test = idh[(idh["split"] == "test") & (idh["fold"] == fold)]
        right += int(((test["probability"] >= cuts[fold]) & (test["truth"] == 1)).sum())
        n += int((test["truth"] == 1).sum())
    assert len(set(cuts.values())) == 3, "equal thresholds would prove nothing"
    assert ALL_FOLDS not in cuts
    table = decision_table(idh, resamples=100)
    row = table[(table["marker"] == "idh") & (table["rule"] == "youden") & (table["metric"] == "recall")].iloc[0]
    assert row["value"] == pytest.approx(right / n)
    assert np.isnan(row["threshold"])
    assert row["n_validation"] == 90
    # moving one fold's validation cases moves that fold's decisions and no other's
    moved = markers.copy()
    chosen = (moved["fold"] == 0) & (moved["split"] == "validation")
    moved.loc[chosen, "probability"] = moved.loc[chosen, "probability"] / 3
    other = by_fold(validation_thresholds(moved), "youden")["idh", "mutant"]
    assert other[0] != cuts[0]
    assert {fold: other[fold] for fold in (1, 2)} == {fold: cuts[fold] for fold in (1, 2)}


def test_calibration_is_fitted_per_fold(made: tuple[RunFolder, list[RunFolder]]) -> None:
    markers = made[0].markers().query("marker == 'idh'").copy()
    shift = markers["fold"].map({0: 3.0, 1: 0.0, 2: -3.0})  # each fold's model is off in its own way
    markers["logit"] += shift
    markers["probability"] = 1 / (1 + np.exp(-markers["logit"]))
    table = calibration_table(markers, resamples=100).query("metric == 'brier'").set_index("calibration")
    assert table.loc["platt", "value"] < table.loc["none", "value"] - 0.05
    assert table.loc["platt", "fit"] == "one for each of 3 folds"


def test_pooled_runs_are_compared_like_any_other(
    made: tuple[RunFolder, list[RunFolder]], fabricate: ModuleType, tmp_path: Path
) -> None:
    run, folds = made
    cases = fabricate.fold_cases(subjects=45)
    ours, other = (
        pool(fabricate.make_fold_runs(tmp_path / "runs", method=method, skill=skill, cases=cases))
        for method, skill in (("mts_unet", 1.4), ("unet", 0.2))
    )
    for mine in (ours, other):
        metrics = mine.metrics()
        mine.path("artefacts.json").unlink(missing_ok=True)  # with its record another table would be refused
        write_parquet(mine.path("metrics.parquet"), metrics[(metrics["region"] == "WT") & (metrics["metric"] == "dice")])
    table = compare(ours, other, resamples=100).set_index(["of", "metric"])
    assert table.loc[("WT", "dice"), "n"] == 45
    assert table.loc[("idh mutant", "auc"), "difference"] > 0
    assert "mts_unet (3 folds)" in table["first"].iloc[0]
    with pytest.raises(InputError):
        compare(run, folds[0], resamples=100)


def test_what_does_not_go_together_is_refused_by_name(copies: list[RunFolder], fabricate: ModuleType) -> None:
    with pytest.raises(RunError, match="at least two"):
        pool(copies[:1])
    with pytest.raises(RunError, match="named twice"):
        pool([copies[0], copies[0]])
    with pytest.raises(InputError, match="tested by none"):  # fold 2's subjects validated fold 1
        pool(copies[:2])
    with pytest.raises(RunError, match="fold 1 of cohort demo is missing"):
        pool([copies[0], copies[2]])
    spec = json.loads(copies[1].path("spec.json").read_text())
    write_json(copies[1].path("spec.json"), spec | {"parameters": spec["parameters"] | {"learning_rate": 0.1}})
    with pytest.raises(RunError, match=r"more than their fold: learning_rate \(0.001, 0.1\)"):
        pool([run.folder for run in copies])
    write_json(copies[1].path("spec.json"), spec | {"derived": {"kind": "extended", "parents": ["abc"], "after": 8}})
    with pytest.raises(RunError, match=r"different trainings \(in one go, extended\)"):
        pool([run.folder for run in copies])
    write_json(copies[1].path("spec.json"), spec | {"method": "unet"})
    with pytest.raises(RunError, match="different methods"):
        pool([run.folder for run in copies])
    assert sorted(path.name for path in copies[0].folder.parent.iterdir()) == sorted(run.folder.name for run in copies)


def test_a_subject_in_two_folds_is_refused_by_name(copies: list[RunFolder]) -> None:
    markers = copies[0].markers()
    stranger = copies[1].markers().query("split == 'test'").head(1)
    write_parquet(copies[0].path("markers.parquet"), pd.concat([markers, stranger.assign(fold=0)]))
    with pytest.raises(InputError, match=rf"case {stranger['subject'].iloc[0]}: the subject is tested by 2 runs"):
        pool(copies)


def test_a_run_that_is_not_completed_is_refused(copies: list[RunFolder]) -> None:
    status = json.loads(copies[2].path("status.json").read_text())
    write_json(copies[2].path("status.json"), status | {"state": "interrupted"})
    with pytest.raises(RunError, match="interrupted, not completed"):
        pool(copies)


def test_external_markers_are_the_mean_of_the_folds(fabricate: ModuleType, tmp_path: Path) -> None:
    runs = fabricate.make_fold_runs(tmp_path / "runs", cases=fabricate.fold_cases(subjects=36, external=15))
    for run in runs:  # a method that does not segment: masks of external cases would need models
        metrics = run.metrics()
        write_parquet(run.path("metrics.parquet"), metrics[metrics["split"] != "external"])
    pooled = pool(runs)
    external = pooled.markers().query("split == 'external'").set_index(["case", "marker", "class"])
    assert set(external["fold"]) == {ALL_FOLDS}
    assert not external.index.duplicated().any()
    sides = [run.markers().query("split == 'external'").set_index(["case", "marker", "class"]) for run in runs]
    mean = np.mean([side["probability"].reindex(external.index) for side in sides], axis=0)
    np.testing.assert_allclose(external["probability"], mean)
    np.testing.assert_allclose(1 / (1 + np.exp(-external["logit"])), mean)
    # external cases are nobody's validation cases: their threshold comes from those of all folds
    cuts = by_fold(validation_thresholds(pooled.markers()), "youden")["idh", "mutant"]
    every = pooled.markers().query("split == 'validation' and marker == 'idh'")
    assert cuts[ALL_FOLDS] == youden_threshold(every["truth"], every["probability"])
    idh = pooled.markers().query("marker == 'idh'")
    table = decision_table(idh, resamples=100).query("split == 'external' and rule == 'youden'")
    assert table["threshold"].unique().tolist() == [cuts[ALL_FOLDS]]
    without = pool(runs, external=False)
    assert without.folder != pooled.folder
    assert "external" not in set(without.markers()["split"])
    assert without.status["notes"] == ["external cases were left out on request"]


def test_folds_that_saw_other_external_cases_have_no_mean(fabricate: ModuleType) -> None:
    rows = fabricate.marker_rows(fabricate.make_cases(test=0, validation=0, train=0, external=4), 1.0, 0)
    with pytest.raises(InputError, match="0003-000"):
        mean_markers([rows, rows[rows["case"] != "0003-000"]])
    found, notes = mean_markers([rows, rows[rows["marker"] != "tert"]])
    assert "tert" in notes[0]
    assert "tert" not in set(found["marker"])


def test_subset_tables_are_pooled_where_all_folds_have_them(fabricate: ModuleType, tmp_path: Path) -> None:
    runs = fabricate.make_fold_runs(tmp_path / "runs", cases=fabricate.fold_cases(subjects=12))
    for number, run in enumerate(runs):
        cases = run.metrics().drop_duplicates("case")[["case", "subject", "site", "fold", "split"]]
        truth = fabricate.fold_cases(subjects=12)[0][["case", "idh", "codel", "tert", "grade"]]
        metrics, markers = fabricate.subset_tables(cases.merge(truth, on="case"), 1.0, number)
        write_parquet(run.path("subset_metrics.parquet"), metrics)
        write_parquet(run.path("subset_markers.parquet"), markers)
    for name in ("subset_metrics.parquet", "subset_markers.parquet"):
        shutil.copy(runs[2].path(name), tmp_path)
        runs[2].path(name).unlink()
    half = pool(runs)
    assert half.subset_metrics() is None
    assert "was not judged under them" in half.status["notes"][0]
    shutil.rmtree(half.folder)
    for name in ("subset_metrics.parquet", "subset_markers.parquet"):
        shutil.copy(tmp_path / name, runs[2].folder)
    table = pool(runs).subset_markers()
    assert table["subject"].nunique() == 12
    assert table["present"].nunique() == 15
    assert set(table["split"]) == {"test"}

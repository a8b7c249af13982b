"""A method that predicts markers and nothing else, from training to prediction, in a cohort without a single mask."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.display import Markdown

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.experiments.application import PREDICTED_BY_FILE, predict_cohort
from workbench.experiments.experiment import Experiment
from workbench.files import read_json, write_json
from workbench.reports.neighbours import neighbours
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.setup_notes import marker_notes, note_setup
from workbench.steps.validation_score import Validation

SMALL = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 1,
    "threads": 1, "width": 4, "growth": 2, "markers": "idh,grade",
}  # fmt: skip


def experiment(cohort: Cohort, runs: Path, **values: Any) -> Experiment:
    given = SMALL | {"cohort": str(cohort.folder), "runs": str(runs)} | values
    return Experiment(ExperimentParameters.build("densenet121", given), progress=False)


@pytest.fixture(scope="module")
def unmasked(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The tiny cohort without its masks."""
    table = tiny_cohort.cases.assign(segmentation=pd.NA, labels=pd.NA)
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.image_root), "label_convention": None})
    cohort = Cohort.create(tmp_path_factory.mktemp("unmasked") / "cohort", info, table)
    make_folds(cohort)
    return cohort


@pytest.fixture(scope="module")
def finished(unmasked: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return experiment(unmasked, tmp_path_factory.mktemp("runs")).train().predict().evaluate().explain()


def test_it_trains_and_predicts_without_any_mask(finished: Experiment) -> None:
    assert finished.parameters.sampling == "whole"
    assert finished.training["score"] == "mean AUC"
    markers, metrics = finished.run.markers(), finished.run.metrics()
    assert markers is not None
    assert metrics is not None
    assert metrics.empty
    held = finished.split[finished.split != "train"].index
    assert set(markers["case"]) == set(held)
    assert set(markers["marker"]) == {"idh", "grade"}
    assert np.isfinite(markers["logit"]).all()
    assert not list((finished.run.folder / "predictions").glob("*.nii.gz"))
    names = {path.name.removesuffix(".nii.gz").split("_", 1)[1] for path in (finished.run.folder / "maps").glob("*.nii.gz")}
    assert names
    assert not any("tumour" in name for name in names), "there is no segmented tumour to explain"


def test_its_notebook_says_that_there_is_no_segmentation(finished: Experiment) -> None:
    assert isinstance(finished.result_table("segmentation"), Markdown)
    assert "predicts no segmentation" in finished.result_table("segmentation").data
    assert not isinstance(finished.result_table("markers"), Markdown)
    assert isinstance(finished.show("segmentation"), Markdown)


def test_a_finished_run_predicts_a_held_out_case_as_before(finished: Experiment, unmasked: Cohort, tmp_path: Path) -> None:
    held = list(finished.split[finished.split == "test"].index)[:1]
    few = Cohort.create(tmp_path / "few", unmasked.info, unmasked.cases[unmasked.cases["case"].isin(held)])
    out = predict_cohort(finished.run.folder, few.folder, tmp_path / "out")
    for case in held:
        before = read_json(finished.run.folder / "predictions" / f"{case}.json")["markers"]
        found = read_json(out / f"{case}.json")["markers"]
        assert set(found) == set(before)
        for marker, logits in before.items():
            assert found[marker] == pytest.approx(logits, abs=1e-5)  # with other threads, hence not to the bit
    assert len(pd.read_csv(out / "markers.csv")) == 2 * len(held)
    # another run's or another cohort's predictions are never taken over as this one's
    before = (out / "markers.csv").read_bytes()
    assert predict_cohort(finished.run.folder, few.folder, out) == out
    with pytest.raises(RunError, match=r"predictions of run .* on cohort .* as it was then.*another --out"):
        predict_cohort(finished.run.folder, unmasked.folder, out)
    write_json(out / PREDICTED_BY_FILE, read_json(out / PREDICTED_BY_FILE) | {"run": "other"})
    with pytest.raises(RunError, match="predictions of run other"):
        predict_cohort(finished.run.folder, few.folder, out)
    (out / PREDICTED_BY_FILE).unlink()
    with pytest.raises(RunError, match="nothing says which run"):
        predict_cohort(finished.run.folder, few.folder, out)
    assert (out / "markers.csv").read_bytes() == before


@pytest.mark.slow
def test_crops_are_possible_but_said_to_be_unfair(unmasked: Cohort, tmp_path: Path) -> None:
    found = experiment(unmasked, tmp_path, sampling="patch", patch=64, steps_per_epoch=1).train()
    assert any("sampling=whole is the fair choice" in note for note in found.training["notes"])


@pytest.mark.slow
def test_where_validation_shows_one_class_the_last_checkpoint_is_taken(unmasked: Cohort, tmp_path: Path) -> None:
    first = experiment(unmasked, tmp_path).prepare()
    validation = first.cases_by_split["validation"]["case"]
    table = unmasked.cases.copy()
    table.loc[table["case"].isin(validation), "idh"] = 0
    cohort = Cohort.create(tmp_path / "cohort", unmasked.info, table)
    shutil.copy(unmasked.folder / "folds.json", cohort.folder / "folds.json")
    shutil.copytree(unmasked.folder / "prepared", cohort.folder / "prepared")
    found = experiment(cohort, tmp_path, markers="idh")
    assert len(Validation(found)) == 0
    assert len(Validation(first)) == len(validation)
    assert found.train().training["checkpoint"] == "last"


def test_no_marker_that_can_be_learned_is_an_error_that_says_so(unmasked: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="none is left to predict"):
        experiment(unmasked, tmp_path, markers="tert").train()


def test_grades_two_and_three_alone_are_one_class_of_grade_four_against_the_others(unmasked: Cohort, tmp_path: Path) -> None:
    table = unmasked.cases.assign(grade=[2, 3] * (len(unmasked.cases) // 2) + [2] * (len(unmasked.cases) % 2))
    cohort = Cohort.create(tmp_path / "cohort", unmasked.info, table)
    shutil.copy(unmasked.folder / "folds.json", cohort.folder / "folds.json")
    found = experiment(cohort, tmp_path, markers="idh,grade")
    assert found.markers == ("idh",)
    assert any("'grade' is 2 or 3 in every training case" in note for note in marker_notes(found))
    assert experiment(cohort, tmp_path, markers="idh,grade", grade_classes=3).markers == ("idh", "grade")


def test_oversampling_and_class_weights_balance_a_marker_once(unmasked: Cohort, tmp_path: Path) -> None:
    train = unmasked.cases["case"].isin(experiment(unmasked, tmp_path).cases_by_split["train"]["case"])
    table = unmasked.cases.assign(idh=0)
    table.loc[table[train].index[:2], "idh"] = 1
    cohort = Cohort.create(tmp_path / "cohort", unmasked.info, table)
    shutil.copy(unmasked.folder / "folds.json", cohort.folder / "folds.json")
    weighted = experiment(cohort, tmp_path, markers="idh")
    assert weighted.model.marker_weights["idh"][1] > 1.2
    both = experiment(cohort, tmp_path, markers="idh", oversample="idh")
    assert both.model.marker_weights["idh"].tolist() == pytest.approx([1, 1])
    note_setup(both)
    assert not any("oversample" in note for note in both.notes)
    other = experiment(cohort, tmp_path, markers="idh", oversample="tert")
    assert other.model.marker_weights["idh"].tolist() == weighted.model.marker_weights["idh"].tolist()
    note_setup(other)
    assert any("oversample=tert changes nothing" in note for note in other.notes)


@pytest.mark.slow
def test_neighbours_are_the_evaluated_runs_of_the_same_question(
    finished: Experiment, unmasked: Cohort, tiny_cohort: Cohort
) -> None:
    runs = finished.run.folder.parents[1]
    assert neighbours(finished.run) == []
    assert "No other evaluated run" in finished.comparison().data
    other = experiment(unmasked, runs, seed=1, steps_per_epoch=1)
    assert neighbours(finished.run) == [], "it is not evaluated yet"
    other.train().evaluate()
    experiment(unmasked, runs, fold=1)
    experiment(tiny_cohort, runs)
    assert [run.folder for run in neighbours(finished.run)] == [other.run.folder]
    table = finished.comparison()
    assert set(table.index.get_level_values("of")) == {"idh mutant", "grade 4"}
    assert (table["n"] == (finished.split == "test").sum()).all()
    assert table["remark"].str.contains("unequal budget").all()

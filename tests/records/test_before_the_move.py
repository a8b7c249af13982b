"""Runs, a sweep and a schedule of the version before the rooms were divided by noun: their folders are opened as they were left.

`tests/data/before_the_move` was written by commit 6e4a7a0: two seeds of a U-Net by `workbench sweep`, markers of a DenseNet by
`workbench run`, on a cohort of twelve crude subjects. Pictures in the notebooks are thumbnails, and `workbench runs prune` has
taken the last checkpoints of all runs and the maps of one.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import panel as pn
import pytest
import torch

from app.shell import Shell
from app.state import PAGES, AppState
from app.store import Store
from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.evaluation.summaries import headline as summarised
from workbench.evaluation.summaries import summarise_segmentation
from workbench.execution.verification import IDENTICAL, NOT_COMPARABLE, verify
from workbench.experiments.application import predict_cohort
from workbench.experiments.reopening import reopen
from workbench.files import read_json, write_json
from workbench.records.artefacts_file import read_artefacts
from workbench.records.headline_file import read_headline as headline
from workbench.records.index import list_runs
from workbench.records.provenance import check_files
from workbench.records.run_folder import RunFolder
from workbench.records.spec import SPEC_FILE, read_spec
from workbench.records.status import STATUS_FILE
from workbench.records.sweep_plan import cell_row, list_plans, plan_path, read_plan
from workbench.reports.comparison import compare
from workbench.schedules.check import command_of, sweep_path
from workbench.schedules.schedule import list_schedules, path_of, read_schedule
from workbench.setup.opening import describe_run
from workbench.sweeps.sweep_file import plan_sweep
from workbench.sweeps.worker import pending
from workbench.training.checkpoints import load_checkpoint

KEPT = Path(__file__).resolve().parents[1] / "data" / "before_the_move"
FIRST, SECOND, MARKERS = "seeds/e813340a5808", "seeds/8b700d939e4d", "markers/734826707af1"
TESTED = ["TINY-00001-000", "TINY-00003-000", "TINY-00008-000"]

pn.extension("tabulator", design="bootstrap")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy; its documents stay as they are."""
    return shutil.copytree(KEPT, tmp_path_factory.mktemp("before") / "lab")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the runs folder to be changed."""
    return shutil.copytree(KEPT / "runs", tmp_path / "runs")


def write_into(path: Path, **values: Any) -> None:
    write_json(path, read_json(path) | values)


def test_nothing_kept_names_the_machine_it_was_made_on() -> None:
    for path in KEPT.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".ipynb", ".log", ".csv", ".yaml"):
            text = path.read_text(encoding="utf-8")
            assert not [place for place in ("/tmp/", "/root", "/home/") if place in text], path
            assert path.name != STATUS_FILE or read_json(path)["host"] == "workstation"


def test_the_runs_are_opened_and_listed(lab: Path) -> None:
    rows = {row.run: row for row in list_runs(lab / "runs")}
    assert set(rows) == {FIRST, SECOND, MARKERS}
    assert {(row.state, row.cohort, row.phantom, row.host) for row in rows.values()} == {
        ("completed", "tiny", True, "workstation")
    }
    assert (rows[FIRST].method, rows[FIRST].parameters["seed"], rows[FIRST].budget["steps"]) == ("unet", 0, 40)
    assert rows[FIRST].seconds == 73.0
    assert rows[MARKERS].title == "densenet121 · 734826"
    run = RunFolder.open(lab / "runs" / FIRST)
    assert run.cohort_path == (lab / "cohorts" / "tiny").resolve()
    assert run.events()["name"].value_counts()["train/objective"] == 40
    metrics, markers = run.metrics(), RunFolder.open(lab / "runs" / MARKERS).markers()
    assert metrics is not None
    assert markers is not None
    assert set(metrics["region"]) == {"WT", "TC", "ET", "ED", "NCR"}
    assert set(markers["marker"]) == {"idh", "codel", "grade"}
    assert set(markers["case"][markers["split"] == "test"]) == set(TESTED)


def test_the_headline_is_read_as_the_means_of_all_cases_that_it_was(lab: Path) -> None:
    run = RunFolder.open(lab / "runs" / FIRST)
    metrics = run.metrics()
    assert metrics is not None
    anew = summarise_segmentation(metrics[metrics["split"] == "test"], by_present=False).set_index(["metric", "region"])
    kept = headline(run.folder)
    assert {f"dice {region}" for region in ("WT", "TC", "ET")} <= set(kept)
    for name, number in kept.items():
        assert "n_subjects" not in number, "by which the older rule is known"
        row = anew.loc[tuple(name.split(" "))]
        assert (number["n"], number["value"]) == (row["n"], pytest.approx(row["mean"])), name


def test_the_headline_of_markers_is_what_it_was(lab: Path) -> None:
    run = RunFolder.open(lab / "runs" / MARKERS)
    kept, anew = headline(run.folder), summarised(run.metrics(), run.markers(), split="test", resamples=100)
    assert list(kept) == list(anew)
    for name, number in kept.items():
        assert number["value"] is None, "not estimable of three subjects"
        assert (number["n"], np.isnan(anew[name].value)) == (anew[name].n, True)


@pytest.mark.parametrize("name", [FIRST, SECOND, MARKERS])
def test_every_file_is_the_one_on_record(name: str, lab: Path) -> None:
    found = check_files(lab / "runs" / name)
    assert found.unchanged, found
    assert found.checked >= 18
    assert found.removed[:2] == ["checkpoints/last.json", "checkpoints/last.safetensors"]


def test_two_runs_are_compared(lab: Path) -> None:
    first, second = (lab / "runs" / name for name in (FIRST, SECOND))
    table = compare(first, second, resamples=200).set_index(["of", "metric"])
    row = table.loc[("WT", "dice")]
    assert (row["first"], row["second"], row["n"]) == ("unet e813340a5808", "unet 8b700d939e4d", 2)
    assert [row["value_first"], row["value_second"]] == pytest.approx([0.722, 0.926], abs=1e-3)
    assert row["difference"] == pytest.approx(row["value_first"] - row["value_second"])
    with pytest.raises(RunError, match="does not differ from itself"):
        compare(first, first)


def test_a_run_is_held_against_its_rerun(lab: Path, changed: Path) -> None:
    """All kinds of files of then are read and compared."""
    found = verify(lab / "runs" / FIRST, changed / FIRST)
    assert (found.verdict, found.environment) == (IDENTICAL, {})
    assert len([item for item in found.artefacts if item.files]) >= 9
    assert verify(changed / FIRST, changed / SECOND).verdict == NOT_COMPARABLE


@pytest.mark.parametrize("name", [FIRST, MARKERS])
def test_a_run_is_reopened_as_the_experiment_it_was(name: str, lab: Path) -> None:
    """Parameters and cohort lead to the same run id; split and weights are those of then."""
    folder = lab / "runs" / name
    experiment = reopen(folder, progress=False)
    assert experiment.run.folder.resolve() == folder.resolve()
    spec = read_spec(folder)
    where, described = describe_run(experiment.parameters, experiment.cohort, experiment.cohort.fingerprint())
    assert where.name == spec["run"] == folder.name
    assert {key: described[key] for key in ("run", "parameters", "cohort", "split")} == {
        key: spec[key] for key in ("run", "parameters", "cohort", "split")
    }
    dealt = read_artefacts(folder)["inputs"]["split"]["cases"]
    assert {case: split for split, rows in experiment.cases_by_split.items() for case in rows["case"]} == dealt
    assert experiment.label_sets == ("WT", "glioma")
    assert experiment.trained
    kept = experiment.model.upgraded(load_checkpoint(folder / "checkpoints" / "best").model)
    loaded = experiment.model.state_dict()
    assert kept.keys() == loaded.keys()
    assert all(torch.equal(kept[key], loaded[key]) for key in kept)
    assert experiment.markers == (() if name == FIRST else ("idh", "codel", "grade"))


def cohort_of(lab: Path, folder: Path, *cases: str) -> Path:
    """A cohort of some of the cases."""
    whole = Cohort.open(lab / "cohorts" / "tiny")
    info = whole.info.model_copy(update={"image_root": str(whole.image_root)})
    return Cohort.create(folder, info, whole.cases[whole.cases["case"].isin(cases)]).folder


@pytest.mark.filterwarnings("ignore:run .* Contaminated")
def test_its_weights_predict_the_masks_of_then(lab: Path, tmp_path: Path) -> None:
    """But for single voxels: on another processor sums are rounded otherwise."""
    out = predict_cohort(lab / "runs" / FIRST, cohort_of(lab, tmp_path / "cohort", *TESTED), tmp_path / "out")
    for case in TESTED:
        path = lab / "runs" / FIRST / "predictions" / f"{case}.nii.gz"
        then, now = nib.Nifti1Image.from_filename(path), nib.Nifti1Image.from_filename(out / path.name)
        np.testing.assert_array_equal(then.affine, now.affine)
        kept, made = (np.asarray(image.dataobj) for image in (then, now))
        assert np.count_nonzero(kept) > 100
        assert np.count_nonzero(kept != made) <= 5, path.name


@pytest.mark.filterwarnings("ignore:run .* Contaminated")
def test_its_weights_predict_the_markers_of_then(lab: Path, tmp_path: Path) -> None:
    case = TESTED[0]
    out = predict_cohort(lab / "runs" / MARKERS, cohort_of(lab, tmp_path / "cohort", case), tmp_path / "out")
    kept, made = (read_json(folder / f"{case}.json")["markers"] for folder in (lab / "runs" / MARKERS / "predictions", out))
    assert list(made) == ["idh", "codel", "grade"]
    for marker, logits in kept.items():
        assert made[marker] == pytest.approx(logits, abs=1e-3), marker
    assert list(pd.read_csv(out / "markers.csv")["marker"]) == ["idh", "codel", "grade"]


@pytest.mark.parametrize("key", PAGES)
def test_the_dashboard_shows_them(key: str, lab: Path) -> None:
    chosen = [MARKERS] if key == "curves" else [FIRST, SECOND]
    state = AppState(page=key, runs=chosen, run=chosen[0], sweep="seeds")
    page = Shell(state, Store(lab / "runs")).page(key)
    assert not isinstance(page, pn.pane.Alert), page.object
    if key == "overview":
        assert set(page.table.value.index) == {FIRST, SECOND, MARKERS}
        assert page.comparison.regions.object is not None
        assert "workstation" in page.inspection.facts.object
    elif key == "cases":
        assert set(page.ordered_cases()) == {TESTED[0], TESTED[2]}, "the other has no mask"
        page.state.case = TESTED[0]
        assert page.panel.view.case == TESTED[0]
        assert "Dice WT" in page.table.value
        assert "map:gradcam_tumour" in page.panel.overlay_choice.values
    elif key == "curves":
        assert page.figures.visible
        assert "not estimable" in page.table.object, "three test cases are too few"
    elif key == "robustness":
        assert page.heatmap.object is not None
        assert page.number.object is not None
    elif key == "ablations":
        assert "seeds: " in page.title.object
        assert page.matrix.object.count("✓ completed") == 2


def test_the_plan_of_the_sweep_is_read_and_nothing_is_left_to_run(lab: Path) -> None:
    runs = lab / "runs"
    assert list_plans(runs) == ["seeds"]
    plan = read_plan(runs, "seeds")
    assert [cell.run for cell in plan.cells] == [FIRST, SECOND]
    assert [cell_row(runs, cell).state for cell in plan.cells] == ["completed", "completed"]
    assert pending(plan, runs) == []
    anew, where = plan_sweep(lab / "sweeps" / "seeds.yaml")
    assert where.resolve() == runs.resolve()
    assert anew == plan, "the same file asks for the same runs"


def test_the_schedule_is_read(lab: Path) -> None:
    runs = lab / "runs"
    assert [(row.name, row.problem) for row in list_schedules(runs)] == [("nightly", "")]
    schedule = read_schedule(runs, "nightly")
    assert (schedule.what, schedule.when) == ("sweep ../sweeps/seeds.yaml", "30 2 * * * (Europe/Berlin)")
    assert sweep_path(schedule, runs).samefile(lab / "sweeps" / "seeds.yaml")
    assert "sweep" in command_of(schedule, runs, "tonight")
    assert schedule.timing.next_after(datetime(2026, 12, 1, tzinfo=UTC)) == datetime(2026, 12, 1, 1, 30, tzinfo=UTC)


def test_what_a_newer_version_adds_to_a_run_is_kept_and_does_not_matter(changed: Path) -> None:
    folder = changed / FIRST
    write_into(folder / SPEC_FILE, later={"a": 1})
    write_into(folder / STATUS_FILE, later="b")
    run = RunFolder.open(folder)
    assert run.spec["later"] == {"a": 1}
    assert run.status["later"] == "b"
    run.set_status("completed", budget=run.status["budget"])
    assert read_json(folder / STATUS_FILE)["later"] == "b", "who adds to a document keeps what it does not know"
    assert {row.run: row.state for row in list_runs(changed)}[FIRST] == "completed"


def test_what_a_newer_version_adds_to_a_plan_is_kept_and_does_not_matter(changed: Path) -> None:
    document = read_json(plan_path(changed, "seeds"))
    document["cells"][0]["later"] = 1
    write_json(plan_path(changed, "seeds"), document | {"later": {"a": 1}})
    plan = read_plan(changed, "seeds")
    assert [cell.run for cell in plan.cells] == [FIRST, SECOND]
    written = plan.model_dump(mode="json")
    assert (written["later"], written["cells"][0]["later"]) == ({"a": 1}, 1)


def test_what_a_newer_version_adds_to_a_schedule_is_refused_by_name(changed: Path) -> None:
    """Unlike a run, a schedule is acted on: a setting that is not understood must not be passed over."""
    write_into(path_of(changed, "nightly"), later=1)
    with pytest.raises(RunError, match=r"nightly\.json does not describe a schedule: later: Extra inputs are not permitted"):
        read_schedule(changed, "nightly")
    assert "later" in list_schedules(changed)[0].problem


def test_documents_of_a_newer_schema_are_refused(changed: Path) -> None:
    for path in (changed / FIRST / SPEC_FILE, plan_path(changed, "seeds"), path_of(changed, "nightly")):
        write_into(path, schema_version=2)
    for read in (
        lambda: RunFolder.open(changed / FIRST),
        lambda: read_plan(changed, "seeds"),
        lambda: read_schedule(changed, "nightly"),
    ):
        with pytest.raises(RunError, match=r"schema 2, newer than this workbench reads \(1\)"):
            read()
    assert {row.run: row.state for row in list_runs(changed)}[FIRST] == "unreadable"

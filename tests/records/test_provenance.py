"""Every file of a finished run: what it is, what made it, from what; and whether anybody touched it since."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from recorded_run import FILES, make_cohort, make_recorded_run

from workbench.errors import RunError
from workbench.execution.pruning import Policy, plan_pruning, prune
from workbench.files import file_digest
from workbench.records.provenance import (
    ARTEFACTS_FILE,
    case_digests,
    check_files,
    forget,
    read_artefacts,
    register,
    write_artefacts,
)
from workbench.records.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_recorded_run(tmp_path)


def test_every_file_is_recorded_with_what_made_it(run: RunFolder) -> None:
    document = read_artefacts(run.folder)
    files = document["files"]
    assert set(files) == {*FILES, "spec.json", "training.json"}, "status, log, heartbeat and locks are about the process"
    assert files["checkpoints/best.safetensors"]["step"] == "train"
    assert files["predictions/A.nii.gz"]["step"] == "predict"
    assert files["metrics.parquet"]["step"] == "evaluate"
    assert files["odd.bin"]["kind"] == "other"
    for name, entry in files.items():
        assert entry["digest"] == file_digest(run.folder / name)
        assert entry["bytes"] == (run.folder / name).stat().st_size
    inputs = document["inputs"]
    assert inputs["cohort"]["fingerprint"] == run.spec["cohort"]["fingerprint"]
    assert set(inputs["cohort"]["cases"]) == set("ABCDEF")
    assert inputs["split"]["digest"] == run.spec["split"]
    assert inputs["pretrained"] == {"digest": "9" * 32, "file": "encoder.safetensors"}
    assert str(run.folder.parents[2]) not in json.dumps(document), "no absolute path"


def test_the_record_is_of_finished_runs_only(tmp_path: Path, run: RunFolder) -> None:
    spec = {**run.spec, "run": "def"}
    going = RunFolder.create(tmp_path / "runs" / "demo", spec)
    going.claim()
    with pytest.raises(RunError, match="running"):
        write_artefacts(going)
    register(going.folder, "spec.json")
    assert not (going.folder / ARTEFACTS_FILE).exists()
    with pytest.raises(RunError, match="--record"):
        check_files(going.folder)


def test_untouched_files_are_found_untouched(run: RunFolder) -> None:
    run.heartbeat()
    run.set_status("completed", note="later")
    run.path("run.log").write_text("more")
    assert check_files(run.folder).unchanged
    assert check_files(run.folder).checked == len(FILES) + 2


def test_changed_added_and_missing_files_are_named(run: RunFolder) -> None:
    run.path("metrics.parquet").write_bytes(b"metrics.parqueT")  # as long as before
    run.path("predictions", "C.nii.gz").write_bytes(b"new")
    run.path("predictions", "A.json").unlink()
    found = check_files(run.folder)
    assert not found.unchanged
    assert (found.changed, found.added, found.missing) == (["metrics.parquet"], ["predictions/C.nii.gz"], ["predictions/A.json"])


def test_what_is_added_by_the_workbench_is_registered(run: RunFolder) -> None:
    run.path("subset_metrics.parquet").write_bytes(b"table")
    run.path("maps", "A_gradcam.nii.gz").write_bytes(b"map")
    run.path("figures", "training.png").write_bytes(b"drawn anew")
    assert len(check_files(run.folder).added) == 2
    register(run.folder, "subset_metrics.parquet", run.folder / "maps", "figures/training.png", "not/there.bin")
    assert check_files(run.folder).unchanged
    entry = read_artefacts(run.folder)["files"]["subset_metrics.parquet"]
    assert entry["step"] == "robustness"
    assert entry["added"]


def test_what_is_removed_on_purpose_is_not_missed(run: RunFolder) -> None:
    for name in ("predictions/A.nii.gz", "predictions/B.nii.gz", "predictions/A.json"):
        (run.folder / name).unlink()
    forget(run.folder, "predictions", reason="runs prune")
    found = check_files(run.folder)
    assert found.unchanged
    assert found.removed == ["predictions/A.json", "predictions/A.nii.gz", "predictions/B.nii.gz"]


def test_what_pruning_removes_is_on_record(run: RunFolder) -> None:
    prune(plan_pruning(run.folder.parents[1], Policy(("completed",), what="checkpoints")), "test")
    found = check_files(run.folder)
    assert found.unchanged
    assert any(name.startswith("checkpoints/") for name in found.removed)


def test_a_cohort_that_changed_meanwhile_is_said(run: RunFolder) -> None:
    (run.cohort_path / "images" / "B.nii.gz").write_bytes(b"other")
    (run.folder / ARTEFACTS_FILE).unlink()
    cohort = write_artefacts(run)["inputs"]["cohort"]
    assert "no longer what it was" in cohort["note"]
    assert "cases" not in cohort


def test_digests_of_cases_tell_which_changed(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "cohort")
    before = case_digests(cohort)
    (tmp_path / "cohort" / "images" / "C.nii.gz").write_bytes(b"other")
    cohort.cases.loc[cohort.cases["case"] == "E", "idh"] = pd.NA
    after = case_digests(cohort)
    assert [case for case in before if before[case] != after[case]] == ["C", "E"]


@pytest.mark.parametrize("text", ["{", "[]", '{"run": "abc"}'])
def test_a_damaged_record_is_named(run: RunFolder, text: str) -> None:
    (run.folder / ARTEFACTS_FILE).write_text(text)
    with pytest.raises(RunError, match=ARTEFACTS_FILE):
        check_files(run.folder)

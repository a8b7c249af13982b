"""A run beside its rerun: one bit changed anywhere is found, named and judged; another environment is told apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from repeated_run import change_voxel, elsewhere, make_reruns

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.execution.verification import DIFFERENT, IDENTICAL, NOT_COMPARABLE, WITHIN, tolerances, verify
from workbench.files import read_json, write_json, write_parquet
from workbench.inference.export import load_logits
from workbench.training.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a run and its perfect rerun; read-only."""
    return make_reruns(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run and its perfect rerun, to be changed."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs" / "demo" / "abc", tmp_path / "runs" / "demo-rerun" / "abc"


def change_weight(folder: Path, by: float) -> None:
    best = load_checkpoint(folder / "checkpoints" / "best").model
    best["conv.weight"][1, 2] += by
    save_checkpoint(folder / "checkpoints" / "best", best)


def change_counter(folder: Path) -> None:
    best = load_checkpoint(folder / "checkpoints" / "best").model
    best["norm.batches"] += 1
    save_checkpoint(folder / "checkpoints" / "best", best)


def change_event(folder: Path, by: float) -> None:
    lines = (folder / "events.jsonl").read_text().splitlines()
    event = json.loads(lines[1])
    lines[1] = json.dumps({**event, "value": event["value"] + by})
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def change_logit(folder: Path, by: float) -> None:
    path = folder / "predictions" / "A.logits.b2nd"
    values = load_logits(path).astype(np.float16)
    values[1, 2, 3, 1] += np.float16(by)
    path.unlink()
    blosc2.asarray(values, urlpath=str(path), mode="w")


def change_marker(folder: Path, by: float) -> None:
    path = folder / "predictions" / "B.json"
    document = read_json(path)
    document["markers"]["idh"][0] += by
    write_json(path, document)


def change_table(folder: Path, name: str, row: int, column: str, value: float) -> None:
    table = pd.read_parquet(folder / name)
    table.loc[row, column] = value
    write_parquet(folder / name, table)


def remove_row(folder: Path) -> None:
    write_parquet(folder / "metrics.parquet", pd.read_parquet(folder / "metrics.parquet").iloc[1:])


def move_mask(folder: Path) -> None:
    path = folder / "predictions" / "A.nii.gz"
    image = nib.Nifti1Image.from_filename(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-2.0, 2.0, 3.0, 1.0])), path)


def test_a_perfect_rerun_is_identical(pair: tuple[Path, Path]) -> None:
    found = verify(*pair)
    assert found.verdict == IDENTICAL
    assert found.repeats
    assert found.environment == {}
    assert {item.verdict for item in found.artefacts} == {IDENTICAL}
    assert {item.artefact: item.files for item in found.artefacts}["predicted masks"] == 2
    assert len(found.artefacts) == 8, "nothing was left out"


SMALL: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights": (lambda folder: change_weight(folder, 1e-6), "conv.weight"),
    "scalars over steps": (lambda folder: change_event(folder, 1e-9), "train/objective at step 20, first at step 20"),
    "predicted masks": (change_voxel, "predictions/B.nii.gz: 1 voxel, first (0, 0, 0)"),
    "validation logits": (lambda folder: change_logit(folder, 0.002), "predictions/A.logits.b2nd"),
    "marker logits": (lambda folder: change_marker(folder, 1e-7), "predictions/B.json: idh"),
    "voxel metrics": (lambda folder: change_table(folder, "metrics.parquet", 3, "value", 0.8001), "B, t1, WT, dice"),
    "markers": (lambda folder: change_table(folder, "markers.parquet", 0, "logit", 0.2501), "A, t1, idh, mutant"),
}


@pytest.mark.parametrize("artefact", SMALL)
def test_the_smallest_change_is_found_and_excused_only_elsewhere(pair: tuple[Path, Path], artefact: str) -> None:
    change, where = SMALL[artefact]
    change(pair[1])
    found = verify(*pair)
    item = next(item for item in found.artefacts if item.artefact == artefact)
    assert item.verdict == WITHIN
    assert where in item.where
    assert item.largest is not None
    assert 0 < item.largest < item.limit
    assert [other.artefact for other in found.artefacts if other.verdict != IDENTICAL] == [artefact]
    assert (found.verdict, found.repeats) == (WITHIN, False), "the same environment: it should have been identical"
    assert "does not repeat" in found.reason
    elsewhere(pair[1])
    found = verify(*pair)
    assert (found.verdict, found.repeats) == (WITHIN, True)
    assert found.environment == {"packages.torch": ("2.13", "2.14")}


LARGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a weight": (lambda folder: change_weight(folder, 2.0), "conv.weight"),
    "a counter": (change_counter, "norm.batches"),
    "a loss": (lambda folder: change_event(folder, 0.5), "train/objective"),
    "not a number": (lambda folder: change_event(folder, float("nan")), "train/objective"),
    "many voxels": (lambda folder: change_voxel(folder, 12), "12 voxels"),
    "a flipped mask": (move_mask, "another grid"),
    "a logit": (lambda folder: change_logit(folder, 9.0), "A.logits.b2nd"),
    "a marker": (lambda folder: change_marker(folder, 0.5), "idh"),
    "a Dice": (lambda folder: change_table(folder, "metrics.parquet", 0, "value", 0.7), "A, t1, WT, dice"),
    "a distance": (lambda folder: change_table(folder, "metrics.parquet", 1, "value", 40.0), "hd95"),
    "the truth": (lambda folder: change_table(folder, "markers.parquet", 0, "truth", 0.0), "A, t1, idh"),
    "an unknown truth": (lambda folder: change_table(folder, "markers.parquet", 1, "truth", 0.0), "B, t1, idh"),
    "a row": (remove_row, "other rows: A, t1, WT, dice"),
    "a file": (lambda folder: (folder / "predictions" / "A.json").unlink(), "in the run only"),
}


@pytest.mark.parametrize("what", LARGE)
def test_more_than_is_tolerated_is_different_anywhere(pair: tuple[Path, Path], what: str) -> None:
    change, where = LARGE[what]
    change(pair[1])
    elsewhere(pair[1])
    found = verify(*pair)
    assert (found.verdict, found.repeats) == (DIFFERENT, False)
    assert where in found.reason, found.reason


def test_the_first_that_differs_is_named_in_the_order_a_run_makes_things(pair: tuple[Path, Path]) -> None:
    change_table(pair[1], "metrics.parquet", 0, "value", 0.1)
    change_weight(pair[1], 5.0)
    assert "weights" in verify(*pair).reason


def test_tolerances_can_be_set_and_are_checked(pair: tuple[Path, Path]) -> None:
    change_voxel(pair[1])
    elsewhere(pair[1])
    assert verify(*pair, limits=tolerances({"masks": "0.001"})).verdict == DIFFERENT
    assert verify(*pair, limits=tolerances({"masks": "0"})).verdict == DIFFERENT
    assert tolerances({"marker-logits": "0.5"})["marker logits"] == 0.5
    for wrong in ({"mask": "1"}, {"masks": "much"}, {"masks": "-1"}, {"masks": "nan"}):
        with pytest.raises(ParameterError, match="mask"):
            tolerances(wrong)


def test_what_was_made_afterwards_is_not_judged(pair: tuple[Path, Path]) -> None:
    write_parquet(pair[0] / "subset_metrics.parquet", pd.DataFrame({"case": ["A"], "value": [0.5]}))
    found = verify(*pair)
    assert found.verdict == IDENTICAL
    assert [item.where for item in found.artefacts if item.verdict == "not judged"] == [
        "subset_metrics.parquet is in the run only"
    ]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("parameters.seed", 1, "seed (0 and 1)"),
        ("cohort.fingerprint", "e" * 16, "fingerprint"),
        ("method", "mts_unet", "method"),
        ("split", "6" * 16, "splits"),
    ],
)
def test_another_question_is_not_comparable(pair: tuple[Path, Path], path: str, value: object, reason: str) -> None:
    spec = read_json(pair[1] / "spec.json")
    *parents, last = path.split(".")
    place = spec[parents[0]] if parents else spec
    place[last] = value
    write_json(pair[1] / "spec.json", spec)
    found = verify(*pair)
    assert (found.verdict, found.repeats, found.artefacts) == (NOT_COMPARABLE, False, [])
    assert reason in found.reason


def test_device_and_threads_may_differ_and_are_named(pair: tuple[Path, Path]) -> None:
    spec = read_json(pair[1] / "spec.json")
    spec["parameters"] |= {"device": "cuda", "threads": 2}
    write_json(pair[1] / "spec.json", spec | {"threads": 2})
    assert verify(*pair).environment == {"threads": ("1", "2")}
    known = read_json(pair[1] / "environment.json")
    write_json(pair[1] / "environment.json", [*known, {**known[0], "device": "cuda"}])
    assert verify(*pair).environment == {"threads": ("1", "2"), "device": ("cpu", "cuda"), "environments": ("-", "2")}


def test_runs_without_a_recorded_environment_are_readable(pair: tuple[Path, Path]) -> None:
    (pair[0] / "environment.json").unlink()
    change_voxel(pair[1])
    found = verify(*pair)
    assert found.environment == {"environment": ("not recorded", "recorded")}
    assert found.repeats, "it cannot be said that the environment was the same"


def test_only_completed_runs_are_verified(pair: tuple[Path, Path]) -> None:
    write_json(pair[1] / "status.json", {**read_json(pair[1] / "status.json"), "state": "failed"})
    with pytest.raises(RunError, match="failed"):
        verify(*pair)


def test_a_damaged_file_is_named(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "predictions" / "B.nii.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunError, match=r"B\.nii\.gz"):
        verify(*pair)


# -- for real ----------------------------------------------------------------------------------------------------------


TINY = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "resamples": 100, "maps": 0,
    "threads": 1, "seed": 0, "subsets": "none", "width": 4, "levels": 3, "patch": 32,
}  # fmt: skip


def workbench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.mark.slow
def test_a_real_run_repeats_to_the_bit_and_on_other_threads_within_tolerance(tiny_cohort: Cohort, tmp_path: Path) -> None:
    cohort, runs = tmp_path / "cohort", tmp_path / "runs"
    shutil.copytree(tiny_cohort.folder, cohort)
    settings = [text for name, value in TINY.items() for text in ("-p", f"{name}={value}")]
    done = workbench("run", "unet", "--cohort", cohort, "--runs", runs, *settings, "--quiet")
    assert done.returncode == 0, done.stderr[-3000:]
    run = Path(done.stdout.strip())
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}

    done = workbench("verify", run, "--json", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["verdict"] == IDENTICAL
    assert set(found["environment"]) <= {"code_version"}  # of a checkout that is edited while the test runs
    assert {"weights", "predicted masks", "validation logits"} <= {item["artefact"] for item in found["artefacts"]}
    assert [path.name for path in runs.iterdir()] == ["default"], "the rerun is gone"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before, "the run was not touched"
    done = workbench("verify", run, "--files")
    assert done.returncode == 0, done.stdout

    done = workbench("rerun", run, "-p", "threads=2", "--quiet")
    assert done.returncode == 0, done.stderr[-3000:]
    again = Path(done.stdout.strip())
    assert again.parent.name == "default-rerun"
    done = workbench("verify", run, again, "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["verdict"] in (IDENTICAL, WITHIN)
    assert found["environment"]["threads"] == ["1", "2"]

    image = next((cohort / "images").rglob("*00005*-t1.nii.gz"))
    values = nib.Nifti1Image.from_filename(image)
    nib.save(nib.Nifti1Image(np.asarray(values.dataobj) + 1, values.affine), image)
    done = workbench("verify", run)
    assert done.returncode == 1
    assert "1 changed (TINY-00005-000)" in done.stderr

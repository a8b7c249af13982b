"""The command line as a user meets it: exit status, one line that names the thing and the way out, nothing half-written."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.files import read_json, write_json


def workbench(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.fixture
def cohort(tiny_cohort: Cohort, tmp_path: Path) -> Path:
    """A copy of the tiny cohort that a test may break."""
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort.folder, folder, ignore=shutil.ignore_patterns("prepared", "folds.json", "digests.json"))
    return folder


def first_image(cohort: Path, modality: str = "t1") -> Path:
    return Cohort.open(cohort).path("TINY-00000-000", modality)  # type: ignore[return-value]


def check(cohort: Path) -> list[dict[str, str]]:
    done = workbench("cohort", "check", cohort, "--json")
    document = json.loads(done.stdout)  # one document and nothing else
    errors = [problem for problem in document["problems"] if problem["severity"] == "error"]
    assert done.returncode == (1 if errors else 0)
    assert document["cases"] == 12
    return errors


def test_a_sound_cohort_passes(cohort: Path) -> None:
    assert check(cohort) == []


def test_each_enemy_is_named_with_case_file_and_channel(cohort: Path) -> None:
    """One cohort with four broken cases: each is found, none hides the others."""
    truncated = first_image(cohort)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    opened = Cohort.open(cohort)
    mask = opened.path("TINY-00005-000", "segmentation")
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.where(np.asarray(image.dataobj) == 1, 7, 0).astype(np.uint8), image.affine), mask)
    moved = opened.path("TINY-00006-000", "t2")
    image = nib.load(moved)
    affine = image.affine.copy()
    affine[0, 3] += 25
    nib.save(nib.Nifti1Image(image.get_fdata(), affine), moved)
    zero = opened.path("TINY-00007-000", "flair")
    image = nib.load(zero)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), zero)

    found = {(problem["case"], problem["channel"]) for problem in check(cohort)}
    assert {("TINY-00000-000", "t1"), ("TINY-00005-000", "segmentation"), ("TINY-00007-000", "flair")} <= found
    assert any(case == "TINY-00006-000" for case, _ in found)
    assert all(problem["file"] and problem["message"] for problem in check(cohort))


def test_a_run_on_a_broken_cohort_stops_with_the_file_named(cohort: Path, tmp_path: Path) -> None:
    truncated = first_image(cohort)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    done = workbench("prepare", cohort, "--spacing", "4")
    assert done.returncode == 1
    assert truncated.name in done.stderr
    assert "TINY-00000-000" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_patient_in_two_folds(cohort: Path) -> None:
    assert workbench("cohort", "fold", cohort, "--folds", "3").returncode == 0
    folds = read_json(cohort / "folds.json")
    subject = folds["folds"][0][0]
    folds["folds"][1].append(subject)
    write_json(cohort / "folds.json", folds)
    done = workbench("run", "unet", "--cohort", cohort, "-p", "size=demo")
    assert done.returncode == 1
    assert subject in done.stderr
    assert not (cohort.parent / "runs").exists()
    assert any(subject in problem["message"] for problem in check(cohort))


def test_a_missing_modality_column(cohort: Path) -> None:
    table = pd.read_parquet(cohort / "cases.parquet").drop(columns="t2")
    table.to_parquet(cohort / "cases.parquet", index=False)
    done = workbench("cohort", "show", cohort)
    assert done.returncode == 1
    assert "'t2' is missing" in done.stderr
    assert json.loads(workbench("cohort", "check", cohort, "--json").stdout)["problems"][0]["channel"] == "t2"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-p", "epoch=3"], "did you mean 'epochs'"), (["-p", "epochs=abc"], "'epochs' = 'abc'"),
        (["-p", "epochs"], "NAME=VALUE"),
        (["-p", "fold=77"], "folds 0 to"), (["-p", "modalities=t9"], "t9"),
    ],
)  # fmt: skip
def test_bad_parameters_stop_before_a_kernel_starts(cohort: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = workbench("run", "unet", "--cohort", cohort, "--runs", tmp_path / "runs", *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").rglob("*.ipynb"))


def test_unknown_method_and_missing_cohort(tmp_path: Path) -> None:
    done = workbench("run", "resnet", cwd=tmp_path)
    assert (done.returncode, "unet" in done.stderr) == (1, True)
    done = workbench("run", "unet", "--cohort", tmp_path / "nothing")
    assert (done.returncode, "cohort phantom" in done.stderr) == (1, True)


def test_a_port_in_use_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = workbench("app", "--port", port)
    assert done.returncode == 1
    assert f"--port {port + 1}" in done.stderr


def test_an_unreadable_run_does_not_hide_the_others(tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "default"
    for name in ("good", "garbage"):
        spec = {"schema_version": 1, "run": name, "method": "unet", "experiment": "default", "parameters": {},
                "cohort": {"name": "tiny", "phantom": True}}  # fmt: skip
        write_json(runs / name / "spec.json", spec)
        write_json(
            runs / name / "status.json",
            {"state": "queued", "created": "2026-01-01T00:00:00+00:00", "since": "2026-01-01T00:00:00+00:00"},
        )
    (runs / "garbage" / "spec.json").write_text("{ not json")
    done = workbench("runs", "--runs", tmp_path / "runs", "--json")
    rows = {Path(row["run"]).name: row["status"] for row in json.loads(done.stdout)}
    assert rows == {"good": "queued", "garbage": "unreadable"}
    assert done.returncode == 0


def test_a_number_without_interval_is_listed(tmp_path: Path) -> None:
    """One subject gives a mean but no interval."""
    run = tmp_path / "runs" / "default" / "one"
    spec = {"schema_version": 1, "run": "one", "method": "unet", "experiment": "default", "parameters": {},
            "cohort": {"name": "tiny", "phantom": True}}  # fmt: skip
    moment = "2026-01-01T00:00:00+00:00"
    write_json(run / "spec.json", spec)
    write_json(run / "status.json", {"state": "completed", "created": moment, "since": moment})
    nothing = {"value": None, "low": None, "high": None, "n": 1}
    numbers = {"dice WT": nothing | {"value": 0.5}, "auc idh": nothing}
    write_json(run / "headline.json", numbers)
    done = workbench("runs", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "dice WT 0.500 (no interval, n 1), auc idh not estimable (n 1)" in done.stdout


def test_models_as_json() -> None:
    rows = {row["name"]: row for row in json.loads(workbench("models", "--json").stdout)}
    assert {"unet", "mts_unet"} <= set(rows)
    assert rows["mts_unet"]["parameters"] > 124_000_000
    assert all(set(row) >= {"name", "paper", "tasks", "modalities", "parameters", "input"} for row in rows.values())


def test_help_is_quick_and_heavy_libraries_stay_out() -> None:
    code = (
        "import sys; sys.argv = ['workbench', '--help']\n"
        "from workbench import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print({'torch', 'monai', 'panel', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")


@pytest.mark.slow
def test_a_phantom_after_surgery(tmp_path: Path) -> None:
    made = workbench("cohort", "phantom", tmp_path / "post", "--stage", "posttreatment", "--subjects", 1, "--spacing", 4)
    assert made.returncode == 0, made.stderr[-2000:]
    cohort = Cohort.open(tmp_path / "post")
    assert cohort.info.label_convention == "brats2024"
    assert set(cohort.cases["labels"]) == {"glioma_post"}


def test_an_unknown_stage_makes_nothing(tmp_path: Path) -> None:
    wrong = workbench("cohort", "phantom", tmp_path / "none", "--stage", "later")
    assert "Value error" not in wrong.stderr
    assert wrong.returncode == 1
    assert "preoperative, posttreatment" in wrong.stderr
    assert not (tmp_path / "none").exists()

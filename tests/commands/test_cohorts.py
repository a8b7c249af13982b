"""`workbench cohort`: every broken file is named, and nothing half-written is left."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
from command_line import workbench

from workbench.cohort.table import Cohort
from workbench.files import read_json, write_json


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


def test_an_import_with_pseudonyms_writes_the_key_beside_the_cohort(cohort: Path, tmp_path: Path) -> None:
    done = workbench(
        "cohort", "import", "generic", cohort / "images", "--out", tmp_path / "hidden", "--t1", "*/*-t1.nii.gz", "--pseudonyms"
    )
    assert done.returncode == 0, done.stderr
    assert "case-0001" in Cohort.open(tmp_path / "hidden").cases["case"].tolist()
    assert "TINY-00000-000" in (tmp_path / "hidden.key.csv").read_text()
    assert read_json(tmp_path / "hidden" / "cohort.json")["pseudonyms"] is True
    assert not [path for path in (tmp_path / "hidden").rglob("*") if b"TINY" in path.name.encode()]
    assert workbench("cohort", "check", tmp_path / "hidden").returncode == 0


@pytest.mark.parametrize(
    "how",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow), pytest.param(signal.SIGKILL, marks=pytest.mark.slow)],
    ids=lambda how: how.name,
)
def test_a_phantom_that_is_ended_leaves_no_worker(tmp_path: Path, how: signal.Signals) -> None:
    command = [
        sys.executable, "-m", "workbench.cli", "cohort", "phantom", str(tmp_path / "c"), "--subjects", "3", "--spacing", "4",
        "--workers", "2",
    ]  # fmt: skip
    # what is started in the background of a script ignores SIGINT, and so do its children
    interruptible = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=interruptible)
    try:
        children = wait_for_workers(parent.pid)
        parent.send_signal(how)
        assert parent.wait(60) != 0
        left = psutil.wait_procs(children, timeout=10)[1]
        assert not [child.cmdline() for child in left if child.status() != psutil.STATUS_ZOMBIE]
    finally:
        parent.kill()
        parent.wait()
    assert not (tmp_path / "c" / "cohort.json").exists()


def wait_for_workers(parent: int) -> list[psutil.Process]:
    """The children of a process as soon as two of them are workers that began to work."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(parent).children(recursive=True)
            if sum(child.cpu_times().user > 1 for child in children) >= 2:
                return children
        time.sleep(0.05)
    raise AssertionError("the workers did not begin")

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from small_cohort import FOUR, change, copy_of

from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, WorkbenchError
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort


def entries(prepared: PreparedCohort) -> dict[str, tuple[str, int]]:
    """Case -> its entry's folder and when that was written."""
    return {case.name: (case.folder.name, (case.folder / "case.json").stat().st_mtime_ns) for case in prepared}


def test_repeating_is_a_no_op_and_one_changed_case_is_redone(small):
    first = prepare_cohort(small, FOUR, progress=False)
    before = entries(first)
    assert entries(prepare_cohort(small, FOUR, progress=False)) == before
    change(small, "TINY-00001-000", "t1", lambda a: a * 2)
    after = entries(prepare_cohort(small, FOUR, progress=False))
    assert {case for case in before if before[case] != after[case]} == {"TINY-00001-000"}
    assert not (first.folder / before["TINY-00001-000"][0]).exists(), "the stale entry is still there"
    assert sorted(p.name for p in first.folder.iterdir()) == sorted([*(e for e, _ in after.values()), "prepared.json"])


def test_another_convention_redoes_all_cases_and_other_settings_stand_beside(small):
    first = prepare_cohort(small, FOUR, progress=False)
    other = prepare_cohort(small, PrepareSettings(spacing=5.0), progress=False, cases=["TINY-00000-000"])
    assert other.folder != first.folder
    assert len(other) == 1
    assert entries(prepare_cohort(small, FOUR, progress=False)) == entries(first)
    relabelled = Cohort(small.folder, small.info.model_copy(update={"label_convention": "brats2024"}), small.cases)
    before = {entry for entry, _ in entries(first).values()}
    assert before.isdisjoint(entry for entry, _ in entries(prepare_cohort(relabelled, FOUR, progress=False)).values())


def test_all_bad_cases_are_told_at_once_and_the_good_ones_kept(small):
    change(small, "TINY-00000-000", "t1", np.zeros_like)
    path = small.path("TINY-00002-000", "flair")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError) as error:
        prepare_cohort(small, FOUR, progress=False)
    zero, short = error.value.problems
    assert (zero.case, zero.channel, short.case, short.channel) == ("TINY-00000-000", "t1", "TINY-00002-000", "flair")
    assert "all-zero" in zero.message
    assert zero.file.endswith("TINY-00000-000-t1.nii.gz")
    target = small.folder / "prepared" / PrepareSettings(spacing=4.0, modalities=small.modalities).slug
    assert [p.name.split(".")[0] for p in target.iterdir()] == ["TINY-00001-000"]


def test_settings_name_what_is_wrong(small):
    with pytest.raises(ParameterError, match="no dwi; it has t1, t1c, t2, flair"):
        prepare_cohort(small, PrepareSettings(modalities=("t1", "dwi")), progress=False)
    with pytest.raises(ParameterError, match="no nobody"):
        prepare_cohort(small, FOUR, cases=["nobody"], progress=False)
    with pytest.raises(ValueError, match="named twice"):
        PrepareSettings(modalities=("t1", "t1"))
    small.path("TINY-00000-000", "t1").unlink()
    with pytest.raises(InputError, match=r"TINY-00000-000.*t1.*missing"):
        prepare_cohort(small, FOUR, progress=False)
    with pytest.raises(WorkbenchError, match="no case"):
        small.row("nobody")


def test_worker_processes_give_the_same_arrays(small, tmp_path):
    one = prepare_cohort(small, FOUR, folder=tmp_path / "one", progress=False)
    two = prepare_cohort(small, FOUR, folder=tmp_path / "two", progress=False, workers=2)
    for a, b in zip(one, two, strict=True):
        assert a.folder.name == b.folder.name
        for file in sorted(a.folder.iterdir()):
            if file.suffix == ".json":
                assert file.read_bytes() == (b.folder / file.name).read_bytes()
        np.testing.assert_array_equal(a.images(), b.images())


def test_a_killed_run_leaves_nothing_half_written(tiny_cohort, tmp_path):
    cohort = copy_of(tiny_cohort, tmp_path / "cohort", 6)
    code = (
        "import sys\nfrom workbench.cohort.table import Cohort\nfrom workbench.prepare.store import prepare_cohort\n"
        "from workbench.prepare.settings import PrepareSettings\n"
        "prepare_cohort(Cohort.open(sys.argv[1]), PrepareSettings(spacing=2.0), progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(cohort.folder)])
    target = cohort.folder / "prepared" / PrepareSettings(spacing=2.0, modalities=cohort.modalities).slug
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None and len(list(target.glob("TINY*"))) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for entry in target.glob("TINY*"):
        assert {p.name for p in entry.iterdir()} >= {"images.b2nd", "brain.b2nd", "case.json"}
        json.loads((entry / "case.json").read_text())
    finished = {p.name: (p / "case.json").stat().st_mtime_ns for p in target.glob("TINY*")}
    assert not (target / "prepared.json").exists()
    dead = target / f".tmp-{socket.gethostname()}-{process.pid}-12345678"
    dead.mkdir(exist_ok=True)
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=2.0), progress=False)
    assert len(prepared) == 6
    for name, stamp in finished.items():
        assert (target / name / "case.json").stat().st_mtime_ns == stamp, "a finished entry was made again"
    assert not list(target.glob(".tmp-*"))


def test_an_unwritable_folder_is_a_message(small, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        prepare_cohort(small, FOUR, folder=tmp_path / "file", progress=False)

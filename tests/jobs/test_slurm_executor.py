"""Runs handed to SLURM: what it is given, waited for, and what the job does on its node."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slurm_stand_ins import answer, make_job

from workbench.errors import RunError
from workbench.jobs.slurm import SlurmOptions, check_slurm
from workbench.jobs.slurm_executor import RunJob, SlurmExecutor
from workbench.records.run_folder import RunFolder


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"no command `sinfo`.*login node.*--executor local.*--print"):
        check_slurm()
    executor = SlurmExecutor(SlurmOptions(), tmp_path / "runs")
    with pytest.raises(RunError, match="no command `sinfo`"):
        executor.submit([make_job(tmp_path, 0)])
    assert not (tmp_path / "runs").exists(), "nothing was written"


def test_without_submitit_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"pip install 'brain-mri-workbench\[slurm\]'.*--print"):
        SlurmExecutor(SlurmOptions(), tmp_path)


def test_a_silent_slurm_is_waited_for_but_not_for_ever(commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sinfo", "sbatch", "srun", "scancel"):
        answer(commands, name, "echo 'Submitted batch job 41'")
    answer(commands, "scontrol", "echo 'MaxArraySize = 1001'")
    answer(commands, "squeue", "echo '41|PENDING|(QOSMaxWallDurationPerJobLimit)'")
    executor = SlurmExecutor(SlurmOptions(), tmp_path / "runs", poll=0.0)
    (ticket,) = executor.submit([make_job(tmp_path, 0)])
    with pytest.warns(UserWarning, match="41 wait for no good: .QOSMaxWall"):
        assert not executor.finished(ticket)
    answer(commands, "squeue", "exit 1")
    assert not executor.finished(ticket)
    monkeypatch.setattr("workbench.jobs.slurm_executor.PATIENCE", -1.0)
    with pytest.raises(RunError, match="Jobs in the queue go on by themselves"):
        executor.finished(ticket)
    answer(commands, "squeue", "echo '41|TIMEOUT|TimeLimit'")
    assert executor.finished(ticket)
    assert executor.reason(ticket) == "SLURM job 41: TIMEOUT: its time limit ended it; give it a longer --time"


def test_what_sbatch_is_given(commands: Path, tmp_path: Path) -> None:
    for name in ("sinfo", "srun", "scancel", "squeue"):
        answer(commands, name, "true")
    answer(commands, "scontrol", "echo 'MaxArraySize            = 2'")
    answer(commands, "sbatch", f"cp \"$1\" {tmp_path}/given.sh; echo 'Submitted batch job 7'")
    options = SlurmOptions(
        partition="gpu", time="1-0", account="lab", qos="long", gres="gpu:1", cpus_per_task=8, mem="32G",
        array_parallelism=2, sbatch={"constraint": "a100", "exclusive": ""},
    )  # fmt: skip
    executor = SlurmExecutor(options, tmp_path / "runs")
    assert executor.threads == 8
    assert SlurmExecutor(SlurmOptions(), tmp_path).threads == 1, "never the cores of the login node"
    tickets = executor.submit([make_job(tmp_path, index) for index in range(3)])
    assert [ticket.id for ticket in tickets] == ["7_0", "7_1"], "no larger array than the cluster takes"
    given = (tmp_path / "given.sh").read_text().splitlines()
    for flag in (
        "partition=gpu", "time=1440", "account=lab", "qos=long", "gres=gpu:1", "cpus-per-task=8", "mem=32G", "array=0-1%2",
        "constraint=a100", "exclusive", "requeue", "signal=USR2@120",
    ):  # fmt: skip
        assert f"#SBATCH --{flag}" in given
    assert not [line for line in given if "wckey" in line]
    assert "--cpus-per-task=8" in given[-1], "a step does not inherit the cores of its job"


def test_an_sbatch_that_names_no_job_is_quoted(commands: Path, tmp_path: Path) -> None:
    for name in ("sinfo", "srun", "scancel", "squeue", "scontrol"):
        answer(commands, name, "true")
    answer(commands, "sbatch", "echo 'our wrapper: accepted'")
    with pytest.raises(RunError, match=r"squeue --me.*our wrapper: accepted"):
        SlurmExecutor(SlurmOptions(), tmp_path / "runs").submit([make_job(tmp_path, 0)])


def test_a_job_that_the_queue_has_forgotten_has_ended(commands: Path, tmp_path: Path) -> None:
    for name in ("sinfo", "sbatch", "srun", "scancel"):
        answer(commands, name, "echo 'Submitted batch job 41'")
    answer(commands, "scontrol", "true")
    answer(commands, "squeue", "echo '41|RUNNING|None'")
    executor = SlurmExecutor(SlurmOptions(), tmp_path / "runs", poll=0.0)
    (ticket,) = executor.submit([make_job(tmp_path, 0)])
    assert not executor.finished(ticket)
    answer(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert executor.finished(ticket)


def test_a_run_that_was_cancelled_while_it_waited_is_not_started(run: RunFolder, tmp_path: Path) -> None:
    work = RunJob(["touch", str(tmp_path / "started")], run.folder, tmp_path / "log", tmp_path)
    run.set_status("cancelled")
    assert work() == "cancelled"
    assert not (tmp_path / "started").exists()
    assert work.checkpoint() is None, "and is not requeued"
    run.set_status("queued")
    assert work() == "completed"
    assert (tmp_path / "started").exists()
    assert work.checkpoint().function.command == work.command
    work = RunJob(["sh", "-c", "echo $WORKBENCH_PAUSE_GRACE"], run.folder, tmp_path / "said", tmp_path, patience=77.0)
    work()
    assert (tmp_path / "said").read_text() == "77\n", "the run knows how long it has to save"


def test_a_run_that_fails_fails_its_job_and_keeps_what_it_said(tmp_path: Path) -> None:
    work = RunJob(["sh", "-c", "echo no such method; exit 3"], tmp_path / "none", tmp_path / "logs" / "one.log", tmp_path)
    with pytest.raises(RunError, match=r"exit status 3; see .*one\.log"):
        work()
    assert (tmp_path / "logs" / "one.log").read_text() == "no such method\n"

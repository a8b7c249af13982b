"""What SLURM is told, how its answers are read, and the script that is printed for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.errors import ParameterError, RunError
from workbench.jobs import slurm
from workbench.jobs.executors import Job
from workbench.jobs.processes import cancel
from workbench.jobs.slurm import JobState, SlurmOptions, check_slurm, job_states
from workbench.jobs.slurm_executor import RunJob, SlurmExecutor
from workbench.jobs.slurm_script import slurm_script
from workbench.records.run_folder import RunFolder


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("0:30", 1),
        ("12:00:00", 720),
        ("1:30:01", 91),
        ("2-0", 2880),
        ("1-12:30", 2190),
        ("7-0:0:0", 10080),
    ],
)
def test_time_limits_are_read_as_slurm_reads_them(time: str, minutes: int) -> None:
    assert SlurmOptions(time=time).minutes == minutes


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"time": "tomorrow"}, "--time tomorrow"),
        ({"time": "0"}, "--time 0"),
        ({"mem": "32 GB"}, "--mem 32 GB"),
        ({"partition": "gpu\n#SBATCH --wrap=rm"}, "--partition"),
        ({"cpus_per_task": -1}, "--cpus-per-task -1"),
        ({"sbatch": {"--constraint": "a100"}}, "--sbatch --constraint"),
        ({"sbatch": {"time": "5"}}, "give it as --time"),
        ({"sbatch": {"output": "x.log"}}, "the workbench sets it itself"),
        ({"sbatch": {"comment": "a\nb"}}, "--sbatch comment"),
    ],
)
def test_options_that_slurm_would_not_understand_are_named(given: dict, named: str) -> None:
    with pytest.raises(ParameterError) as caught:
        SlurmOptions(**given)
    assert named in str(caught.value)


def test_the_time_to_save_never_takes_most_of_the_limit() -> None:
    assert SlurmOptions(time="1").grace == 30
    assert SlurmOptions(time="24:00:00").grace == 120


# -- SLURM's answers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand in for SLURM's; the first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def answer(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_states_come_from_the_queue_and_of_forgotten_jobs_from_the_accounting(commands: Path) -> None:
    answer(commands, "squeue", r"printf '12_0|RUNNING|None\n12_1|PENDING|(PartitionTimeLimit)\n12_9|RUNNING|None\n'")
    answer(commands, "sacct", r"printf '12_2|CANCELLED by 1000\n7|TIMEOUT\n'")
    assert job_states(["12_0", "12_1", "12_2", "7", "8"]) == {
        "12_0": JobState("RUNNING"),
        "12_1": JobState("PENDING", "(PartitionTimeLimit)"),
        "12_2": JobState("CANCELLED"),
        "7": JobState("TIMEOUT"),
    }
    assert slurm.jobs_in_queue(["12_0", "12_1", "12_2", "7", "8"]) == {"12_0", "12_1"}
    assert job_states([]) == {}


def test_a_job_that_slurm_has_forgotten_is_no_outage(commands: Path) -> None:
    answer(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    answer(commands, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert job_states(["5"]) == {}
    answer(commands, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(RunError, match=r"`squeue` failed: slurm_load_jobs error: Unable to contact slurm controller"):
        job_states(["5"])


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


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    return RunFolder.create(tmp_path / "e", spec)


def test_cancelling_a_run_that_waits_in_slurm_takes_its_job_out_of_the_queue(
    commands: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(commands, "scancel", f"echo $1 >> {commands}/cancelled")
    run.queue({"host": "elsewhere", "executor": "slurm", "ticket": "12_3"})
    assert cancel(run) == "cancelled"
    for name, value in (("SLURM_JOB_ID", "15"), ("SLURM_ARRAY_JOB_ID", "12"), ("SLURM_ARRAY_TASK_ID", "4")):
        monkeypatch.setenv(name, value)
    run.claim()
    run.set_status("interrupted", host="a-node")  # preempted: it waits for its requeue
    answer(commands, "squeue", "echo '12_4|PENDING|BeginTime'")
    assert cancel(run) == "cancelled"
    assert (commands / "cancelled").read_text().split() == ["12_3", "12_4"]
    run.claim()
    run.set_status("interrupted", host="a-node")
    answer(commands, "squeue", "echo '12_4|TIMEOUT|TimeLimit'")  # it will not be resumed
    with pytest.raises(RunError, match="nothing to cancel"):
        cancel(run)


def test_a_run_of_slurm_can_be_cancelled_where_slurm_is_out_of_reach(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "15")
    run.claim()
    run.set_status("interrupted", host="a-node")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cancel(run) == "cancelled"


# -- the job on its node -----------------------------------------------------------------------------------------------


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


# -- the printed script ------------------------------------------------------------------------------------------------


class WordsJob(Job):
    """Writes the words it was given, one per line."""

    @property
    def command(self) -> list[str]:
        words = (str(self.parameters["word"]), *self.options)
        return [
            sys.executable,
            "-c",
            "import os, sys; print(*sys.argv[1:], *map(os.environ.get, ('MARK', 'WORKBENCH_QUEUED')), sep='\\n')",
            *words,
        ]


def make_job(folder: Path, index: int) -> Job:
    word = f'it\'s {index} $HOME `x` "y" * é'
    environment = {"MARK": "two words", "CUDA_VISIBLE_DEVICES": "3", "WORKBENCH_QUEUED": "1"}
    return WordsJob(f"e/r{index}", "unet", folder, {"word": word}, folder / "my runs", folder / f"{index}.log", environment)


def run_script(script: Path, index: str, **further: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SLURM_ARRAY_JOB_ID": "77"} | further
    environment |= {"SLURM_ARRAY_TASK_ID": index} if index else {}
    return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_script_is_sound_bash_and_each_index_runs_its_run(tmp_path: Path) -> None:
    script = tmp_path / "sweep.sh"
    options = SlurmOptions(
        partition="gpu", time="12:00:00", gres="gpu:1", array_parallelism=4, sbatch={"exclusive": "", "comment": "a b"}
    )
    script.write_text(slurm_script([make_job(tmp_path, index) for index in range(3)], options, name="ablation"))
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    lines = script.read_text().splitlines()
    for flag in (
        "job-name=ablation", "array=0-2%4", "time=12:00:00", "partition=gpu", "gres=gpu:1", "signal=B:USR2@120", "requeue",
        "exclusive", "comment='a b'",
    ):  # fmt: skip
        assert f"#SBATCH --{flag}" in lines
    assert any(line.startswith("export WORKBENCH_PAUSE_GRACE=90 ") for line in lines)
    assert "CUDA_VISIBLE_DEVICES" not in script.read_text(), "GPUs are SLURM's to deal"
    for index in range(3):
        assert run_script(script, str(index)).returncode == 0
        log = tmp_path / "my runs" / ".slurm" / f"77_{index}.log"
        assert log.read_text().splitlines() == [f'it\'s {index} $HOME `x` "y" * é', "two words", "None"]
    assert run_script(script, "0", SLURM_RESTART_COUNT="1").returncode == 0
    assert (tmp_path / "my runs" / ".slurm" / "77_0.log").read_text().splitlines()[-1] == "1", "a requeue is no submission"
    assert run_script(script, "3").returncode == 2
    without = run_script(script, "")
    assert without.returncode != 0
    assert "submit it with sbatch" in without.stderr
    with pytest.raises(ParameterError, match="nothing to print"):
        slurm_script([], options)


@pytest.mark.parametrize(("name", "requeued"), [("USR2", True), ("TERM", False)])
def test_a_signal_reaches_the_run_and_only_the_time_limit_requeues(name: str, requeued: bool, commands: Path) -> None:
    answer(commands, "scontrol", f'echo "$@" > {commands}/asked')
    body = f"trap 'echo saved > {commands}/saved; exit 1' TERM; touch {commands}/up; while :; do sleep 0.05; done"

    class Stopping(Job):
        command = property(lambda self: [shutil.which("bash"), "-c", body])  # type: ignore[assignment]

    script = commands / "sweep.sh"
    script.write_text(slurm_script([Stopping("e/r", "unet", commands, {}, commands, commands / "log")] * 6, SlurmOptions()))
    environment = {**os.environ, "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "5", "SLURM_JOB_ID": "82"}
    process = subprocess.Popen(["bash", str(script)], env=environment)
    while not (commands / "up").exists():
        assert process.poll() is None
    subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
    assert process.wait(20) == 1
    assert (commands / "saved").exists()
    assert (commands / "asked").exists() == requeued
    if requeued:
        assert (commands / "asked").read_text() == "requeue 77_5\n", "the task, not the array and not the job's own number"

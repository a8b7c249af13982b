"""What SLURM is told, and how its answers are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_stand_ins import answer

from workbench.errors import ParameterError, RunError
from workbench.jobs import slurm
from workbench.jobs.processes import cancel
from workbench.jobs.slurm import JobState, SlurmOptions, job_states
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

"""The job script that is printed for SLURM."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from slurm_stand_ins import answer, make_job

from workbench.errors import ParameterError
from workbench.jobs.executors import Job
from workbench.jobs.slurm import SlurmOptions
from workbench.jobs.slurm_script import slurm_script


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

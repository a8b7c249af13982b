"""One training in several processes, each with a GPU of its own or a share of the CPU's threads.

The run's process starts a launcher, the launcher (torchrun) starts the training processes, and each of them is `training.learn`
on the same run: each takes batches of its own, DistributedDataParallel averages their gradients, and the first process alone
writes to the run folder. The rendezvous is on the loopback address, at a port that the system chooses and torchrun keeps: many
runs may start at once.

    python -m workbench.steps.training_processes launch FOLDER
    python -m workbench.steps.training_processes learn FOLDER

are started by this module only; FOLDER holds `task.json` and takes what the processes report.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.files import read_json, write_json
from workbench.jobs.processes import RUN_VARIABLE, how_it_ended, last_lines
from workbench.records.status import is_alive, process_created
from workbench.setup.devices import check_devices
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.progress import Progress, follow
from workbench.setup.run_setup import RunSetup
from workbench.setup.setup_notes import note_setup
from workbench.setup.starting_weights import start
from workbench.steps.training import learn

TASK_FILE, ENDED_FILE = "task.json", "ended.json"
LAST_LINES = 5
"""Lines of a failed process' log that go into the message where it could not say what was wrong; `run.log` has them all."""


# -- in the process of the run -----------------------------------------------------------------------------------------


def learn_together(setup: RunSetup) -> None:
    """Train in as many processes as `processes` says; returns when all have ended well, cancelled or not.

    Raises:
        ParameterError: too few devices.
        RunError: a process failed; the message says which, and why.
    """
    parameters, run = setup.parameters, setup.run
    check_devices(parameters)
    _ = setup.prepared
    start(setup, setup.network)  # once, and what does not fit is said before anything starts
    note_setup(setup)
    with tempfile.TemporaryDirectory(prefix="wb-") as name:
        folder = Path(name)
        write_json(
            folder / TASK_FILE,
            {
                "method": parameters.method,
                "parameters": parameters.model_dump(mode="json", exclude={"method"}),
                "threads": max(1, int(run.spec["threads"]) // parameters.processes),
                "guardian": [os.getpid(), process_created(os.getpid())],
            },
        )
        command = [sys.executable, "-m", "workbench.steps.training_processes", "launch", name]
        environment = _environment(setup, read_json(folder / TASK_FILE)["threads"])
        with run.beating(), follow(run, progress=setup.progress.bars):
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
            try:
                while process.poll() is None:
                    time.sleep(0.2)
            finally:
                _end(process)
        if process.returncode:
            raise _failure(folder, parameters.processes, process.returncode)


def _environment(setup: RunSetup, threads: int) -> dict[str, str]:
    """What the processes find: their run, their threads, and the loopback interface as the only one to talk over."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    fixed = {
        RUN_VARIABLE: str(setup.run.folder.resolve()),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0",  # 1 looks for a free port and takes it later: a race
    }
    # what torch would warn of: that no parameter went unused in this step, although it must look
    usual = {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return {**usual, **os.environ, **fixed}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher where it still lives (the run was interrupted); it ends its processes, which also watch over us."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        process.kill()
        process.wait()


def _failure(folder: Path, processes: int, code: int) -> WorkbenchError:
    """What went wrong first: a process killed from outside takes the others' connections with it, as does one that raised."""
    ended: list[dict[str, Any]] = []
    with suppress(WorkbenchError):
        ended = read_json(folder / ENDED_FILE)
    reports = sorted((read_json(path) for path in folder.glob("failure-*.json")), key=lambda report: report["time"])
    silent = [item for item in ended if not (folder / f"failure-{item['rank']}.json").exists()]
    if silent:
        rank = silent[0]["rank"]
        lines = [line for path in folder.glob(f"logs/**/{rank}/stderr.log") for line in last_lines(path, LAST_LINES)]
        said = f"; the last lines of its log: {' | '.join(lines)}" if lines else ""
        return RunError(f"training process {rank} of {processes} (rank, from 0) {how_it_ended(silent[0]['code'])}{said}")
    if not reports:
        return RunError(f"the launcher of {processes} training processes {how_it_ended(code)}; run.log says more")
    first = reports[0]
    message = f"training process {first['rank']} of {processes} (rank, from 0): {first['message']}"
    return ParameterError(message) if first["kind"] == "ParameterError" else RunError(message)


# -- in the launcher ---------------------------------------------------------------------------------------------------


def launch(folder: Path) -> int:
    """Run the training processes under torchrun until all have ended, the others as soon as one fails."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    task = read_json(folder / TASK_FILE)
    options = {
        "nnodes": "1", "nproc-per-node": str(task["parameters"]["processes"]), "rdzv-backend": "c10d",
        "rdzv-endpoint": "127.0.0.1:0", "rdzv-id": folder.name, "local-addr": "127.0.0.1", "role": "rank", "max-restarts": "0",
        "log-dir": str(folder / "logs"), "tee": "3",
    }  # fmt: skip
    given = [f"--{name}={value}" for name, value in options.items()]
    try:
        run(parse_args([*given, "-m", "workbench.steps.training_processes", "learn", str(folder)]))
    except ChildFailedError as error:
        failures = sorted(error.failures.items(), key=lambda item: item[1].timestamp)
        write_json(folder / ENDED_FILE, [{"rank": rank, "code": failure.exitcode} for rank, failure in failures])
        return 1
    except SignalException as ended:  # by `_end`; torchrun has ended its processes
        return 128 + int(ended.sigval)
    return 0


# -- in each training process ------------------------------------------------------------------------------------------


class SilentProgress(Progress):
    """The progress of a process that is not the main one: nothing is said twice."""

    def say(self, activity: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Say nothing."""


def learn_as_one(folder: Path) -> int:
    """Train as the process of rank `RANK`; what goes wrong is left in the folder too. Returns the exit code."""
    task, rank = read_json(folder / TASK_FILE), int(os.environ["RANK"])
    threading.Thread(target=_watch, args=(os.getppid(), *task["guardian"]), name="guardian-watch", daemon=True).start()
    try:
        _learn(task, rank)
    except Exception as error:
        told = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        report = {"rank": rank, "time": time.time(), "kind": type(error).__name__, "message": told}
        write_json(folder / f"failure-{rank}.json", report)
        raise
    return 0


def _learn(task: Mapping[str, Any], rank: int) -> None:
    import torch

    setup = RunSetup(ExperimentParameters.build(task["method"], task["parameters"]), progress=False)
    setup.main = rank == 0
    if not setup.main:
        setup.progress = SilentProgress(setup.run, bars=False)
    torch.set_num_threads(task["threads"])
    learn(setup)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _watch(launcher: int, guardian: int, created: float | None) -> None:
    """End this process when the launcher or the run's process is gone: torchrun gives each one a session of its own, so that
    killing the run's process group does not reach it, and it would train on for nobody."""
    while os.getppid() == launcher and is_alive(guardian, created):
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    code = launch(Path(sys.argv[2])) if sys.argv[1] == "launch" else learn_as_one(Path(sys.argv[2]))
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch apart piece by piece takes seconds, and a cancelled run has but a few

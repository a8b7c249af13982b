"""A SLURM of this machine's own: controller and one node on the loopback interface, for as long as the tests need it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from workbench.records.run_folder import RunFolder

sys.path.insert(0, str(Path(__file__).parent))  # what stands in for SLURM is importable

CONFIGURATION = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
MessageTimeout=3
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=1-0 State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=1-0 State=UP PriorityTier=10
"""

SEARCHED = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
"""Where the daemons lie is on the path of few users."""


@dataclass
class SlurmCluster:
    """The daemons and where they write; `SLURM_CONF` points to it."""

    folder: Path
    controller: subprocess.Popen[bytes]
    node: subprocess.Popen[bytes]

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    def state(self, job: str) -> str:
        return self.ask("squeue", "--noheader", "--array", "--states=all", "--format=%T", f"--jobs={job}")

    def wait(self, done: Callable[[], object], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"nothing for {seconds:g} s; {self.ask('squeue', '--array', '--states=all')}"
            time.sleep(0.2)

    def hasten(self, job: str) -> None:
        """Do what SLURM does two minutes after a requeue: let the job begin."""
        self.wait(lambda: "BeginTime" in self.ask("squeue", "--noheader", "--array", "--format=%r", f"--jobs={job}"))
        time.sleep(3.0)  # the end of the first start is still on its way: it would be taken for that of the second
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def kill_controller(self) -> None:
        time.sleep(6.0)  # it writes its jobs down every 5 s, and would come back without those that it has not
        self.controller.kill()
        self.controller.wait()

    def start_controller(self) -> None:
        self.controller = start_daemon("slurmctld", self.folder)
        self.wait(lambda: subprocess.run(["sinfo"], capture_output=True).returncode == 0)


def start_daemon(name: str, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.out").open("ab") as output:
        command = [shutil.which(name, path=SEARCHED) or name, "-D"]
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


@pytest.fixture(scope="module")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    names = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
    missing = [name for name in names if shutil.which(name, path=SEARCHED) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    with socket.socket() as first, socket.socket() as second:
        ports = []
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(host=host, folder=folder, user=getpass.getuser(), controller_port=ports[0], node_port=ports[1])
    )
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(configuration)
    cluster = SlurmCluster(folder, start_daemon("slurmctld", folder), start_daemon("slurmd", folder))
    try:
        if not _comes_up(cluster):
            said = " ".join((folder / f"{name}.out").read_text(errors="replace")[-300:] for name in ("slurmctld", "slurmd"))
            pytest.skip(f"SLURM does not start on this machine: {said}")
        yield cluster
        cluster.ask("scancel", f"--user={getpass.getuser()}")
        with suppress(AssertionError):
            cluster.wait(lambda: not cluster.ask("squeue", "--noheader"), 15.0)
    finally:
        for daemon in (cluster.node, cluster.controller):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _comes_up(cluster: SlurmCluster, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and cluster.controller.poll() is None and cluster.node.poll() is None:
        with suppress(subprocess.SubprocessError):
            if "idle" in cluster.ask("sinfo", "--noheader", "--format=%T"):
                return True
        time.sleep(0.3)
    return False


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that stand in for SLURM's; the first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    return RunFolder.create(tmp_path / "e", spec)

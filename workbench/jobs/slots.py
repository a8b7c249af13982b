"""Slots of this machine: how many runs compute at once, on which GPU, with how many threads.

Each slot is a lock file that all sweeps of one user on this machine share. The lock belongs to the open file, which the run's
process inherits: it goes when that process ends, however it ends, and survives the sweep that took it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.errors import ParameterError


@dataclass
class Slot:
    """What was taken: one slot, or one per GPU of a run on several.

    As a context it lets go of its own handles at the end, and the process that inherited them goes on.
    """

    names: tuple[str, ...]
    descriptors: tuple[int, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        _close(self.descriptors)


class SlotPool:
    """The slots of this machine.

    Args:
        slots: how many runs at once; 0: one per GPU where there are any, else one per `threads` cores. With GPUs they are dealt
            to the GPUs in turn.
        threads: CPU threads per run; 0: the cores shared out evenly.
        folder: where the lock files lie; default: a folder of this user in the machine's temporary folder.
        gpus: UUIDs of the GPUs to use; default: what `CUDA_VISIBLE_DEVICES` allows of those `nvidia-smi` lists.
    """

    def __init__(
        self, slots: int = 0, threads: int = 0, *, folder: Path | None = None, gpus: tuple[str, ...] | None = None
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        self.gpus = visible_gpus() if gpus is None else gpus
        self.slots = slots or len(self.gpus) or max(1, cores // (threads or 1))
        self.threads = threads or max(1, cores // self.slots)
        self.folder = folder or Path(tempfile.gettempdir()) / f"workbench-slots-{os.getuid()}"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """Names of all slots: `<GPU>-<number>` or `cpu-<number>`."""
        if not self.gpus:
            return [f"cpu-{number}" for number in range(self.slots)]
        return [f"{self.gpus[number % len(self.gpus)]}-{number // len(self.gpus)}" for number in range(self.slots)]

    def take(self, gpus: int = 1) -> Slot | None:
        """Take a free slot; None where there is none.

        Args:
            gpus: how many GPUs the run trains on, each another slot; without GPUs a run takes one slot, whatever it does in it.
                More than there are is all there are: the run says what it lacks, and no sweep waits for what never comes.
        """
        wanted = max(1, min(gpus, len({name.rpartition("-")[0] for name in self.names()}))) if self.gpus else 1
        taken: dict[str, int] = {}
        for name in self.names():
            if self.gpus and name.rpartition("-")[0] in {other.rpartition("-")[0] for other in taken}:
                continue  # another slot of the same GPU
            if len(taken) < wanted and (descriptor := self._lock(name)) is not None:
                taken[name] = descriptor
        if len(taken) < wanted:
            _close(taken.values())
            return None
        return Slot(tuple(taken), tuple(taken.values()), self._environment(tuple(taken)))

    def free(self) -> int:
        """How many slots nobody holds."""
        found = [descriptor for name in self.names() if (descriptor := self._lock(name)) is not None]
        _close(found)
        return len(found)

    def _lock(self, name: str) -> int | None:
        descriptor = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def _environment(self, names: tuple[str, ...]) -> dict[str, str]:
        threads = {variable: str(self.threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # GPUs by their UUIDs: numbers change with CUDA_VISIBLE_DEVICES and under MIG
        visible = ",".join(name.rpartition("-")[0] for name in names)
        return threads | ({"CUDA_VISIBLE_DEVICES": visible} if self.gpus else {})


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def visible_gpus() -> tuple[str, ...]:
    """UUIDs of the GPUs that this process may use, by `nvidia-smi`; none where there is no driver.

    Raises:
        ParameterError: `CUDA_VISIBLE_DEVICES` names a GPU that is not there.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, timeout=20, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return ()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return tuple(listed)
    chosen = []
    for entry in filter(None, (part.strip() for part in allowed.split(","))):
        if entry.isdigit() and int(entry) < len(listed):
            chosen.append(listed[int(entry)])
        elif matches := [uuid for uuid in listed if uuid.startswith(entry)]:
            chosen.append(matches[0])
        elif entry.startswith("MIG-"):  # part of a GPU: not among those listed, and a UUID already
            chosen.append(entry)
        elif entry != "-1":
            raise ParameterError(f"CUDA_VISIBLE_DEVICES names '{entry}', and nvidia-smi lists {', '.join(listed) or 'none'}")
    return tuple(chosen)

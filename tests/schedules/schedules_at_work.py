"""Schedules at work, by a clock that stands still until it is put forward, or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workbench.records.run_folder import RunFolder
from workbench.schedules import check, occurrences
from workbench.schedules.occurrences import read_history
from workbench.schedules.schedule import write_schedule
from workbench.schedules.ticker import Ticker

START = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)


SPEC = {"method": "unet", "parameters": {}, "cohort": {"name": "demo", "fingerprint": "f"}}


def later(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


class Clock:
    """A clock that stands still until it is put forward, or back."""

    def __init__(self, minutes: float = 0) -> None:
        self.now = later(minutes)

    def __call__(self) -> datetime:
        return self.now


def add(runs: Path, name: str = "n", every: str = "60m", **values: Any) -> None:
    given = {"zone": "UTC", "created": START, "since": START, "sweep": "../s.yaml", "every": every, "name": name}
    write_schedule(runs, check.Schedule.model_validate({**given, **values}))


def done(runs: Path) -> list[str]:
    path = runs.parent / "done"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def tick(runs: Path, minutes: float, told: list | None = None) -> bool:
    return Ticker(runs, (told if told is not None else []).append, Clock(minutes)).run(poll=0.01)


def outcomes(runs: Path, name: str = "n") -> list[str]:
    return [record["outcome"] for record in read_history(runs, name)]


def leave(runs: Path, **facts: Any) -> None:
    """A claim whose scheduler was killed; with `facts`, after it had started what is due."""
    own = occurrences.claim(runs, "n", datetime(2026, 11, 21, 13, tzinfo=UTC))
    assert own is not None
    own.noted(pid=2**22 + 1, **facts)


def make_run(folder: Path, state: str, **spec: Any) -> None:
    run = RunFolder.create(folder.parent, SPEC | {"run": folder.name, "experiment": folder.parent.name} | spec)
    run.claim()
    run.set_status(state, finished="2999-01-01T00:00:00+00:00")  # after whatever it is held against

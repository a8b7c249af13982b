"""Progress across the process boundary: the kernel writes `progress.json`, the driver shows it as a bar in the terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm as notebook_tqdm
from tqdm.std import tqdm as terminal_tqdm

from workbench.errors import WorkbenchError
from workbench.files import read_json, write_json
from workbench.records.run_folder import RunFolder

PROGRESS_FILE = "progress.json"
LINE_EVERY = 15.0
"""Seconds between two lines of progress in a log file."""

T = TypeVar("T")


class Progress:
    """Says what a run is doing: into its folder always (for driver and dashboard), and as a bar where a person is watching.

    Args:
        run: the run.
        bars: show tqdm bars here (JupyterLab); a notebook executed by Papermill shows none, its driver does.
    """

    def __init__(self, run: RunFolder, *, bars: bool) -> None:
        self.run = run
        self.bars = bars
        self._written = 0.0

    def say(self, activity: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Record the state of an activity, at most once a second besides its beginning and end."""
        moment = time.monotonic()
        if 0 < done < total and moment - self._written < 1.0:
            return
        self._written = moment
        with suppress(OSError):  # progress is not worth a failed run
            write_json(self.run.folder / PROGRESS_FILE, {"activity": activity, "done": done, "total": total, "detail": detail})
        self.run.heartbeat()

    def over(self, items: Iterable[T], activity: str, total: int) -> Iterator[T]:
        """Iterate and report.

        Raises:
            StopRequest: the run was asked to stop; nothing is begun any more.
        """
        self.say(activity, 0, total)
        for done, item in enumerate(notebook_tqdm(items, desc=activity, total=total, disable=not self.bars), start=1):
            self.run.raise_on_stop()
            yield item
            self.say(activity, done, total)


class ReportingRecorder:
    """A run folder as training's `Recorder` that also reports progress."""

    def __init__(
        self, run: RunFolder, progress: Progress, total: int, beside: Callable[[], Mapping[str, float]] | None = None
    ) -> None:
        self.run = run
        self.progress = progress
        self.beside = beside
        """What was found along with the validation score, name -> value; recorded at its step."""
        self.total = total
        self._detail: dict[str, float] = {}

    def scalar(self, name: str, value: float, step: int) -> None:
        """See `contracts.Recorder`."""
        self.run.scalar(name, value, step)
        if name == "validation/score" and self.beside is not None:
            for extra, number in self.beside().items():
                self.run.scalar(extra, number, step)
        if name in {"train/objective", "validation/score"}:
            self._detail[name.split("/")[1]] = value
        detail = ", ".join(f"{name} {number:.3f}" for name, number in self._detail.items())
        self.progress.say("training", step, self.total, detail)

    def checkpoint(self, name: str) -> Path:
        """See `contracts.Recorder`."""
        return self.run.checkpoint(name)

    def should_stop(self) -> bool:
        """See `contracts.Recorder`."""
        return self.run.should_stop()


@contextmanager
def follow(run: RunFolder, *, progress: bool) -> Iterator[None]:
    """Show a run's progress on standard error for as long as the block lasts."""
    (run.folder / PROGRESS_FILE).unlink(missing_ok=True)
    if not progress:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(run, done), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=3)


def _show(run: RunFolder, finished: threading.Event) -> None:
    title = f"{run.spec['method']} on {run.spec['cohort']['name']}"
    screen = _Bars(title) if sys.stderr.isatty() else _Lines(title)
    while True:
        last = finished.wait(0.5)
        with suppress(WorkbenchError, KeyError, TypeError):
            screen.update(read_json(run.folder / PROGRESS_FILE), last=last)
        if last:
            screen.close()
            return


class _Bars:
    """One bar per activity, for a terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.activity = ""
        self.bar: Any = None

    def update(self, state: dict[str, Any], *, last: bool) -> None:
        if self.bar is None or state["activity"] != self.activity:
            self.close()
            self.activity = state["activity"]
            label = f"{self.title}: {self.activity}"
            self.bar = terminal_tqdm(desc=label, total=state["total"] or None, mininterval=0, dynamic_ncols=True)
        self.bar.set_postfix_str(state["detail"], refresh=False)
        self.bar.update(state["done"] - self.bar.n)
        self.bar.refresh()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class _Lines:
    """A line now and then, for a log file."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.said: tuple[str, int] | None = None
        self.moment = float("-inf")

    def update(self, state: dict[str, Any], *, last: bool) -> None:
        now = (state["activity"], state["done"])
        begins = self.said is None or now[0] != self.said[0]
        due = time.monotonic() - self.moment >= LINE_EVERY or state["done"] == state["total"]
        if now != self.said and (begins or due or last):
            self.said, self.moment = now, time.monotonic()
            detail = f" ({state['detail']})" if state["detail"] else ""
            sys.stderr.write(f"{self.title}: {now[0]} {now[1]}/{state['total']}{detail}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing to close."""

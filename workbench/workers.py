"""Worker processes that do not outlive the process that started them, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait

from workbench.errors import WorkbenchError


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, started anew (not forked); a script that uses one needs ``if __name__ == "__main__"``.

    Where the block is left by an exception or an interrupt, what waits is dropped and what is in hand is finished. Where this
    process is killed, its workers end at once.

    Raises:
        WorkbenchError: a worker ended by itself.
    """
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise WorkbenchError(
            "a worker process was ended from outside, often for lack of memory: try fewer workers; what is done is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """What a worker does first. An interrupt at the keyboard reaches it too, but is its parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone: waiting for work, it would not notice."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)

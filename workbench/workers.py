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
from multiprocessing.connection import Connection, wait

from workbench.errors import WorkbenchError


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, started anew (not forked); a script that uses one needs ``if __name__ == "__main__"``.

    Where the block is left by an exception or an interrupt, or this process is killed, the workers end at once, whatever they
    have in hand: what they make must be whole or not there.

    Raises:
        WorkbenchError: a worker was ended from outside.
    """
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    with watched, held:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(watched,))
        try:
            yield pool
        except BaseException as error:
            held.close()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise WorkbenchError(
                    "a worker process was ended from outside, often for lack of memory: try fewer workers; what is done is kept"
                ) from error
            raise
        pool.shutdown()


def _begin(watched: Connection) -> None:
    """What a worker does first. An interrupt at the keyboard reaches it too, but is its parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(watched,), name="parent-watch", daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    """End this process as soon as its parent lets go of the pipe or is gone: waiting for work, it would not notice."""
    wait([watched])
    os._exit(1)

"""Worker processes end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from workbench.errors import WorkbenchError
from workbench.workers import worker_pool

SCRIPT = """
import os, sys, time
from pathlib import Path
from workbench.workers import worker_pool

def work(folder, seconds):
    Path(folder, str(os.getpid())).touch()
    time.sleep(seconds)

if __name__ == "__main__":
    folder, seconds = sys.argv[1], float(sys.argv[2])
    with worker_pool(2) as pool:
        for done in [pool.submit(work, folder, seconds) for _ in range(8)]:
            done.result()
            if seconds == 0:
                time.sleep(60)  # the workers have nothing to do
"""


def wait_for(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("seconds", [1.0, 0.0], ids=["working", "idle"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_no_worker_is_left_when_its_parent_ends(tmp_path: Path, how: signal.Signals, seconds: float) -> None:
    script, started = tmp_path / "script.py", tmp_path / "started"
    script.write_text(SCRIPT)
    started.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(started), str(seconds)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_for(lambda: any(started.iterdir()))
        children = psutil.Process(parent.pid).children(recursive=True)
        assert {int(path.name) for path in started.iterdir()} <= {child.pid for child in children}
        parent.send_signal(how)
        parent.wait(30)
        assert wait_for(lambda: all(gone(child) for child in children), 10), [c.cmdline() for c in children if not gone(c)]
    finally:
        parent.kill()
        parent.wait()


def test_a_worker_that_is_killed_is_said() -> None:
    with pytest.raises(WorkbenchError, match="often for lack of memory"), worker_pool(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()

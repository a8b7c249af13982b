"""What is said of a run that failed: the sentence, the cell, the last lines; from real exceptions of real data loaders."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError

from workbench.contracts import Batch
from workbench.execution.failure import failure_of
from workbench.execution.kernel import first_line
from workbench.jobs.processes import LINES, how_it_ended, last_lines
from workbench.records.run_folder import RunFolder
from workbench.training.feeding import numbered_batches

SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "e", SPEC)


def kernel(cell: tuple[int, int, str] | None = (2, 1, "# train\nexperiment.train()"), exit_code: int | None = None) -> object:
    return SimpleNamespace(cell=cell, exit_code=exit_code)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    cells = [nbformat.v4.new_markdown_cell("intro\n## Training\ntext"), nbformat.v4.new_code_cell("experiment.train()")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    return tmp_path / "n.ipynb"


def cell_error(error: BaseException, lines: int = 3) -> PapermillExecutionError:
    trace = [f"\x1b[0;31mframe {index}\x1b[0m" for index in range(lines)]
    return PapermillExecutionError(1, 2, "experiment.train()", type(error).__name__, str(error), trace)


def test_the_sentence_names_cell_and_exception(run: RunFolder, notebook: Path) -> None:
    sentence, details = failure_of(run, cell_error(ValueError("no such thing"), lines=50), kernel(), notebook)
    assert sentence == "cell 2 (experiment.train()): ValueError: no such thing"
    assert (details["cell"], details["heading"], details["exception"]) == (2, "Training", "ValueError")
    assert details["lines"] == [f"frame {index}" for index in range(50 - LINES, 50)], "the last ones, without colours"


def test_the_numbered_source_around_a_frame_is_left_out(run: RunFolder, notebook: Path) -> None:
    error = cell_error(ValueError("x"))
    error.traceback = ["File a.py:2, in f()\n      1 one\n----> 2 two\n   (...)    11 more\n     12 ", "ValueError: x"]
    assert failure_of(run, error, kernel(), notebook)[1]["lines"] == ["File a.py:2, in f()", "----> 2 two", "ValueError: x"]


def test_a_long_message_is_shortened_and_a_torn_notebook_is_no_obstacle(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "torn.ipynb").write_text('{"cells": [')
    sentence, details = failure_of(run, cell_error(ValueError("x\n" * 5000)), kernel(), tmp_path / "torn.ipynb")
    assert len(sentence) < 700
    assert "\n" not in sentence
    assert details["heading"] == ""


def _broken(index: int) -> Batch:
    error = ValueError(f"batch {index} is torn")
    error.add_note("while drawing from case P-007")
    raise error


def _killed(index: int) -> Batch:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(index)


def test_an_exception_in_a_data_worker_is_told_as_itself(run: RunFolder, notebook: Path) -> None:
    with pytest.raises(ValueError, match="Caught") as caught:
        next(numbered_batches(_broken, range(3, 5), workers=1))
    sentence, _ = failure_of(run, cell_error(caught.value), kernel(), notebook)
    assert sentence.startswith("cell 2 (experiment.train()): ValueError: batch 3 is torn while drawing from case P-007")
    assert sentence.endswith("(in data loading process 0)")


def test_a_killed_data_worker_is_told_with_its_signal(run: RunFolder, notebook: Path) -> None:
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        next(numbered_batches(_killed, range(2), workers=1))
    sentence, _ = failure_of(run, cell_error(caught.value), kernel(), notebook)
    assert sentence.startswith("cell 2 (experiment.train()): data loading process")
    assert "Killed" in sentence or "ended unexpectedly" in sentence, "torch hears of it in one of two ways"
    assert "out of memory" in sentence


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-9, "SIGKILL: probably out of memory"),
        (-11, "SIGSEGV"),
        (-15, "SIGTERM"),
        (3, "by itself with exit code 3"),
        (-64, "SIG"),
    ],
)
def test_a_dead_kernel_says_of_what(run: RunFolder, notebook: Path, code: int, text: str) -> None:
    assert text in how_it_ended(code)
    sentence, details = failure_of(run, RuntimeError("Kernel died"), kernel(exit_code=code), notebook)
    assert sentence.startswith("cell 2 (experiment.train()): the kernel ")
    assert text in sentence
    assert details["exception"] == "DeadKernelError"
    assert failure_of(run, RuntimeError("Kernel died before replying to kernel_info"), kernel(None, code), notebook)[
        0
    ].startswith("before the first cell: the kernel")
    assert "kernel" not in failure_of(run, OSError(5, "Input/output error"), kernel(exit_code=-15), notebook)[0], "ended by us"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), cell_error(OSError(28, "No space left on device"))])
def test_a_full_disk_is_told_with_the_way_out(run: RunFolder, notebook: Path, error: Exception) -> None:
    sentence, _ = failure_of(run, error, kernel(), notebook)
    assert f"the disk that holds {run.folder} is full" in sentence
    assert "workbench runs prune" in sentence


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    assert last_lines(log) == []
    log.write_bytes(b"x" * 100_000 + b"\n" + b"".join(b"\x1b[1mline %d\x1b[0m\n\n" % index for index in range(30)) + b"\xff torn")
    assert last_lines(log, 3) == ["line 28", "line 29", "\ufffd torn"]


def test_a_cell_is_known_by_its_first_line_of_code() -> None:
    assert first_line("# NBVAL_CHECK_OUTPUT\nprint(1)") == "print(1)"
    assert first_line("# only a remark") == "# only a remark"
    assert first_line("") == "(empty)"


def test_a_kernel_that_failed_while_telling_is_understood_from_its_log(run: RunFolder, notebook: Path) -> None:
    """As when the system kills a data loading process: torch raises again inside the formatting of the first traceback."""
    wordless = PapermillExecutionError(1, 2, "experiment.train()", "CellExecutionError", "", [])
    assert "could not say why" in failure_of(run, wordless, kernel(), notebook)[0]
    run.path("run.log").write_text(
        "RuntimeError: older\n  raise\nRuntimeError: DataLoader worker (pid 16355) is killed by signal: Killed. \n[now] end\n"
    )
    sentence, details = failure_of(run, wordless, kernel(), notebook)
    assert "data loading process 16355 was killed by the signal 'Killed'" in sentence
    assert details["exception"] == "RuntimeError"

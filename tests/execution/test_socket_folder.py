"""Sockets of a kernel, wherever TMPDIR points: a short private folder, or a message that names TMPDIR."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.execution import socket_folder
from workbench.execution.kernel import Kernel
from workbench.execution.socket_folder import LONGEST, is_short, make_socket_folder
from workbench.records.run_folder import RunFolder

SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}


@pytest.fixture(params=["x" * 125, "é" * 60, "not there", "with spaces " * 8, "a file"])
def odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that is no place for sockets."""
    folder = tmp_path / request.param
    if request.param == "a file":
        folder.write_text("")
    elif request.param != "not there":
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert not folder.is_dir() or not list(folder.iterdir()), "nothing is left where no socket could be made"


def test_a_temporary_folder_that_is_too_long_or_missing_gives_way_to_a_short_private_one(odd: Path) -> None:
    folder = make_socket_folder()
    try:
        assert is_short(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / LONGEST).parent.mkdir()
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(folder / LONGEST))
    finally:
        socket_folder.shutil.rmtree(folder)


def test_a_kernel_makes_the_sockets_of_its_data_workers_there_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 125)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    kernel = Kernel(RunFolder.create(tmp_path / "e", SPEC), 0.0)
    with kernel.environment():
        assert os.environ["TMPDIR"] == str(kernel.sockets)
    assert os.environ["TMPDIR"] == str(long)
    kernel.close()
    assert not Path(kernel.sockets).exists()


def test_where_no_place_will_do_the_message_names_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 125)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(socket_folder, "SHORT", (str(tmp_path / "none"),))
    with pytest.raises(RunError, match=r"TMPDIR.*too long.*none: No such file"):
        make_socket_folder()
    assert not list(long.iterdir())

"""Every method in two processes equals the same method in one that accumulates the same two batches.

The gradient of a step is then the mean over the same batches, and nothing else differs; with two addends even the rounding is the
same. What legitimately differs is batch normalisation's running statistics: they follow the batches of the main process alone,
half as many, and are therefore compared by how many batches they have seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from distributed_runs import CASES, FORMS, run
from folder_recorder import FolderRecorder

from workbench.files import read_json
from workbench.training.checkpoints import load_checkpoint

TOLERANCE = 1e-5
"""Relative and absolute, of float32 loss terms and weights."""
RUNNING = ("running_mean", "running_var", "num_batches_tracked")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one/<form>` and `two/<form>`: starting processes and importing torch cost most, so one launch trains everything."""
    folder = tmp_path_factory.mktemp("distributed")
    here = Path(__file__).parent
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(here / "distributed_runs.py"),
        str(folder / "two"), json.dumps(list(FORMS)),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (here, here.parent))), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, timeout=900, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each of the two processes has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_equal_two_accumulated_batches(form: str, folder: Path) -> None:
    run(form, folder / "one" / form, accumulate=2)
    expected, found = (FolderRecorder(folder / name / form).events() for name in ("one", "two"))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), key

    one, two = (load_checkpoint(folder / name / form / "checkpoints" / "last") for name in ("one", "two"))
    assert (one.metadata["budget"]["processes"], two.metadata["budget"]["processes"]) == (1, 2)
    for count in ("samples", "steps", "flops"):
        assert one.metadata["budget"][count] == two.metadata["budget"][count], count
    assert one.model.keys() == two.model.keys()
    for key, value in one.model.items():
        if not key.endswith(RUNNING):
            torch.testing.assert_close(two.model[key], value, rtol=TOLERANCE, atol=TOLERANCE, msg=key)
        elif key.endswith("num_batches_tracked"):
            assert int(two.model[key]) * 2 == int(value), key

    name, options = FORMS[form]
    untrained = CASES[name].build(**options).state_dict()
    assert any(not torch.equal(two.model[key], untrained[key]) for key in untrained if not key.endswith(RUNNING))


@pytest.mark.parametrize("form", FORMS)
def test_both_processes_hold_the_same_weights(form: str, folder: Path) -> None:
    first, second = read_json(folder / "two" / form / "digest.json")
    assert first["digest"] == second["digest"]

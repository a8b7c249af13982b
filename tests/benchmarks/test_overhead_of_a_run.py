"""What the road of a run costs (driver, kernel, Papermill, record, report) over the notebook's own steps in one plain process."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from workbench.cohort.table import Cohort
from workbench.setup.parameters import ExperimentParameters

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "unet.ipynb"
VALUES: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "epochs": 2, "steps_per_epoch": 20, "resamples": 100, "maps": 1, "threads": 1, "width": 4,
    "levels": 3, "patch": 32, "subsets": "few",
}  # fmt: skip
SHARE = 0.02
"""Share of the steps' own time that the road may cost, besides once the time that PyTorch and MONAI take to be imported."""
BARE = """
import json, sys
notebook, values = json.load(open(sys.argv[1])), json.loads(sys.argv[2])
cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
space = {}
exec(cells[0], space)
space.update(values)
for cell in cells[1:]:
    exec(cell, space)
"""


def seconds(command: list[str]) -> tuple[float, float]:
    """(processor time of the process and all it started, wall time)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


@pytest.mark.slow
def test_the_road_of_a_run_costs_little(tiny_cohort: Cohort, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """Held in processor time, which other programs on the machine do not change; wall time is printed beside it."""
    ExperimentParameters.build("unet", VALUES)
    seconds([sys.executable, "-m", "workbench.cli", "prepare", str(tiny_cohort.folder), "--spacing", "4"])

    def road(name: str) -> list[str]:
        given = VALUES | {"cohort": tiny_cohort.folder, "runs": tmp_path / name}
        return [sys.executable, "-m", "workbench.cli", "run", "unet", *(f"-p{key}={value}" for key, value in given.items())]

    def bare(name: str) -> list[str]:
        given = VALUES | {"cohort": str(tiny_cohort.folder), "runs": str(tmp_path / name)}
        return [sys.executable, "-c", BARE, str(NOTEBOOK), json.dumps(given)]

    def measure() -> tuple[tuple[float, float], ...]:
        return seconds(bare("bare")), seconds(road("road")), seconds([sys.executable, "-c", "import torch, monai"])

    (plain, plain_wall), (ours, ours_wall), (peer, _) = benchmark.pedantic(measure, rounds=1)
    table = {"steps alone (s)": plain, "run (s)": ours, "overhead (s)": ours - plain, "steps alone, wall (s)": plain_wall,
             "run, wall (s)": ours_wall, "importing PyTorch and MONAI (s)": peer}  # fmt: skip
    benchmark.extra_info |= {name: round(value, 2) for name, value in table.items()}
    print("\n".join(f"{name:<32}{value:8.2f}" for name, value in table.items()))
    assert ours - plain < peer + SHARE * plain

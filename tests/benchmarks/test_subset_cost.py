"""All 15 subsets of four sequences together, against one pass with all four and against 15 passes, per method in the same run.

Methods that encode each sequence on its own (MoME, mmFormer, MASM) share the encoders; those that stack sequences as channels can
only share a batch. `WORKBENCH_BENCHMARK_SIDE` and `WORKBENCH_BENCHMARK_WIDTH` set the size.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from workbench.contracts import SEGMENTATION
from workbench.models.options import demo_options
from workbench.models.registry import create_model, list_models
from workbench.sampling.dropout import subsets

SIDE = int(os.environ.get("WORKBENCH_BENCHMARK_SIDE", "64"))
NAMES = ("t1", "t1c", "t2", "flair")
METHODS = [entry.name for entry in list_models() if entry.network and SEGMENTATION in entry.tasks]
SHARING = {"mome", "mmformer", "masm"}
"""Methods whose encoders see one sequence at a time."""


def seconds(function: Callable[[], Any]) -> float:
    """The quicker of two."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.slow
def test_fifteen_subsets_cost_less_than_fifteen_passes(benchmark: BenchmarkFixture) -> None:
    sets = subsets(NAMES)
    shown = torch.tensor([[name in chosen for name in NAMES] for chosen in sets])
    images = torch.randn(1, 4, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def measure() -> dict[str, tuple[float, float, float]]:
        found = {}
        for method in METHODS:
            model = create_model(method, modalities=NAMES, **demo_options(method)).eval()
            with torch.inference_mode():

                def whole(model: Any = model) -> None:
                    model(images, shown[-1:], NAMES, tasks=(SEGMENTATION,))

                def apart(model: Any = model) -> None:
                    for row in shown:
                        model(images, row[None], NAMES, tasks=(SEGMENTATION,))

                def together(model: Any = model) -> None:
                    model.forward_subsets(images, shown, NAMES)

                whole()
                found[method] = (seconds(whole), seconds(apart), seconds(together))
        return found

    table = benchmark.pedantic(measure, rounds=1)
    print(f"\n15 subsets at {SIDE}^3, demo widths      all four (s)   15 passes / one   together / one   together / 15 passes")
    for method, (one, apart, together) in table.items():
        print(f"{method:<34} {one:>12.3f} {apart / one:>17.1f} {together / one:>16.1f} {together / apart:>22.2f}")
        benchmark.extra_info[f"{method}: together / 15 passes"] = round(together / apart, 2)
    for method in SHARING & set(table):
        _, apart, together = table[method]
        assert together < 0.8 * apart, f"{method} shares its encoders"

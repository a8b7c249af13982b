"""All 15 subsets of four sequences together, against one pass with all four and against 15 passes, per method in the same run.

Methods that encode each sequence on its own (MoME, mmFormer, MASM) share the encoders; those that stack sequences as channels can
only share a batch. Demo widths; `WORKBENCH_BENCHMARK_SIDE` is the edge of the volume, or the smallest that the method takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from workbench.contracts import SEGMENTATION
from workbench.models.options import demo_options
from workbench.models.registry import create_model
from workbench.sampling.dropout import subsets

SIDE = int(os.environ.get("WORKBENCH_BENCHMARK_SIDE", "32"))
NAMES = ("t1", "t1c", "t2", "flair")
METHODS = ("unet", "mts_unet", "mgmt_net", "mome", "mome_plus", "masm", "mmformer", "m4oe", "brainfm", "amaes")
SHARING = {"mome", "mmformer", "masm"}
"""Methods whose encoders see one sequence at a time."""


def seconds(function: Callable[[], Any]) -> float:
    """Of processor time on one thread: what else runs on the machine does not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


@pytest.mark.slow
def test_fifteen_subsets_cost_less_than_fifteen_passes(benchmark: BenchmarkFixture) -> None:
    sets = subsets(NAMES)
    shown = torch.tensor([[name in chosen for name in NAMES] for chosen in sets])

    def measure() -> dict[str, tuple[float, float, float]]:
        found = {}
        for method in METHODS:
            model = create_model(method, modalities=NAMES, **demo_options(method)).eval()
            images = torch.randn(1, 4, *[max(SIDE, model.minimum)] * 3, generator=torch.Generator().manual_seed(0))
            with torch.inference_mode():

                def whole(model: Any = model, images: Tensor = images) -> None:
                    model(images, shown[-1:], NAMES, tasks=(SEGMENTATION,))

                def apart(model: Any = model, images: Tensor = images) -> None:
                    for row in shown:
                        model(images, row[None], NAMES, tasks=(SEGMENTATION,))

                def together(model: Any = model, images: Tensor = images) -> None:
                    model.forward_subsets(images, shown, NAMES)

                whole()
                found[method] = (min(seconds(whole) for _ in range(3)), seconds(apart), seconds(together))
        return found

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = benchmark.pedantic(measure, rounds=1)
    finally:
        torch.set_num_threads(threads)
    print(f"\n15 subsets, edge at least {SIDE}      all four (s)   15 passes / one   together / one   together / 15 passes")
    for method, (one, apart, together) in table.items():
        print(f"{method:<34} {one:>12.3f} {apart / one:>17.1f} {together / one:>16.1f} {together / apart:>22.2f}")
        benchmark.extra_info[f"{method}: together / 15 passes"] = round(together / apart, 2)
    for method in SHARING & set(table):
        _, apart, together = table[method]
        assert together < 0.8 * apart, f"{method} shares its encoders"

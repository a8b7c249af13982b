"""All 15 subsets of four sequences together, against one pass with all four and against 15 passes, per method in the same run.

Methods that encode each sequence on its own (MoME, mmFormer, MASM) share the encoders; those that stack sequences as channels can
only share a batch. Demo widths; `WORKBENCH_BENCHMARK_SIDE` is the edge of the volume, or the smallest that the method takes.
Times are printed; what is held to a bound is the number of operations, which is the same on every machine.
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
from torch.utils.flop_counter import FlopCounterMode

from workbench.contracts import SEGMENTATION
from workbench.models.options import demo_options
from workbench.models.registry import create_model
from workbench.sampling.dropout import subsets

SIDE = int(os.environ.get("WORKBENCH_BENCHMARK_SIDE", "32"))
NAMES = ("t1", "t1c", "t2", "flair")
ALL = ("unet", "mts_unet", "mgmt_net", "mome", "mome_plus", "masm", "mmformer", "m4oe", "brainfm", "amaes")
SHARING = {"mome": 0.2, "mmformer": 0.65, "masm": 0.7}
"""Methods whose encoders see one sequence at a time -> largest share of the operations of 15 passes."""


def seconds(function: Callable[[], Any]) -> float:
    """Of processor time on one thread: what else runs on the machine does not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


def operations(function: Callable[[], Any]) -> int:
    """Of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.slow
def test_fifteen_subsets_cost_less_than_fifteen_passes(benchmark: BenchmarkFixture) -> None:
    """With `make bench` all methods; as a test those that a bound is set for."""
    methods = ALL if benchmark.enabled else tuple(SHARING)
    sets = subsets(NAMES)
    shown = torch.tensor([[name in chosen for name in NAMES] for chosen in sets])

    def measure() -> dict[str, tuple[float, float, float, float]]:
        found = {}
        for method in methods:
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
                share = operations(together) / operations(apart) if method in SHARING else float("nan")
                found[method] = (min(seconds(whole) for _ in range(3)), seconds(apart), seconds(together), share)
        return found

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        table = benchmark.pedantic(measure, rounds=1)
    finally:
        torch.set_num_threads(threads)
    columns = "all four (s)   15 passes / one   together / one   together / 15 passes   operations"
    print(f"\n15 subsets, edge at least {SIDE}    {columns}")
    for method, (one, apart, together, share) in table.items():
        times = f"{one:>12.3f} {apart / one:>17.1f} {together / one:>16.1f} {together / apart:>22.2f}"
        print(f"{method:<32} {times} {share:>12.2f}")
        benchmark.extra_info[f"{method}: together / 15 passes"] = round(together / apart, 2)
    for method, largest in SHARING.items():
        assert table[method][3] < largest, f"{method} shares its encoders"

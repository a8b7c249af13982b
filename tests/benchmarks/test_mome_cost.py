"""Parameters, peak memory and time of MoME and of the networks it is compared with, run for real at a small size."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.steps.cost import cost_table


@pytest.mark.slow
@pytest.mark.nightly
def test_what_mome_costs_beside_the_networks_it_is_compared_with(benchmark: Any) -> None:
    """Five sequences, two classes, width 8, four stages, 32^3, batch 1, one thread; `cost_table` at any other size."""
    table = benchmark.pedantic(
        cost_table, args=(("t1", "t1c", "t2", "flair", "dwi"), 2, 14), rounds=1,
        kwargs={"options": {"width": 8, "levels": 4}, "side": 32, "batch": 1, "run": True},
    )  # fmt: skip
    print(f"\n{table.round(3).to_string()}")
    seconds, peak = table["seconds a step"], table["peak memory (GiB)"]
    benchmark.extra_info["MoME / pooled U-Net, time"] = round(seconds["MoME"] / seconds["pooled U-Net"], 1)
    benchmark.extra_info["MoME / pooled U-Net, memory"] = round(peak["MoME"] / peak["pooled U-Net"], 1)
    assert 3 < seconds["MoME"] / seconds["pooled U-Net"] < 20
    assert seconds["MoME, experts frozen"] < seconds["MoME"]
    kept = table["kept activations (GiB)"]  # counted; a process' peak at this size is the allocator's
    for saving in ("MoME, experts checkpointed", "MoME, experts frozen"):
        assert kept[saving] < 0.5 * kept["MoME"]

"""What MASM costs beside the same U-Net on concatenated sequences, and what dropping tokens saves.

Nominal: operations counted at the paper's size on the meta device (matrix products and convolutions, two per multiply-add), where
every token is computed. Measured: a forward pass at a size that two cores do in seconds, of the U-Net, of MASM with all tokens
computed, and of MASM with the kept ones gathered; operations of the gathered pass are counted too. All ratios are of one run.
WORKBENCH_BENCHMARK_SIDE=128 and WORKBENCH_BENCHMARK_WIDTH=32 are the paper's size.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from workbench.models.masm.masm import Masm
from workbench.models.method import MethodModule
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")
SIDE = int(os.environ.get("WORKBENCH_BENCHMARK_SIDE", "64"))
WIDTH = int(os.environ.get("WORKBENCH_BENCHMARK_WIDTH", "8"))
KEPT = 0.7
"""Share of tokens kept: the target of the keep-ratio loss."""


def counted(model: MethodModule, images: Tensor) -> int:
    present = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
    # the fused attention of a CPU is not counted: here it is computed step by step
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images, present)
    return int(counter.get_total_flops())


def seconds(model: MethodModule, images: Tensor, repeats: int = 2) -> float:
    """The fastest of several forward passes."""
    present = torch.ones(images.shape[:2], dtype=torch.bool)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            model(images, present)
            best = min(best, time.perf_counter() - start)
    return best


class FixedShare(torch.nn.Module):
    """A decision that keeps a share of the tokens, the same in every pass."""

    def forward(self, tokens: Tensor, temperature: float) -> Tensor:
        drawn = torch.rand(tokens.shape[:3], generator=torch.Generator().manual_seed(0))
        return (drawn < KEPT).float()


def masm(**options: Any) -> Masm:
    model = create_model("masm", modalities=GIVEN, **options).eval()
    assert isinstance(model, Masm)
    return model


@pytest.mark.slow
def test_cost_beside_the_same_unet(benchmark: BenchmarkFixture) -> None:
    meta = torch.zeros(1, 4, 128, 128, 128, device="meta")
    plain = counted(create_model("unet", modalities=GIVEN, deep_supervision=False).to("meta").eval(), meta)
    nominal = {mixers: counted(masm(mixers=mixers).to("meta"), meta) for mixers in ("none", "shift", "aware", "aware_shift")}

    images = torch.randn(1, 4, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    small = create_model("unet", modalities=GIVEN, width=WIDTH, deep_supervision=False).eval()
    dense = masm(width=WIDTH)
    for module in dense._aware_modules():
        module.decision = FixedShare()  # type: ignore[assignment]
    times, operations = {"U-Net, concatenated": seconds(small, images)}, {"U-Net, concatenated": counted(small, images)}
    for name, gathering in (("MASM, all tokens", False), ("MASM, kept tokens gathered", True)):
        for module in dense._aware_modules():
            module.gathering = gathering
        times[name], operations[name] = seconds(dense, images), counted(dense, images)
    benchmark.pedantic(seconds, args=(dense, images, 1), rounds=1)

    print(f"\nnominal, 128^3 at the paper's size: U-Net on concatenated sequences {plain / 1e9:,.0f} GFLOP")
    for mixers, count in nominal.items():
        print(f"  MASM, mixers {mixers:12s} {count / 1e9:7,.0f} GFLOP  {count / plain:5.2f} x")
        benchmark.extra_info[f"nominal, mixers {mixers} / U-Net"] = round(count / plain, 3)
    print(f"measured, {SIDE}^3, width {WIDTH}, {KEPT:.0%} of the tokens kept (a forward pass of one case):")
    for name, value in times.items():
        against = value / times["U-Net, concatenated"], operations[name] / operations["U-Net, concatenated"]
        print(f"  {name:28s} {value:6.3f} s  {against[0]:5.2f} x   {operations[name] / 1e9:8.2f} GFLOP  {against[1]:5.2f} x")
        benchmark.extra_info[f"measured, {name} / U-Net"] = round(against[0], 3)
    share = (nominal["aware_shift"] - nominal["none"]) / nominal["aware_shift"]
    print(f"the mixers are {share:.1%} of MASM's nominal operations: no more than that can be saved by dropping tokens")
    assert operations["MASM, kept tokens gathered"] < operations["MASM, all tokens"]
    assert plain < nominal["none"] < nominal["aware_shift"]

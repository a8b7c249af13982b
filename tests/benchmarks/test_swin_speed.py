"""The Swin backbone against MONAI's as it comes, equal weights, in the same run.

MONAI's own blocks use scaled-dot-product attention when asked and no gradient is wanted; that is what `models.swin` asks for. The
sizes are small so that two cores do it in a minute; WORKBENCH_BENCHMARK_SIDE=96 and WORKBENCH_BENCHMARK_WIDTH=48 are the paper's.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from pytest_benchmark.fixture import BenchmarkFixture

from workbench.contracts import Batch
from workbench.models.registry import create_model
from workbench.models.swin.backbone import SwinBackbone
from workbench.training.devices import use_channels_last

SIDE = int(os.environ.get("WORKBENCH_BENCHMARK_SIDE", "64"))
WIDTH = int(os.environ.get("WORKBENCH_BENCHMARK_WIDTH", "24"))


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.slow
def test_swin_forward_is_monais_and_faster(benchmark: BenchmarkFixture) -> None:
    plain = SwinUNETR(
        in_channels=4, out_channels=4, feature_size=WIDTH, depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24), window_size=7
    ).eval()
    ours = SwinBackbone(4, 4, WIDTH, 7, False).eval()
    ours.load_state_dict(plain.state_dict())
    images = torch.randn(1, 4, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), plain(images), rtol=1e-4, atol=1e-4)

        def ratios() -> tuple[float, float]:
            whole = [(seconds(lambda: plain(images)), seconds(lambda: ours(images))) for _ in range(3)]
            encoder = [(seconds(lambda: plain.swinViT(images)), seconds(lambda: ours.swinViT(images))) for _ in range(3)]
            return tuple(min(a for a, _ in pairs) / min(b for _, b in pairs) for pairs in (encoder, whole))  # type: ignore[return-value]

        encoder, whole = benchmark.pedantic(ratios, rounds=1)
    benchmark.extra_info["MONAI's default / ours, Swin encoder"] = round(encoder, 2)
    benchmark.extra_info["MONAI's default / ours, whole SwinUNETR"] = round(whole, 2)
    print(f"\nSwinUNETR {WIDTH} features, {SIDE}^3: encoder {encoder:.2f} x, whole {whole:.2f} x MONAI's default")
    assert encoder > 1.0


@pytest.mark.slow
@pytest.mark.nightly
def test_training_step_of_mts_unet(benchmark: BenchmarkFixture) -> None:
    """Time and peak memory of one forward and backward, beside the same step with recomputed activations."""
    found = {}
    for name, checkpointing in (("kept", False), ("recomputed", True)):
        model = create_model("mts_unet", markers=("idh",), feature_size=WIDTH, checkpointing=checkpointing).train()
        use_channels_last(model)
        images = torch.randn(1, 4, SIDE, SIDE, SIDE).contiguous(memory_format=torch.channels_last_3d)
        labels = torch.randint(0, 4, (1, SIDE, SIDE, SIDE))
        batch = Batch(
            model.modalities, images, torch.ones(1, 4, dtype=torch.bool), labels, ("glioma",), {"idh": torch.tensor([1.0])}
        )

        def step(model: torch.nn.Module = model, batch: Batch = batch) -> None:
            prediction = model(batch.images, batch.present)
            torch.stack(list(model.loss(prediction, batch, 0.5).values())).sum().backward()

        step()
        found[name] = benchmark.pedantic(seconds, args=(step,), rounds=1) if name == "kept" else seconds(step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    benchmark.extra_info["recomputed / kept"] = round(found["recomputed"] / found["kept"], 2)
    kept, again = found["kept"], found["recomputed"]
    print(f"\nmts_unet {WIDTH} features, {SIDE}^3, batch 1: {kept:.1f} s a step, {again:.1f} s recomputing; peak {peak:.1f} GiB")
    assert found["recomputed"] < 4 * found["kept"]

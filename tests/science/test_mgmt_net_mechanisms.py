"""What CMAF and attention pooling can do that concatenation and averaging cannot, each alone, on toy volumes of white noise.

Toy volumes are drawn anew for every step, so that nothing is memorised; the two arms see the same ones, with the same budget.
What the whole network makes of it on phantoms is another question: `test_mgmt_net_claims`.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.glioma.mgmt_blocks import CrossModalityAttentionFusion, GatedPooling

STEPS, BATCH, SIDE = {"regional": 150, "focus": 700}, 32, 8
SEEDS = (0, 1, 2)


def regional(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 3, 8^3) images and labels (B,): sequence 0 shows two regions; in one the second sequence tells, in the other the third.

    Where a sequence does not tell, it is shifted as much by the toss of a coin: without knowing where, the sum is all there is.
    """
    sign, *coins = (torch.randint(0, 2, (BATCH, 1, 1, 1), generator=generator) * 2.0 - 1 for _ in range(3))
    images = torch.randn(BATCH, 3, SIDE, SIDE, SIDE, generator=generator)
    lower = torch.arange(SIDE)[:, None, None] < torch.randint(3, 6, (BATCH, 1, 1, 1), generator=generator)
    here = lower == (torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5)  # on either side: the border must not tell where
    images[:, 0] = images[:, 0] * 0.3 + torch.where(here, 2.0, -2.0)
    images[:, 1] += torch.where(here, sign, coins[0])
    images[:, 2] += torch.where(here, coins[1], sign)
    return images, (sign.flatten() > 0).float()


def focus(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, 1, 8^3) images and labels (B,): a cube of 2^3 voxels somewhere is brighter or darker."""
    sign = torch.randint(0, 2, (BATCH,), generator=generator) * 2.0 - 1
    images = torch.randn(BATCH, 1, SIDE, SIDE, SIDE, generator=generator)
    for index, (x, y, z) in enumerate(torch.randint(0, SIDE - 1, (BATCH, 3), generator=generator).tolist()):
        images[index, 0, x : x + 2, y : y + 2, z : z + 2] += 2.5 * sign[index]
    return images, (sign > 0).float()


class Fusion(nn.Module):
    """Fusion, global average, one linear layer: nothing behind the fusion could make up for it."""

    def __init__(self, form: Literal["cmaf", "concat"]) -> None:
        super().__init__()
        self.fusion = CrossModalityAttentionFusion(3, 8, "batch", form, 0.0, False)
        self.head = nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        mixed, _ = self.fusion(images, torch.ones(images.shape[:2], dtype=torch.bool))
        return self.head(mixed.mean((2, 3, 4)))[:, 0]


class Pooling(nn.Module):
    """One convolution, pooling, one linear layer."""

    def __init__(self, form: Literal["attention", "average"]) -> None:
        super().__init__()
        self.features = nn.Conv3d(1, 8, 3, padding=1)
        self.pooling = GatedPooling(8, form)
        self.head = nn.Linear(8, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pooling(self.features(images), None)[0])[:, 0]


ARMS = {"regional": (regional, Fusion, ("cmaf", "concat")), "focus": (focus, Pooling, ("attention", "average"))}


def area(signal: str, form: str, seed: int) -> float:
    """AUC on 512 fresh volumes after training."""
    draw, build, _ = ARMS[signal]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(form)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS[signal]):
        images, truth = draw(generator)
        loss = F.binary_cross_entropy_with_logits(model(images), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    with torch.inference_mode():
        pairs = [(truth, model(images)) for images, truth in (draw(generator) for _ in range(16))]
    truth, score = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    return float(roc_auc_score(truth, score))


@pytest.mark.slow
@pytest.mark.parametrize("signal", list(ARMS))
def test_the_part_alone_beats_its_ablation(signal: str) -> None:
    claimed, ablated = ARMS[signal][2]
    found = {form: [area(signal, form, seed) for seed in SEEDS] for form in (claimed, ablated)}
    print(f"\n{signal}: " + "; ".join(f"{form} {', '.join(f'{a:.3f}' for a in areas)}" for form, areas in found.items()))
    assert (
        min(a - b for a, b in zip(found[claimed], found[ablated], strict=True)) > 0.02
    )  # seen: 0.03 to 0.04 for the fusion, 0.08 to 0.09 for the pooling

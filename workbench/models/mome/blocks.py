"""The parts of MoME and MoME+: the experts with their gating network, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workbench.contracts import SEGMENTATION, Batch, Stage
from workbench.models.mome.facts import MixtureOptions, PlainUNetOptions
from workbench.models.networks import supervise
from workbench.models.plain_unet import NetworkOutput, PlainUNet, stage_features

EXPERTS = "experts"
"""The task of the first stage: each sample is read by the expert of its own sequence alone."""


def plan(options: PlainUNetOptions) -> tuple[int, ...]:
    """Features per stage: doubling, at most ten times the first (32, 64, 128, 256, 320, 320)."""
    return stage_features(options.width, options.levels)


@dataclass(frozen=True)
class Mixed:
    """What experts and gate make of a batch; levels from the finest."""

    fused: tuple[Tensor, ...]
    """(B, C, x, y, z) float32 per level."""
    experts: tuple[Tensor, ...]
    """(B, E, C, x, y, z) per level: each expert's own logits."""
    gates: tuple[Tensor, ...]
    """(B, E, C, x, y, z) per level."""
    bottom: Tensor
    """(B, features, x, y, z): the gating network's bottleneck; without one the mean of the experts'."""


class Mixture(nn.Module):
    """Experts and the gating network over all decoder levels.

        g_s     = gate([x, f_1 ... f_E])_s        one value per expert and class at every voxel of level s, not normalised
        fused_s = sum_e g_{s,e} * logits_{s,e}    voxel by voxel and class by class, in float32

    f_e is expert e's first encoder stage; the gating network is one more U-Net of the same plan.

    Args:
        experts: how many.
        classes: C.
        images: channels of the gating network's own image input.
        options: plan, gating and what becomes of the experts.
        vector: length of the vector at the gating network's bottleneck.
    """

    def __init__(self, experts: int, classes: int, images: int, options: MixtureOptions, vector: int = 0) -> None:
        super().__init__()
        features = plan(options)
        self.classes, self.options = classes, options
        self.experts = nn.ModuleList(PlainUNet(1, classes, features) for _ in range(experts))
        self.gate = None
        if options.gating != "average":
            heads = None if options.gating == "hierarchical" else 1
            self.gate = PlainUNet(
                images + experts * features[0], experts * classes, features, heads=heads, vector=vector
            )  # fmt: skip

    def expert(self, index: int, image: Tensor, coarse: bool) -> NetworkOutput:
        """One expert on (B, 1, X, Y, Z)."""
        network = self.experts[index]
        if self.options.experts == "checkpointed" and self.training and torch.is_grad_enabled():
            # nothing in it is random, so that recomputing needs no generator state
            found: Any = checkpoint(network, image, None, coarse, use_reentrant=False, preserve_rng_state=False)
            return found
        return network(image, None, coarse)

    def mix(self, outputs: Sequence[NetworkOutput], images: Tensor, vector: Tensor | None, coarse: bool) -> Mixed:
        """All experts' outputs, weighed by the gate that sees `images` (B, k, X, Y, Z) and their first stages."""
        levels = [torch.stack(of_level, dim=1) for of_level in zip(*(output.logits for output in outputs), strict=True)]
        if self.gate is None:
            gates = [torch.full_like(logits, 1 / len(outputs)) for logits in levels]
            bottom = torch.stack([output.bottom for output in outputs]).mean(0)
        else:
            seen = self.gate(torch.cat([images, *(output.first for output in outputs)], dim=1), vector, coarse)
            found = [self.normalise(logits.unflatten(1, (len(outputs), self.classes))) for logits in seen.logits]
            gates = found if self.options.gating == "hierarchical" else [_shrunk(found[0], logits) for logits in levels]
            bottom = seen.bottom
        fused = [blend(gate, logits) for gate, logits in zip(gates, levels, strict=True)]
        return Mixed(tuple(fused), tuple(levels), tuple(gates), bottom)

    def normalise(self, gate: Tensor) -> Tensor:
        """(B, E, C, ...) raw gate values as `gate_normalisation` says."""
        return gate.float().softmax(1) if self.options.gate_normalisation == "softmax" else gate

    def restart_heads(self) -> None:
        """The joint stage of the published code starts with new random heads of the experts."""
        for network in self.experts:
            assert isinstance(network, PlainUNet)
            network.restart_heads()


def blend(gates: Tensor, logits: Tensor) -> Tensor:
    """Sum over the experts of gate x logits, (B, E, C, ...) each, in float32: raw gates know no bound, half precision does."""
    return (gates.float() * logits.float()).sum(1)


def _shrunk(gate: Tensor, like: Tensor) -> Tensor:
    """(B, E, C, X, Y, Z) averaged over the cells of a coarser level."""
    cell = gate.shape[3] // like.shape[3]
    return F.avg_pool3d(gate.flatten(1, 2), cell).unflatten(1, gate.shape[1:3])


def gate_shares(gates: Tensor) -> Tensor:
    """(B, E, C, ...) gates -> (B, E, ...): each expert's share of the absolute gate values over all classes; they add up to 1."""
    size = gates.float().abs().sum(2)
    return size / size.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


# -- losses and recipe ---------------------------------------------------------------------------------------------------


def curriculum_weights(kind: str, r: float) -> tuple[float, float]:
    """Weights of the experts' loss and of the fused loss when share r in [0, 1] of the joint stage is done.

    quadratic (paper): (1 - r)^2 and 1 - (1 - r)^2; linear: 1 - r and r; constant: 0.2 and 0.8; none: 0 and 1.
    """
    first = {"quadratic": (1 - r) ** 2, "linear": 1 - r, "constant": 0.2, "none": 0.0}[kind]
    return first, 1 - first


def joint_progress(progress: float, expert_share: float) -> float:
    """r: the share of the joint stage that is done when share `progress` of the whole run is; 0 in the experts' stage."""
    return min(1.0, max(0.0, (progress - expert_share) / (1 - expert_share)))


def deep_loss(outputs: Sequence[Tensor], batch: Batch, lowest: float, batch_dice: bool = True) -> Tensor:
    """nnU-Net's: soft Dice of the foreground plus cross-entropy at all levels (B, C, x, y, z), the finest first; a scalar."""
    return supervise(outputs, batch, lowest=lowest, batch_dice=batch_dice)


def sample(batch: Batch, index: int) -> Batch:
    """Labels of one sample; its images are left out of account."""
    labels = None if batch.labels is None else batch.labels[index : index + 1]
    return replace(batch, labels=labels, label_set=batch.label_set[index : index + 1])


def reduced(losses: Sequence[Tensor], batch: Batch, reduction: str) -> Tensor:
    """One loss per sample -> their sum, or their mean over the samples that have a mask."""
    total = torch.stack(list(losses)).sum()
    return total if reduction == "sum" else total / max(1, sum(bool(name) for name in batch.label_set))


def mixture_stages(options: MixtureOptions, trained: Sequence[str] = ()) -> list[Stage]:
    """Experts alone, each on its own sequence; then all networks together, at a tenth of the learning rate.

    `trained` are the prefixes of what is trained beside frozen experts.
    """
    joint = Stage(
        "joint", 1 - options.expert_share, (SEGMENTATION,), tuple(trained) if options.experts == "frozen" else (),
        options.joint_rate if options.expert_share else 1.0,
    )  # fmt: skip
    if not options.expert_share:
        return [joint]
    return [Stage(EXPERTS, options.expert_share, (EXPERTS,), ("mixture.experts.",)), joint]

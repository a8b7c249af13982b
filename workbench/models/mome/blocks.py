"""The parts of MoME and MoME+: nnU-Net's plain U-Net, the experts with their gating network, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from workbench.contracts import SEGMENTATION, Batch, Stage
from workbench.models.losses import downsample_labels, segmentation_loss
from workbench.models.mome.facts import MixtureOptions, PlainUNetOptions

EXPERTS = "experts"
"""The task of the first stage: each sample is read by the expert of its own sequence alone."""
SLOPE = 0.01


@dataclass(frozen=True)
class NetworkOutput:
    """What a `PlainUNet` makes of a batch."""

    logits: tuple[Tensor, ...]
    """(B, outputs, x, y, z) per decoder level that has a head, the finest first."""
    first: Tensor
    """(B, width, X, Y, Z): output of the first encoder stage, before any down-sampling."""
    bottom: Tensor
    """(B, features, x, y, z): output of the last encoder stage."""


class PlainUNet(nn.Module):
    """The plain convolutional U-Net of nnU-Net v2 (Isensee et al., Nature Methods 2021), biases included.

    Two 3^3 convolutions with bias, instance norm (affine, eps 1e-5) and leaky ReLU (0.01) per stage, the first of a stage with
    stride 2; transposed convolutions up; two convolutions per decoder stage; a 1^3 head at each decoder level. He
    initialisation for a leaky ReLU of slope 0.01, biases zero.

    Args:
        channels: of the input.
        outputs: of each head.
        features: per stage, the finest first.
        heads: decoder levels with a head, from the finest; None = all.
        vector: length of a vector that is joined to the bottleneck (MoME+'s availability); 0 = none.
    """

    def __init__(
        self, channels: int, outputs: int, features: Sequence[int], *, heads: int | None = None, vector: int = 0
    ) -> None:
        super().__init__()
        inputs = [channels, *features[:-1]]
        pairs = enumerate(zip(inputs, features, strict=True))
        self.encoder = nn.ModuleList(_stage(before, after, 1 if level == 0 else 2) for level, (before, after) in pairs)
        upward = list(zip(reversed(features[1:]), reversed(features[:-1]), strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(below + (vector if step == 0 else 0), here, 2, stride=2)
            for step, (below, here) in enumerate(upward)
        )
        self.decoder = nn.ModuleList(_stage(2 * here, here, 1) for _, here in upward)
        self.heads = nn.ModuleList(nn.Conv3d(f, outputs, 1) for f in features[: -1 if heads is None else heads])
        self.apply(_he)

    def restart_heads(self) -> None:
        """New random heads, from torch's global generator."""
        self.heads.apply(_he)

    def forward(self, x: Tensor, vector: Tensor | None = None, coarse: bool = True) -> NetworkOutput:
        """(B, channels, X, Y, Z), and (B, vector) for the bottleneck; without `coarse` the finest head only."""
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        bottom = x
        if vector is not None:
            x = torch.cat([x, vector.to(x)[:, :, None, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        states = []
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
            states.append(x)
        heads = list(zip(self.heads, reversed(states), strict=False))
        return NetworkOutput(tuple(head(state) for head, state in (heads if coarse else heads[:1])), skips[0], bottom)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    def block(before: int, step: int) -> Convolution:
        return Convolution(
            3, before, outputs, strides=step, kernel_size=3, bias=True, adn_ordering="NA",
            norm=("instance", {"affine": True}), act=("leakyrelu", {"negative_slope": SLOPE}),
        )  # fmt: skip

    return nn.Sequential(block(inputs, stride), block(outputs, 1))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def plan(options: PlainUNetOptions) -> tuple[int, ...]:
    """Features per stage: doubling, at most ten times the first (32, 64, 128, 256, 320, 320)."""
    return tuple(min(options.width * 2**level, options.width * 10) for level in range(options.levels))


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


def level_weights(levels: int, lowest: float) -> list[float]:
    """Deep supervision as nnU-Net weighs it: 1, 1/2, 1/4, ..., the coarsest level `lowest`; normalised to sum 1."""
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = lowest
    return [weight / sum(weights) for weight in weights]


def deep_loss(outputs: Sequence[Tensor], batch: Batch, lowest: float, batch_dice: bool = True) -> Tensor:
    """Soft Dice of the foreground plus cross-entropy at all levels (B, C, x, y, z), the finest first; a scalar."""
    terms = [
        weight
        * segmentation_loss(
            logits,
            None if batch.labels is None else downsample_labels(batch.labels, logits.shape[2:]),
            batch.label_set,
            batch_dice=batch_dice,
        )  # fmt: skip
        for weight, logits in zip(level_weights(len(outputs), lowest), outputs, strict=True)
    ]
    return torch.stack(terms).sum()


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

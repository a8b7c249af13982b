"""Swin pretraining as in BrainSegFounder (Cox et al., MedIA 2024, arXiv 2406.10395): rotation, contrast, inpainting.

Two views of each volume are turned by quarter turns and corrupted in cuboids; one Swin encoder answers three questions on them.

    L = L_rotation + L_contrast + L_reconstruction
    L_rotation        cross-entropy over the four quarter turns, from token 0 of the deepest state
    L_contrast        NT-Xent with temperature 0.5 between the two views' projections, from token 1
    L_reconstruction  mean |decoded - turned, uncorrupted volume|, from the whole deepest state

The head that reconstructs is five times convolution, instance norm, leaky ReLU and doubling, then a 1^3 convolution. Names of the
parameters are those of BrainSegFounder's files. Stage 2 of the paper, the same on the target data, is `pretrained=<stage 1>`.

Departures from the published code:
1. Intensities are the workbench's z-scores, which fine-tuning gets too. The code scales by a CT window, which leaves MRI between
   about 0.5 and 1 and gives fine-tuning another distribution. Noise in cuboids spans the channel's range, as it did there.
2. The reconstruction counts the channels that were acquired; an absent sequence is zero going in and asks for nothing back. One
   that modality dropout took away is asked for, from the others.
3. What is reconstructed is the volume before intensity augmentation, where that is on (the code has none).
4. Where patches come from is the sampler's business: `batch_size` counts crops (the code: 2 volumes of 2 crops).

Tokens 0 and 1 are two voxels in a corner of the deepest map: the published code's choice, kept; `tokens="pooled"` reads the mean.
A batch of one has no negatives to contrast with. Quarter turns exchange Y and Z: the patch must be as wide in both.

Parameters (4 sequences): 19,098,490, of which the encoder, what is kept, has 8,063,154.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretraining import Examination, PretrainingModule, reconstruction_examined
from workbench.models.swin import diagram
from workbench.models.swin.backbone import swin_encoder
from workbench.models.swin.facts import PretrainSwinOptions
from workbench.models.swin.pretext import corrupt, draw_turns, masked_l1, nt_xent, quarter_turns
from workbench.models.swin.weights import load_swin


class PretrainSwin(PretrainingModule):
    """BrainSegFounder's self-supervision; see the module's docstring."""

    name = "pretrain_swin"
    divisor = 32
    minimum = 64  # the deepest map, 1/32, needs two tokens and instance norm more than one voxel
    options: PretrainSwinOptions

    def __init__(
        self, *, modalities: Sequence[str], classes: int = 2, markers: Sequence[str] = (), options: PretrainSwinOptions
    ) -> None:
        super().__init__(modalities=modalities, options=options)
        channels = len(self.modalities)
        width = options.feature_size * 16  # 768 at feature size 48
        self.swinViT = swin_encoder(channels, options)
        self.rotation_head = nn.Linear(width, 4)
        self.contrastive_head = nn.Linear(width, options.projection)
        layers: list[nn.Module] = []
        for level in range(5):  # 768 -> 384 -> 192 -> 96 -> 48 -> 48
            before, after = width // 2**level, width // 2 ** min(level + 1, 4)
            layers += [
                nn.Conv3d(before, after, 3, padding=1),
                nn.InstanceNorm3d(after),
                nn.LeakyReLU(),
                nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
            ]
        self.conv = nn.Sequential(*layers, nn.Conv3d(width // 16, channels, 1))

    def check_size(self, shape: Sequence[int]) -> None:
        """As every method, and Y as wide as Z."""
        super().check_size(shape)
        if shape[1] != shape[2]:
            raise ParameterError(
                f"{self.name} turns volumes in the Y-Z plane, which must be square; found {'x'.join(map(str, shape))}: "
                "sample patches (sampling 'patch'), not whole brains"
            )

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """In training: two turned and corrupted views per sample, first all first views. In evaluation: the images as given."""
        if not self.training:
            return Prediction(auxiliary=self.read(images))
        views = torch.cat([images, images])
        turns = draw_turns(len(views), images.device)
        corrupted, _ = corrupt(quarter_turns(views, turns), self.options.corruption)
        return Prediction(auxiliary=self.read(corrupted) | {"turns": turns})

    def read(self, images: Tensor) -> dict[str, Tensor]:
        """(B, M, X, Y, Z) -> rotation (B, 4) logits, projection (B, 512), reconstruction (B, M, X, Y, Z)."""
        deepest = self.swinViT(images, True)[-1]  # (B, 768, X / 32, ...), layer-normalised
        tokens = deepest.flatten(2)  # (B, 768, tokens)
        published = self.options.tokens == "published"
        first, second = (tokens[:, :, 0], tokens[:, :, 1]) if published else (tokens.mean(2), tokens.mean(2))
        return {
            "rotation": self.rotation_head(first),
            "projection": self.contrastive_head(second),
            "reconstruction": self.conv(deepest),
        }

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The three terms, each with its weight."""
        found, options = prediction.auxiliary, self.options
        wanted = batch.images if batch.target is None else batch.target
        target, _ = self.arrange(wanted, torch.ones_like(batch.present), batch.modalities)
        target = quarter_turns(torch.cat([target, target]), found["turns"])
        there = (target != 0).flatten(2).any(2)[:, :, None, None, None]  # (2 B, M, 1, 1, 1)
        first, second = found["projection"].chunk(2)
        return {
            "rotation": options.rotation_weight * F.cross_entropy(found["rotation"], found["turns"]),
            "contrastive": options.contrastive_weight * nt_xent(first, second, options.temperature),
            "reconstruction": options.reconstruction_weight * masked_l1(found["reconstruction"], target, there),
        }

    @torch.no_grad()
    def examine(self, images: Tensor, present: Tensor, modalities: Sequence[str] | None = None, *, seed: int) -> Examination:
        """Each case corrupted once and shown in its four turns.

        Metrics, over the brain voxels of the sequences that are there: `reconstruction_l1` of the unturned view, `hidden_l1` the
        same inside the corrupted cuboids, `zero_l1` what a reconstruction of zeros would have inside them; `rotation_accuracy`,
        the share of the four turns that are named rightly.
        """
        self.check_size(images.shape[2:])
        images, present = self.arrange(images, present, modalities)
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
            torch.manual_seed(seed)
            corrupted, hidden = corrupt(images, self.options.corruption)
        turned = torch.cat([torch.rot90(corrupted, turn, (3, 4)) for turn in range(4)])
        found = self.read(turned)
        named = found["rotation"].argmax(1).view(4, -1)  # (4, B)
        right = (named == torch.arange(4, device=named.device)[:, None]).float().mean(0)
        back = found["reconstruction"][: len(images)].float()
        return reconstruction_examined(images, present, hidden, corrupted, back, rotation_accuracy=right)

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Go on from another pretraining, as BrainSegFounder's stage 2 does from stage 1; the heads start afresh."""
        return load_swin([self], path, modalities=self.modalities, options=self.options)

    def encoder_state(self) -> dict[str, Tensor]:
        """The Swin encoder under MONAI's names."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("swinViT.")}

    def encoder_description(self) -> Mapping[str, Any]:
        """What a Swin backbone must agree with."""
        options = self.options
        return {
            "architecture": "swin",
            "method": self.name,
            "modalities": list(self.modalities),
            "encoder": options.encoder,
            "merging": options.merging,
            "feature_size": options.feature_size,
            "window": options.window,
        }

    def diagram(self) -> str:
        """Two views, one encoder, three questions."""
        return diagram.pretraining(self.options, self.modalities)

"""M4oE, a foundation model with mixtures of experts (MICCAI 2024, arXiv 2405.09446), ported to sequences of brain MRI.

A Swin-UNet in which every feed-forward network is a mixture, in encoder and decoder:

    x'  = x + attention(norm(x))                         windows, then shifted windows              (MONAI's Swin block)
    g   = softmax_e(W_g norm(x') + b_g)                  over the experts whose sequence is there    (`Experts.weights`)
    x'' = x' + sum_e g_e FFN_e(norm(x'))                 one expert per sequence                     (`Experts`)
    L   = 0.7 Dice + 0.4 cross-entropy                                                               (`loss`)

What of the paper carries over: the place of the experts, their form (d -> 4 d -> d), widths 96 to 768, depths 2-2-2-2, heads
3-6-12-24, windows of 7, patch embedding with stride 4, weights of the loss, early stopping after 7 checks, every second epoch.

What does not, hence the comparison with it is one of the idea only:
1. It is 2-D (224 x 224, grey repeated to three channels) on abdominal CT and MR. Here it is 3-D: windows of 7^3 tokens of 4^3
   voxels. It has no test on brains and none of missing sequences, so that there is no published number to reach.
2. Its experts belong to data sets, each with its own head (14, 3 and 16 classes, padded with zeros). Here an expert belongs to a
   sequence, and one head serves all cohorts, whose label sets the loss knows.
3. Its first stage, Swin-MAE pretraining of the experts, is left out: one stage from random weights.
4. SGD for 36 slices a batch: here the workbench's optimiser and schedule.

The released gate is as wide as the features and is spread over the experts, so that all get the same weights and nothing is
selected: `gate` as_released brings it back, absent sequences included. The default is a weight per expert, masked to the
sequences that are there: weights add up to one, an absent expert does not run, gets weight zero and no gradient. Mixture and
loss as released equal the public code's on its weights to float error (`tests/parity`).

Choices of ours:
5. Sequences are stacked as channels, absent ones zero: after the first convolution a token holds all of them, and the gate
   decides which experts read it. (A token per sequence would be another architecture: mmFormer's.)
6. Skips are the outputs of the encoder's stages, joined by a 1^3 convolution. The last step up, 1/4 to full size, keeps a quarter
   of the first width: with all 96 features a 128^3 patch would need 0.8 GB for that map alone.
7. No stochastic depth and no dropout. Dice leaves out the background and is taken over the batch, as everywhere here; the public
   code's has the background, squares in the denominator, and is of each sample (`dice` published).
8. `identity_blocks` takes all Swin blocks and their experts away, an ablation: what is left is a pyramid of linear layers.
9. Subsets of sequences share nothing: every token depends on which sequences are there. Fewer experts run for smaller ones.

`maps`: the gate's weight of each sequence at 1/4, in the last block. Parameters (4 sequences, 4 classes): 77,528,928.
A forward pass over 128^3: 258 GFLOP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.swin_unetr import PatchMerging
from torch import Tensor, nn

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.losses import segmentation_loss
from workbench.models.m4oe import diagram
from workbench.models.m4oe.blocks import Expand, ExpertStage, to_tokens, to_volume, widths
from workbench.models.m4oe.facts import PATCH, M4oEOptions
from workbench.models.method import MethodModule

HEADS = (3, 6, 12, 24)
"""Attention heads per level."""


class M4oE(MethodModule):
    """M4oE in 3-D; see the module's docstring. Markers are ignored."""

    name = "m4oe"
    divisor = PATCH * 2 ** (len(HEADS) - 1)
    minimum = divisor
    options: M4oEOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: M4oEOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        sizes, count = widths(options.width, len(HEADS)), len(self.modalities)

        def stage(level: int) -> ExpertStage:
            released = options.gate == "as_released"
            return ExpertStage(sizes[level], HEADS[level], options.window, count, released, options.checkpointing)

        self.embedding = nn.Conv3d(count, sizes[0], PATCH, stride=PATCH)
        self.embedding_norm = nn.LayerNorm(sizes[0])
        self.encoder = nn.ModuleList(stage(level) for level in range(len(HEADS)))
        self.merging = nn.ModuleList(PatchMerging(width) for width in sizes[:-1])
        self.bottom_norm = nn.LayerNorm(sizes[-1])
        self.expanding = nn.ModuleList(Expand(2 * width, width, 2) for width in sizes[:-1])
        self.joins = nn.ModuleList(nn.Conv3d(2 * width, width, 1) for width in sizes[:-1])
        self.decoder = nn.ModuleList(stage(level) for level in range(len(HEADS) - 1))
        self.top_norm = nn.LayerNorm(sizes[0])
        self.full_size = Expand(sizes[0], sizes[0] // 4, PATCH)
        self.head = nn.Conv3d(sizes[0] // 4, self.classes, 1)
        if options.identity_blocks:  # taken away at the end: the other weights are drawn as if they were there
            for part in (*self.encoder, *self.decoder):
                assert isinstance(part, ExpertStage)
                part.blocks = nn.ModuleList()

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        if SEGMENTATION not in tasks:
            return Prediction()
        x, skips = self.encode(images, present)
        weights = x
        for level in reversed(range(len(self.decoder))):
            both = torch.cat([to_volume(self.expanding[level](x)), to_volume(skips[level])], dim=1)
            x, weights = self.decoder[level](to_tokens(self.joins[level](both)), present)
        logits = self.head(to_volume(self.full_size(self.top_norm(x))))
        drawn = {}
        if maps and self.options.gate == "expert" and not self.options.identity_blocks:
            drawn = {f"weight_{name}": to_volume(weights)[:, m, None] for m, name in enumerate(self.modalities)}
        return Prediction(segmentation=logits, maps=drawn)

    def encode(self, images: Tensor, present: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images -> tokens at 1/32, normalised, and the outputs of the finer stages, the finest first."""
        x = self.embedding_norm(to_tokens(self.embedding(images)))
        skips = []
        for level, stage in enumerate(self.encoder):
            x, _ = stage(x, present)
            if level < len(self.merging):
                skips.append(x)
                x = self.merging[level](x)
        return self.bottom_norm(x), skips

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, 8 width): mean of the deepest tokens."""
        return self.encode(images, present)[0].mean((1, 2, 3))

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """0.7 Dice plus 0.4 cross-entropy, as published for training."""
        if prediction.segmentation is None:
            return {}
        published = self.options.dice == "published"
        term = segmentation_loss(
            prediction.segmentation, batch.labels, batch.label_set,
            dice=self.options.dice_weight, cross_entropy=self.options.cross_entropy_weight,
            batch_dice=not published, background=published, squared=published,
        )  # fmt: skip
        return {"segmentation": term}

    def cam_layers(self) -> tuple[str, ...]:
        """The decoder's joins at 1/16 and 1/8."""
        return "joins.2", "joins.1"

    def diagram(self) -> str:
        """Levels as columns, encoder above, decoder below, the mixture beside them."""
        return diagram.m4oe(self.options, self.modalities, self.classes, widths(self.options.width, len(HEADS)))

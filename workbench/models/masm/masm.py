"""MASM, Modality-Aware and Shift Mixer (Huang, Wei, S. Zhang, X. Zhang, arXiv 2403.02074): re-implemented without public code.

What the paper says, as far as it was available here (a digest and one reader's notes, not its tables):

    F_l,m = encoder(image_m)                 one encoder, applied to every sequence m by itself; six levels l
    MA, levels 1 to 5                        tokens kept or dropped (Gumbel softmax), dropped places refilled from the paired
                                             sequence, attention inside the pairs (T1, T1c) and (T2, FLAIR)
    MS, level 6                              tokens moved along the sequences by a fixed mosaic without parameters, spatial
                                             attention, moved back, attention along the sequences
    decoder                                  upsamples and concatenates the mixed levels

Everything else is an own choice, listed here and, in short, in `ASSUMPTIONS`, which every run shows (an option stands in quotes):

 1. Widths 32, 64, 128, 256, 320, 320 ("width", "levels"), blocks, norms and decoder of method `unet`, without its deep
    supervision. Instance norm, per sequence: batch norm would mix their statistics.
 2. At most 8^3 tokens per sequence and level ("grid"): means over patches of 16, 8, 4, 2 and 1 voxels at 128^3; what a module
    changes is enlarged trilinearly and added. A border patch is the mean of the voxels it has: the padding is not read.
 3. Keep decision as in DynamicViT (arXiv 2106.02034): token and mean of its sequence's tokens -> 2 logits. In training a
    straight-through hard Gumbel softmax, temperature 1 ("temperature", linearly to "final_temperature"); else the likelier.
 4. No loss on the share of kept tokens; "ratio_weight" 2 is DynamicViT's squared error to "keep_ratio" 0.7. The decision starts
    there too, by its bias: from zero, an untrained network outside training drops all tokens of a level, or none, by chance.
 5. In a pair, queries are A's kept tokens, keys and values the kept tokens of A and B. A dropped place takes B's token where B
    is there and kept it, else its own; it does not attend. All of it before the attention, so that the kept ones can be gathered.
 6. Pairs: (t1, t1c), (t2, flair) and (dwi, adc). A sequence without its partner, in the model or in the case, attends to itself
    and is not refilled. "pairing" random: pairs drawn once, from the seed, none of them clinical where that is possible.
 7. Mosaic: the token of sequence m at voxel (x, y, z) goes to m + s, s = (2 (x % 2) + (y % 2) + 2 (z % 2)) mod M. With four
    sequences 0 to 3 occur twice each in a 2^3 cell. It moves all M places, absent ones too, which are no keys.
 8. "shift" learned: the number of steps per place of the cell is learnt (8 M logits, straight-through), starting from the mosaic.
 9. One block per module, 8 heads, perceptrons of 4 times the width, pre-norm, learnt 3-D positions per level, added to what the
    attention reads. MS has one perceptron, after both attentions.
10. Joined for the decoder ("join"): concatenated with absent ones zero, times M / number present, mapped by a 1^3 convolution,
    i.e. the mean over those present of W_m F_m. "mean" has no W_m and cannot tell sequences apart.
11. Soft Dice and cross-entropy, equal weights; AdamW 1e-4, weight decay 1e-5, cosine, 300 epochs, batch 2, 128^3. The paper's
    split of BraTS 2021's 1,251 cases is not known; folds are the workbench's.
12. Missing sequences: the paper assumes all four. Here absent ones are not encoded, are keys nowhere, change nothing and get no
    gradient. No robustness is claimed: train with `modality_dropout` for it, and look at the subsets.
13. `fusion="early"` stacks the sequences as channels of one encoder pass: the paper's baseline, with this backbone and loss.
    `identity_blocks` leaves MA its masks and refilling, and nothing of MS, whose tokens come back to where they were.
14. MA or MS at all levels ("mixers" aware, shift), other "backbone"s: five or six levels of UNETR or SwinUNETR (window 7), the
    deepest in the part of level 6.

Parameters at the paper's size (4 sequences, 4 classes): 36,908,846; tested. A forward pass over 128^3: 1,839 GFLOP, more than
the same U-Net on concatenated sequences, since its encoder reads every sequence by itself. Dropping tokens saves operations only
where the kept ones are gathered ("gather", outside training), and few: the modules are 1 % of the whole. Both are counted and
measured in tests/benchmarks/test_masm_cost.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.losses import segmentation_loss
from workbench.models.masm import diagram
from workbench.models.masm.backbones import Backbone, build_backbone, encode_one_by_one
from workbench.models.masm.blocks import First, Join, ModalityAware, ModalityShift, partners
from workbench.models.masm.facts import MasmOptions
from workbench.models.masm.tokens import Grid
from workbench.models.method import MethodModule

CLINICAL_PAIRS = (("t1", "t1c"), ("t2", "flair"), ("dwi", "adc"))
"""Sequences that refill and attend to each other."""
ASSUMPTIONS = (
    "a re-implementation from a digest of the paper; no public code exists, and no number of the paper is a target",
    "assumed, at the paper's size: widths 32 to 320, 8^3 tokens a level, one block a module, 8 heads, learnt positions",
    "assumed: keep decision as in DynamicViT, temperature 1, hard in training, the likelier outside, no keep-ratio loss",
    "assumed: a dropped token takes its partner's where that is kept, before the attention; only kept tokens attend",
    "assumed: mosaic s = 2(x%2)+(y%2)+2(z%2) modulo the number of sequences",
    "assumed: sequences joined for the decoder by a linear map each and the mean over those present",
    "assumed, at the paper's size: Dice with cross-entropy, AdamW 1e-4, weight decay 1e-5, 300 epochs of batch 2 at 128^3",
    "the paper assumes all four sequences: what happens without one is ours, and no robustness is claimed",
)


class Masm(MethodModule):
    """MASM; see the module's docstring for what the paper says and for the choices. Markers are ignored."""

    name = "masm"
    options: MasmOptions
    backbone: Backbone
    partner: Tensor
    temperature: Tensor

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MasmOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        o, count = options, len(self.modalities)
        self.early = o.fusion == "early"
        self.backbone = build_backbone(o.backbone, self.classes, o.width, o.levels, o.token_width, count if self.early else 1)
        self.divisor, self.minimum = self.backbone.divisor, self.backbone.minimum
        widths, last = self.backbone.widths, len(self.backbone.widths) - 1
        aware = {"aware_shift": range(last), "aware": range(last + 1), "shift": (), "none": ()}[o.mixers]
        shifted = {"aware_shift": (last,), "aware": (), "shift": range(last + 1), "none": ()}[o.mixers]
        edges = [min(o.grid, max(1, 128 // stride)) for stride in self.backbone.strides]
        start = o.keep_ratio if o.masking == "gumbel" else None
        self.aware = nn.ModuleDict(
            {str(k): ModalityAware(widths[k], o.heads, o.mlp_ratio, o.grid, edges[k], start) for k in aware}
        )
        self.shifted = nn.ModuleDict(
            {str(k): ModalityShift(widths[k], o.heads, o.mlp_ratio, o.grid, edges[k], count, o.shift) for k in shifted}
        )
        self.join = nn.ModuleList(First() if self.early else Join(width, count, o.join) for width in widths)
        if o.identity_blocks:
            self.shifted = nn.ModuleDict()  # tokens that move and move back, with nothing between
        for module in self._aware_modules():
            module.gathering = o.gather
            if o.identity_blocks:
                module.leave_out_blocks()
        mates, names = self._partners(), self.modalities
        self.register_buffer("partner", torch.tensor(mates))
        self.register_buffer("temperature", torch.tensor(float(o.temperature)))
        self.pairs = tuple(f"{names[i]}-{names[j]}" for i, j in enumerate(mates) if i < j)
        """Who refills and attends to whom, e.g. 't1-t1c'."""
        self.notes = (*ASSUMPTIONS, f"pairs: {', '.join(self.pairs) or 'none, every sequence attends to itself'}")
        if self.early:
            self.notes = ("fused early: sequences are channels of one encoder pass; nothing of MASM but its backbone is left",)

    def _aware_modules(self) -> Iterator[ModalityAware]:
        for module in self.aware.values():
            assert isinstance(module, ModalityAware)
            yield module

    def _partners(self) -> list[int]:
        """Index of each sequence's partner; drawn from torch's random state where the option says so."""
        clinical = partners(self.modalities, CLINICAL_PAIRS)
        if self.options.pairing == "clinical":
            return clinical
        count = len(self.modalities)
        for _ in range(100):
            order = torch.randperm(count).tolist()
            names = [self.modalities[index] for index in order]
            drawn = partners(self.modalities, list(zip(names[::2], names[1::2], strict=False)))
            if not any(a == b != index for index, (a, b) in enumerate(zip(drawn, clinical, strict=True))):
                return drawn
        return drawn  # two sequences have one pairing only

    # -- the passes ------------------------------------------------------------------------------------------------

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """Encode each sequence, mix the levels, join and decode."""
        if SEGMENTATION not in tasks:
            return Prediction()
        levels, kept, asked = self.mix(self.encode(images, present), present)
        auxiliary = {}
        if self.training and kept and self.options.ratio_weight and self.options.masking == "gumbel":
            there = present.sum(1).clamp_min(1)
            shares = [k.sum((1, 2)) / (there * k.shape[2]) for k, _ in kept]
            auxiliary["kept"] = torch.stack(shares, dim=1)  # (B, levels)
        drawn = self._maps(present, kept, asked) if maps else {}
        return Prediction(segmentation=self.decode(levels, present), maps=drawn, auxiliary=auxiliary)

    def encode(self, images: Tensor, present: Tensor) -> list[Tensor]:
        """(B, M, X, Y, Z) -> per level (B, M, C, x, y, z): each present sequence by itself; absent ones are exactly zero.

        Fused early (B, 1, C, x, y, z): all sequences as one, absent ones zero.
        """
        if self.early:
            images, present = images[:, None], torch.ones_like(present[:, :1])
        else:
            images = images[:, :, None]
        flat, there = images.flatten(0, 1), present.flatten()
        everything = there.is_meta or bool(there.all())  # on the meta device operations are only counted
        some = flat if everything else flat[there]
        if self.options.checkpointing and self.training:
            encoded = encode_one_by_one(self.backbone, some)
        else:
            encoded = self.backbone.encode(some)
        levels = []
        for level in encoded:
            if not everything:
                whole = level.new_zeros(len(flat), *level.shape[1:])
                whole[there] = level
                level = whole
            levels.append(level.unflatten(0, present.shape))
        return levels

    def mix(
        self, levels: Sequence[Tensor], present: Tensor
    ) -> tuple[list[Tensor], list[tuple[Tensor, Grid]], tuple[Tensor, Grid] | None]:
        """Levels through their modules; whatever stands at absent sequences is read by none of the others.

        Returns:
            Mixed levels; per MA which tokens were kept (B, M, T) and their grid; of the deepest MS how much each sequence is
            attended to (B, M, T) and the grid, or None.
        """
        mixed, kept, asked = [], [], None
        temperature = float(self.temperature) if self.training else 1.0
        for index, level in enumerate(levels):
            if (key := str(index)) in self.aware:
                level, keep, grid = self.aware[key](level, present, self.partner, temperature)
                kept.append((keep, grid))
            elif key in self.shifted:
                level, weights, grid = self.shifted[key](level, present)
                asked = weights, grid
            mixed.append(level)
        return mixed, kept, asked

    def decode(self, levels: Sequence[Tensor], present: Tensor) -> Tensor:
        """Mixed levels -> logits (B, C, X, Y, Z)."""
        return self.backbone.decode([join(level, present) for join, level in zip(self.join, levels, strict=True)])

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """Every sequence is encoded once; modules and decoder run per set. Fused early, sets share nothing."""
        if self.early:
            return super().subset_logits(images, shown)
        union = shown.any(0)[None].expand(len(images), -1)
        levels = self.encode(images, union)
        found = []
        for row in shown:
            present = row[None].expand(len(images), -1)
            found.append(self.decode(self.mix(levels, present)[0], present))
        return found

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, C of the deepest level): the mean of its mixed features over voxels and the sequences that are there."""
        deepest = self.mix(self.encode(images, present), present)[0][-1].float().mean((3, 4, 5))
        if self.early:
            return deepest[:, 0]
        share = present / present.sum(1, keepdim=True).clamp_min(1)
        return (deepest * share[:, :, None]).sum(1)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Dice with cross-entropy, and the keep-ratio loss where it has a weight; sets the next step's temperature."""
        o = self.options
        if o.final_temperature > 0:
            self.temperature.fill_(o.temperature + (o.final_temperature - o.temperature) * progress)
        if prediction.segmentation is None:
            return {}
        terms = {"segmentation": segmentation_loss(prediction.segmentation, batch.labels, batch.label_set)}
        if "kept" in prediction.auxiliary:
            terms["keep_ratio"] = o.ratio_weight * (prediction.auxiliary["kept"] - o.keep_ratio).square().mean()
        return terms

    def _maps(self, present: Tensor, kept: Sequence[tuple[Tensor, Grid]], asked: tuple[Tensor, Grid] | None) -> dict[str, Tensor]:
        """`keep_<sequence>`: share of the levels that keep the token there; `weight_<sequence>`: attention it gets in MS."""
        drawn: dict[str, Tensor] = {}
        if kept and self.options.masking == "gumbel":
            finest = kept[0][1]
            grids = [F.interpolate(keep.unflatten(2, grid), size=finest, mode="nearest-exact") for keep, grid in kept]
            shares = torch.stack(grids).mean(0)
            drawn |= {f"keep_{name}": shares[:, index, None] for index, name in enumerate(self.modalities)}
        if asked is not None:
            weights = asked[0].unflatten(2, asked[1])
            drawn |= {f"weight_{name}": weights[:, index, None] for index, name in enumerate(self.modalities)}
        return drawn

    # -- what it looks like ----------------------------------------------------------------------------------------

    def cam_layers(self) -> tuple[str, ...]:
        """The joined level above the deepest one, then the deepest, only a few voxels wide."""
        last = len(self.join) - 1
        return f"join.{last - 1}", f"join.{last}"

    def diagram(self) -> str:
        """The network as built."""
        return diagram.masm(self.options, self.modalities, self.classes, len(self.backbone.widths), self.pairs)

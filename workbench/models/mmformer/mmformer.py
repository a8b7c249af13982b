"""mmFormer: a multimodal medical Transformer for incomplete sequences (Zhang et al., MICCAI 2022, arXiv 2206.02425).

    F_m^l  = encoder_m(x_m), l = 1..5 at 1, 1/2, ..., 1/16            one unshared CNN per sequence     (`encoders`)
    T_m    = intra_m(W_m F_m^5 + P_m)                                  tokens of one sequence            (`intra`)
    T      = inter([delta_m T_m] + [P_1 ... P_M])                      tokens of all sequences           (`inter`)
    F^5    = W T laid out as a volume,  F^l = [delta_m F_m^l], l < 5   delta_m: 1 where the sequence is  (`fuse`)
    p      = softmax(decoder(F^1 ... F^5))                             and coarser levels p^1 ... p^4    (`decoder`)
    p_m    = softmax(decoder'(F_m^1 ... F_m^5))                        one decoder' for all sequences    (`separate`)
    L      = l(p) + sum over levels l(p^l) + sum over present m l(p_m),  l as `losses.clamped_segmentation_loss`

Each layer of a Transformer adds the positions again. The two auxiliary sums are for training only. Trained on uniformly drawn
subsets of the sequences (`modality_dropout` 1, `dropout_mode` subset; the mask is one sampler for all methods).

The published code differs from what its text says, and from what can be meant, in three places; options bring it back:

1. `layout`. After the inter-modal Transformer the tokens lie sequence after sequence and are viewed as voxels of four
   neighbours, so that each voxel reads four tokens of one sequence. `aligned`, the default, gives each voxel its own tokens of
   all sequences; `published` is the released arithmetic. Both have the same parameters.
2. `absent_tokens`. The code zeroes the tokens of absent sequences but lets them take part in attention, with their positions.
   `masked`, the default: they are no keys and what comes out of them is zero.
3. `auxiliary`. The published losses of single sequences read all four whatever the mask is, which needs complete cases. `shown`,
   the default: p_m exists for the sequences that a sample is shown; `acquired`: also for those that dropout hid, as they were
   before intensity augmentation. The loss of a sequence is a mean over the samples that have it.

With `layout` published and `absent_tokens` zero every output equals the public code's on its weights to float error
(`tests/parity`); `released` loads these. The 3^3 convolutions of the fusions pad with zeros in both layouts, as there, all others
mirror; runs made before that was so have `fusion_borders` mirrored.

Choices of ours:
4. Any sequences, in any number; all sizes that are multiples of 16 and at least 32. Positions are learned for the tokens of
   `positions`^3 voxels and interpolated trilinearly for other sizes. `published` then mixes tokens by the same arithmetic.
5. The published code zeroes an encoder's features; here an encoder does not run where its sequence is absent. The numbers are the
   same, but nothing of an absent sequence gets a gradient.
6. What a case's annotators could not draw is merged before the loss, as everywhere here.
7. Optimiser: the workbench's AdamW with cosine decay instead of Adam (amsgrad) with polynomial decay; learning rate, weight
   decay, epochs and batch are the published ones. There is no validation set in the paper; here one chooses the checkpoint.
8. `auxiliary`, `intra` and `inter` off are the paper's ablations: a Transformer that is off is the identity. Both off is the
   network without any Transformer; the positions, which only they read, go with them.

Initial weights as published: He-normal kernels, positions zero. The warm-up that the code has, of zero epochs, is left out.
`maps`: of each voxel's tokens, how much of their attention in the last inter-modal layer goes to each sequence.

Parameters (4 sequences, 4 classes): 36,391,760. The public code has four convolutions that no forward pass uses (65,664 each);
with them 36,654,416, its 36.7 M. The paper says 106 M and 748 GFLOP; others print
57.6 M: compare with a count of your own. A forward pass over 128^3: 256 GFLOP; all 15 subsets of a case 6.6 times that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.losses import clamped_segmentation_loss, zero_loss
from workbench.models.method import MethodModule
from workbench.models.mmformer import diagram
from workbench.models.mmformer.blocks import LEVELS, Decoder, Encoder, Transformer, tokens_to_volume, upsample
from workbench.models.mmformer.facts import TOKEN, MMFormerOptions
from workbench.models.mmformer.released import WEIGHTS, published_names
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.released import load_released


class MMFormer(MethodModule):
    """mmFormer; see the module's docstring. Markers are ignored."""

    name = "mmformer"
    divisor = TOKEN
    minimum = 2 * TOKEN  # instance norm and mirrored borders need more than one voxel at 1/16
    options: MMFormerOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MMFormerOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        count, width, embedding = len(self.modalities), options.width, options.embedding
        deepest, edge = width * 2 ** (LEVELS - 1), options.positions // TOKEN

        def transformer() -> Transformer:
            return Transformer(embedding, options.depth, options.heads, options.mlp, options.dropout)

        self.encoders = nn.ModuleList(Encoder(width) for _ in range(count))
        self.embed = nn.ModuleList(nn.Conv3d(deepest, embedding, 1) for _ in range(count))
        self.intra = nn.ModuleList(transformer() for _ in range(count if options.intra else 0))
        self.inter = transformer() if options.inter else None
        used = options.intra or options.inter
        self.positions = nn.Parameter(torch.zeros(count, edge**3, embedding)) if used else None
        self.project = nn.Conv3d(count * embedding, count * deepest, 1)
        auxiliary = options.auxiliary != "off"
        self.decoder = Decoder(width, self.classes, fused=count, heads=auxiliary, borders=options.fusion_borders)
        self.separate = Decoder(width, self.classes, fused=0, heads=False) if auxiliary else None
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """Each sequence by itself, then all that are there together."""
        if SEGMENTATION not in tasks:
            return Prediction()
        levels, tokens, auxiliary = self.encode(images, present)
        tokens, mass = self.mix(tokens, present, images.shape[2:], maps)
        training = self.training and self.separate is not None
        logits, *coarser = self.fuse(levels, tokens, coarse=training)
        auxiliary |= {f"level{level}": found for level, found in enumerate(coarser, start=1)}
        drawn = {} if mass is None else {f"weight_{name}": mass[:, m, None] for m, name in enumerate(self.modalities)}
        return Prediction(segmentation=logits, auxiliary=auxiliary, maps=drawn)

    def encode(self, images: Tensor, present: Tensor) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
        """Everything that each sequence says by itself; encoders run on the samples that have their sequence.

        Args:
            images: (B, M, X, Y, Z), arranged.
            present: (B, M).

        Returns:
            The first four levels (B, M, w 2^l, X / 2^l, ...) and the tokens (B, M, N, D), zero where a sequence is absent; in
            training also the logits of the sequences alone, `alone_<sequence>`: (samples that have it, C, X, Y, Z).
        """
        auxiliary: dict[str, Tensor] = {}
        levels: list[list[Tensor]] = [[] for _ in range(LEVELS - 1)]
        tokens = []
        for m, name in enumerate(self.modalities):
            rows = present[:, m]
            everywhere = rows.is_meta or bool(rows.all())  # on the meta device operations are only counted
            if everywhere or bool(rows.any()):
                maps = self.encoders[m](images[:, m, None] if everywhere else images[rows, m, None])
                found = [*maps[:-1], self._embed(m, maps[-1], images.shape[2:])]
                if self.training and self.separate is not None:
                    auxiliary[f"alone_{name}"] = self.separate(maps)[0]
            else:
                found = self._nothing(images)
            if not everywhere:
                found = [_place(values, rows) for values in found]
            for level, values in zip(levels, found[:-1], strict=True):
                level.append(values)
            tokens.append(found[-1])
        return [torch.stack(level, dim=1) for level in levels], torch.stack(tokens, dim=1), auxiliary

    def _embed(self, m: int, deepest: Tensor, shape: Sequence[int]) -> Tensor:
        """(b, 16 w, ...) -> (b, N, D): the tokens of one sequence after its own Transformer."""
        tokens: Tensor = self.embed[m](deepest).flatten(2).transpose(1, 2)
        if len(self.intra):
            tokens, _ = self.intra[m](tokens, self.learned_positions(shape)[m, None])
        return tokens

    def _nothing(self, images: Tensor) -> list[Tensor]:
        """What `encode` finds where no sample has the sequence: no row at all."""
        sides = [[side >> level for side in images.shape[2:]] for level in range(LEVELS)]
        maps = [images.new_zeros(0, self.options.width << level, *sides[level]) for level in range(LEVELS - 1)]
        return [*maps, images.new_zeros(0, sides[-1][0] * sides[-1][1] * sides[-1][2], self.options.embedding)]

    def learned_positions(self, shape: Sequence[int]) -> Tensor:
        """(M, N, D) for an image of this shape: as learned, interpolated on its grid of tokens."""
        assert self.positions is not None
        edge, grid = self.options.positions // TOKEN, [side // TOKEN for side in shape]
        learned = self.positions.transpose(1, 2).unflatten(2, (edge,) * 3)
        return F.interpolate(learned, size=grid, mode="trilinear", align_corners=False).flatten(2).transpose(1, 2)

    def mix(self, tokens: Tensor, present: Tensor, shape: Sequence[int], maps: bool = False) -> tuple[Tensor, Tensor | None]:
        """The inter-modal Transformer: (B, M, N, D) -> the same, and (B, M, x, y, z) attention per sequence if asked.

        `tokens` of absent sequences must be zero; with `absent_tokens` masked they stay so.
        """
        if self.inter is None:
            return tokens, None
        count, size = tokens.shape[1:3]
        masked = self.options.absent_tokens == "masked" and not present.is_meta and not bool(present.all())
        attended = present.repeat_interleave(size, dim=1) if masked else None
        positions = self.learned_positions(shape).flatten(0, 1)[None]
        mixed, mass = self.inter(tokens.flatten(1, 2), positions, attended, count if maps else 0)
        mixed = mixed.unflatten(1, (count, size))
        asking = present if masked else torch.ones_like(present)
        if masked:
            mixed = mixed * present[:, :, None, None]
        if mass is not None:
            share = asking.to(mass) / asking.sum(1, keepdim=True)
            mass = (mass.unflatten(1, (count, size)) * share[:, :, None, None]).sum(1)  # (B, N, M)
            mass = mass.transpose(1, 2).unflatten(2, [side // TOKEN for side in shape])
        return mixed, mass

    def fuse(self, levels: Sequence[Tensor], tokens: Tensor, coarse: bool = False) -> list[Tensor]:
        """Levels (B, M, ...), zero where absent, and mixed tokens (B, M, N, D) -> logits, the finest first."""
        grid = [side // 2 for side in levels[-1].shape[3:]]
        deepest = self.project(tokens_to_volume(tokens, grid, self.options.layout))
        logits: list[Tensor] = self.decoder([*(level.flatten(1, 2) for level in levels), deepest], coarse)
        return logits

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """Encoders and intra-modal Transformers once per sequence, the rest once per set."""
        levels, tokens, _ = self.encode(images, shown.any(0)[None].expand(len(images), -1))
        logits = []
        for row in shown:
            present = row[None].expand(len(images), -1)
            mixed, _ = self.mix(tokens * present[:, :, None, None], present, images.shape[2:])
            logits.append(self.fuse([level * present[:, :, None, None, None, None] for level in levels], mixed)[0])
        return logits

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, D): mean of the inter-modal tokens of the sequences that are there."""
        _, tokens, _ = self.encode(images, present)
        mixed, _ = self.mix(tokens, present, images.shape[2:])
        weight = present.to(mixed) / present.sum(1, keepdim=True).clamp_min(1)
        return (mixed.mean(2) * weight[:, :, None]).sum(1)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """`segmentation`: fused; `levels`: sum over coarser outputs, at full size; `sequences`: sum over the sequences alone."""
        if prediction.segmentation is None:
            return {}
        labels, sets, found = batch.labels, batch.label_set, prediction.auxiliary
        terms = {"segmentation": clamped_segmentation_loss(prediction.segmentation.float().softmax(1), labels, sets)}
        if self.separate is None:
            return terms
        levels = [
            clamped_segmentation_loss(upsample(found[f"level{level}"].float().softmax(1), 2**level), labels, sets)
            for level in range(1, LEVELS)
            if f"level{level}" in found
        ]
        alone = self._alone_losses(found, batch)
        none = zero_loss(prediction.segmentation)
        return terms | {"levels": torch.stack([none, *levels]).sum(), "sequences": torch.stack([none, *alone]).sum()}

    def _alone_losses(self, found: Mapping[str, Tensor], batch: Batch) -> list[Tensor]:
        """The loss of each sequence alone, a mean over the samples that show it and, with `auxiliary` acquired, over those that
        dropout hid it from: these are read here, from the images as they were before dropout and intensity augmentation."""
        losses = []
        for column, name in enumerate(batch.modalities):
            rows, logits = [], []
            if f"alone_{name}" in found:
                rows, logits = batch.present[:, column].nonzero()[:, 0].tolist(), [found[f"alone_{name}"]]
            if self.options.auxiliary == "acquired" and batch.target is not None and name in self.modalities:
                hidden = [row for row, names in enumerate(dropped(batch)) if name in names]
                if hidden:
                    assert self.separate is not None
                    maps = self.encoders[self.modalities.index(name)](batch.target[hidden, column, None].float())
                    rows, logits = [*rows, *hidden], [*logits, self.separate(maps)[0]]
            if rows:
                kept = None if batch.labels is None else batch.labels[rows]
                sets = [batch.label_set[row] for row in rows]
                losses.append(clamped_segmentation_loss(torch.cat(logits).float().softmax(1), kept, sets))
        return losses

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Fill the network from the authors' released weights.

        Raises:
            InputError: the file cannot be read or does not fit, or the options are not the published ones.
        """
        return load_released(
            self, path, WEIGHTS, published_names(self.state_dict()), options=self.options, modalities=self.modalities
        )

    def cam_layers(self) -> tuple[str, ...]:
        """The fused map at 1/16, then at 1/8."""
        return "decoder.fusions.4", "decoder.fusions.3"

    def diagram(self) -> str:
        """The network as built: what an option leaves out is not drawn."""
        return diagram.mmformer(self.options, self.modalities, self.classes)


def dropped(batch: Batch) -> list[Sequence[str]]:
    """Per sample the sequences that it has and that dropout hid."""
    return [sample.get("dropped", ()) for sample in batch.record.get("samples", [])]


def _place(values: Tensor, rows: Tensor) -> Tensor:
    """(rows that are true, ...) -> (B, ...), zero elsewhere."""
    placed = values.new_zeros(len(rows), *values.shape[1:])
    placed[rows] = values
    return placed

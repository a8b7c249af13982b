"""BrainFM-MRI (arXiv 2511.03014) for segmentation and markers: any sequences, any number of them, also ones never seen in
training.

The encoder that `brainfm_pretrain` trains reads all tokens of all sequences that a case has; a sequence is known by the text of
its name (`modality_text`), so that a new one needs no new weights. Heads are averages over the sequences, hence blind to their
number:

    segmentation   from states of four layers (3, 6, 9, 12), averaged over the sequences, by the head of `heads`
    markers        linear, from the mean of all tokens of the sequences that are there

The paper publishes neither head nor recipe (reported: MSLesSeg, 10 cases, 2 epochs, Dice 0.45 against 0.39 of an nnU-Net
trained as long, a note on feasibility); no code or weights of it are used. Choices of ours:
1. The three heads, layer norm before the marker classifiers, Dice with cross-entropy, all parameters trained (`freeze`: heads
   only).
2. The UNETR head's stem reads each sequence with the same weights, so that the whole method stays open.
3. Tokens beyond the learned table of positions have no position (published code); a table of 20 spans 320 voxels of 16^3 tokens.
4. Sequences by phrases, not by file names, and a projection of the text vector where the encoder is not 768 wide.
5. A case is read in buckets of samples with as many sequences (`encoder`); the code pads, and its pooled features count
   the padding and leave out the first token, which it takes for a class token that is not there. Here pooling is over all
   tokens.

Parameters (4 classes, one marker): see the catalogue; tested. With text they do not depend on the sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.contracts import MARKER_TASK, SEGMENTATION, Prediction, Stage
from workbench.models.brainfm import diagram
from workbench.models.brainfm.encoder import BrainFMEncoder, buckets
from workbench.models.brainfm.facts import BrainFMOptions
from workbench.models.brainfm.heads import HEADS
from workbench.models.brainfm.open_channels import OpenChannels
from workbench.models.method_facts import BOTH_TASKS

_HEADS = ("head.", "marker_norm.", "marker_heads.")


class BrainFM(OpenChannels):
    """The encoder with its heads; see the module's docstring."""

    name = "brainfm"
    options: BrainFMOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: BrainFMOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=markers, options=options)
        self.divisor = self.minimum = options.token
        self.encoder = BrainFMEncoder(options, self.modalities)
        self.head = HEADS[options.head](options, self.classes)
        self.marker_norm = nn.LayerNorm(options.width) if self.markers else None
        self.marker_heads = nn.ModuleDict(
            {m: nn.Linear(options.width, 3 if m == "grade" and options.grade_classes == 3 else 1) for m in self.markers}
        )
        # the last layer's tokens as a volume: segmentation and markers are both read from it, so that Grad-CAM can be, too
        self.deepest = nn.Identity()
        self.taps = tuple(-(-options.depth * quarter // 4) for quarter in (1, 2, 3, 4))
        if options.freeze and not options.pretrained:
            self.notes = ("the encoder is frozen and starts from no file: its weights are random and stay so",)

    def train(self, mode: bool = True) -> BrainFM:
        """A frozen encoder is never in training mode: no dropout."""
        super().train(mode)
        if self.options.freeze:
            self.encoder.eval()
        return self

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z), the M named by `channels`, -> logits (B, C, X, Y, Z) and one or three per marker."""
        images, present = self.encoder.readable(images, present)
        condition = self.encoder.modality(self.channels, images)
        states = self.encoder.encode(self.encoder.tokens(images, condition), condition, present, self.taps)
        volumes = self._volumes(states, images)
        segmentation = None
        if SEGMENTATION in tasks:
            segmentation = self._segment(volumes, self._mean_stem(images, present) if self.head.stemmed else None, images)
        markers = {}
        if MARKER_TASK in tasks and self.marker_norm is not None:
            pooled = self.marker_norm(volumes[-1].flatten(2).mean(2))
            markers = {marker: head(pooled) for marker, head in self.marker_heads.items()}
        return Prediction(segmentation, markers)

    def _volumes(self, states: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """States (B, T, D) folded back into volumes (B, D, x, y, z)."""
        grid = self.encoder.grid(images)
        volumes = [state.transpose(1, 2).unflatten(2, grid) for state in states]
        return [*volumes[:-1], self.deepest(volumes[-1])]

    def _segment(self, volumes: Sequence[Tensor], stem: Tensor | None, images: Tensor) -> Tensor:
        return self.head(volumes, stem, images.shape[2:])

    def _mean_stem(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, f, X, Y, Z): each sequence through the stem by itself, averaged over those that are there."""
        found, order = [], []
        for bucket in buckets(present):
            chosen = images[bucket.samples[:, None], bucket.channels]
            found.append(self.head.stem(chosen.flatten(0, 1)[:, None]).unflatten(0, chosen.shape[:2]).mean(1))
            order.append(bucket.samples)
        return torch.cat(found)[torch.argsort(torch.cat(order))]

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """Segmentation logits of several sets of sequences.

        Patch embeddings and the stem, which is at full resolution, are computed once per sequence. The transformer and the
        decoder are not shared: every token attends to those of all sequences that are shown, so that its state differs from set
        to set. All 15 sets of four sequences take about 9 times the operations of one pass, one by one about 12 times (at the
        demo's size). Without `padding_mask` nothing is shared: what is not shown is read as zeros.
        """
        if not self.options.padding_mask:
            return super().subset_logits(images, shown)
        condition = self.encoder.modality(self.channels, images)
        tokens = self.encoder.tokens(images, condition)
        stems = [
            self.head.stem(images[:, [m]]) if self.head.stemmed and bool(shown[:, m].any()) else None
            for m in range(images.shape[1])
        ]
        logits = []
        for row in shown:
            states = self.encoder.encode(tokens, condition, row.expand(len(images), -1), self.taps)
            own = [stem for stem, there in zip(stems, row.tolist(), strict=True) if there and stem is not None]
            logits.append(self._segment(self._volumes(states, images), torch.stack(own).mean(0) if own else None, images))
        return logits

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, D): mean of the tokens of the sequences that are there, after the last layer."""
        images, present = self.encoder.readable(images, present)
        condition = self.encoder.modality(self.channels, images)
        return self.encoder.encode(self.encoder.tokens(images, condition), condition, present)[-1].mean(1)

    def stages(self) -> list[Stage]:
        """One stage; with a frozen encoder, of the heads alone."""
        if self.options.freeze:
            return [Stage("heads", 1.0, BOTH_TASKS, _HEADS) if self.markers else Stage("heads", 1.0, (SEGMENTATION,), _HEADS[:1])]
        return [Stage("joint", 1.0, BOTH_TASKS if self.markers else (SEGMENTATION,))]

    def cam_layers(self) -> tuple[str, ...]:
        """The last layer's tokens, which markers are read from as well; then, for the tumour alone, two levels of the head."""
        if self.options.head == "unetr":
            deepest = len(self.head.join) - 1  # type: ignore[arg-type]
            return "deepest", f"head.join.{deepest}", f"head.join.{deepest - 1}"
        return ("deepest", "head.up.0", "head.up.1") if self.options.head == "shallow" else ("deepest",)

    def diagram(self) -> str:
        """Tokens of every sequence, one transformer, averages, heads."""
        legend = self.modality_embedding.legend
        return diagram.fine_tuning(self.options, self.modalities, self.classes, self.markers, legend, self.taps)

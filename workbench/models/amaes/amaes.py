"""AMAES' fine-tuning: the U-Net with skips, its encoder from `amaes_pretrain` (Munk et al., arXiv 2408.00640).

The encoder is taken over, the decoder (two convolutions per level, with skips) starts from random weights; Dice plus
cross-entropy. The method has **no mechanism for missing sequences**: sequences are stacked as channels, an absent one is zero.
Here it is trained with modality dropout, all non-empty subsets of the sequences equally often, like the methods that it is
compared with (own choice).

Choices of ours:
1. The pretrained first convolution has one channel, this one has one per sequence. The published code transfers tensors of equal
   shape and leaves it random (`stem` random); by default its one filter serves every sequence, divided by their number, so that
   equal images give what one image gave. `copied` leaves out the division.
2. Every other tensor of the encoder must fit and be there: a file that fits in part is refused.
3. The published schedule (cosine drawn out to 1.15 times its length) is the workbench's cosine.

Whom the encoder has seen is recorded with it; a test on the same people is marked as contaminated. The published pool contains
BraTS 2021, ISLES 2022, WMH and MSSEG, among the usual test sets.

Parameters (4 sequences, 4 classes): 22,580,964; width 64: 90,303,940. The paper: 22 M and 90 M.
A forward pass over 128^3: 962 GFLOP.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from workbench.files import file_digest
from workbench.models.amaes.facts import AmaesOptions
from workbench.models.amaes.released import WEIGHTS, published_names
from workbench.models.amaes.unet import ARCHITECTURE, FIRST, LEVELS, Decoder, Encoder, features
from workbench.models.networks import SegmentationNetwork, draw_levels
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.file import refusal
from workbench.models.pretrained.own_encoder import read_own_encoder
from workbench.models.pretrained.released import Source, is_released, load_released


class Amaes(SegmentationNetwork):
    """U-Net with skips; markers are ignored."""

    name = "amaes"
    divisor = 2 ** (LEVELS - 1)
    minimum = 2 * divisor  # instance norm needs more than one voxel at 1/16
    options: AmaesOptions

    def build(self) -> None:
        """Encoder and decoder."""
        self.encoder = Encoder(len(self.modalities), self.options.width)
        self.decoder = Decoder(self.options.width, self.classes)

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        return (self.decoder(self.encoder(images)),)

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Fill the encoder from `amaes_pretrain`'s or from a released checkpoint; the decoder stays random.

        Raises:
            InputError: the file cannot be read, is no such encoder, or does not fit; the message says what to set.
        """
        if is_released(path, WEIGHTS):
            return self._load_released(path)
        file = read_own_encoder(path, ARCHITECTURE, "amaes_pretrain")
        width = file.description.get("width")
        if width != self.options.width:
            raise refusal(file.path, f"width {width}, this model has {self.options.width}", f"set width to {width}")
        own = {name: value for name, value in self.state_dict().items() if name.startswith("encoder.")}
        missing = sorted(set(own) - set(file.tensors))
        wrong = [name for name, value in file.tensors.items() if name in own and name != FIRST and value.shape != own[name].shape]
        if missing or wrong:
            raise refusal(
                file.path,
                f"of the encoder's {len(own)} tensors {len(missing)} are not in it and {len(wrong)} have another shape, such as "
                f"{[*missing, *wrong][0]}",
                "pass checkpoints/encoder.safetensors of an amaes_pretrain run",
            )
        one, count = file.tensors[FIRST], len(self.modalities)
        if one.shape[1] != 1:
            raise refusal(file.path, f"its first convolution has {one.shape[1]} channels, expected 1: one sequence at a time")
        source = self._stem_source
        loaded = {name: value for name, value in file.tensors.items() if name in own}
        skipped: dict[str, str] = {}
        adapted: tuple[str, ...] = ()
        if self.options.stem == "random":
            del loaded[FIRST]
            skipped = {FIRST: "input convolution: it has one channel, random weights stay (stem)"}
        else:
            loaded[FIRST] = self._stem(one)
            adapted = (FIRST,) if count > 1 else ()
        self.load_state_dict(loaded, strict=False)  # what is left out is the decoder, and what the account says
        return Coverage(
            file=file.path.name,
            digest=file_digest(file.path),
            kind="workbench",
            title="encoder of amaes_pretrain",
            total=len(file.tensors),
            matched=tuple(name for name in loaded if name not in adapted),
            adapted=adapted,
            skipped=skipped,
            unexpected=tuple(name for name in file.tensors if name not in own),
            channels=dict.fromkeys(self.modalities, source),
            seen=file.seen,
        )

    @property
    def _stem_source(self) -> str:
        count = len(self.modalities)
        return {
            "random": "random weights",
            "copied": "its only channel",
            "mean": f"its only channel, divided by {count}" if count > 1 else "its only channel",
        }[self.options.stem]

    def _stem(self, one: Tensor) -> Tensor:
        """The first convolution's weights (w, 1, 3, 3, 3) for every sequence."""
        count = len(self.modalities)
        return one.expand(-1, count, -1, -1, -1) / (count if self.options.stem == "mean" else 1)

    def _load_released(self, path: str | Path) -> Coverage:
        sources = published_names(self.encoder.state_dict(), "encoder.")
        first = FIRST.removeprefix("encoder.")
        if self.options.stem == "random":
            del sources[first]
        else:
            sources[first] = Source(sources[first].names, self._stem)
        channels = dict.fromkeys(self.modalities, self._stem_source)
        return load_released(
            self.encoder, path, WEIGHTS, sources, options=self.options, modalities=self.modalities, channels=channels
        )

    def cam_layers(self) -> tuple[str, ...]:
        """The bottom, then the level above it."""
        return "encoder.levels.4", "encoder.levels.3"

    def diagram(self) -> str:
        """Levels as columns."""
        sizes = features(self.options.width)
        text = [(f"{size} features", f"1/{2**level}" if level else "full size") for level, size in enumerate(sizes)]
        return draw_levels("AMAES U-Net, pretrained encoder", self, text[:-1], text[-1], text[:-1])

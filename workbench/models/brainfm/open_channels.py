"""What methods share that know a sequence by its name: by text also ones that they were not built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.models.brainfm.encoder import BrainFMEncoder
from workbench.models.brainfm.facts import BrainFMEncoderOptions
from workbench.models.brainfm.modality_embedding import ModalityEmbedding, OneHotEmbedding, outside_vocabulary, vocabulary_rows
from workbench.models.brainfm.transfer import load_encoder
from workbench.models.method import MethodModule
from workbench.models.pretrained.coverage import Coverage


class OpenChannels(MethodModule):
    """A method to which a sequence is a name: channels are its own sequences, then whatever else is given.

    `channels` names those of the images that `arrange` gave last: what takes arranged images reads it.
    """

    encoder: BrainFMEncoder
    options: BrainFMEncoderOptions
    open_modalities = True
    _channels: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the arranged images."""
        return self._channels or self.modalities

    def arrange(self, images: Tensor, present: Tensor, given: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Channels by name: the method's own in their order, then all others as given; absent ones become exactly zero.

        Raises:
            ParameterError: another sequence than its own, where `modality_embedding` is one-hot; names that do not suit.
        """
        own, given = self.modalities, self.modalities if given is None else tuple(given)
        others = tuple(name for name in given if name not in own)
        if not others and set(given) & set(own):
            self._channels = own
            return super().arrange(images, present, given)
        self.check_channels(images, present, given)
        self.check_vocabulary(others)
        self._channels = (*own, *others)
        index = [given.index(name) if name in given else -1 for name in self._channels]
        has = torch.tensor([i >= 0 for i in index], device=present.device)
        shown = present.bool()[:, index] & has
        return torch.where(
            shown[:, :, None, None, None], images[:, index], torch.zeros((), dtype=images.dtype, device=images.device)
        ), shown

    def architecture(self) -> Mapping[str, object]:
        """As every method; a file of text vectors goes by its digest."""
        found = dict(super().architecture())
        options = dict(found["options"])  # type: ignore[call-overload]
        return found | {"options": options | {"embeddings": self.modality_embedding.digest}}

    @property
    def modality_embedding(self) -> ModalityEmbedding | OneHotEmbedding:
        """What its sequences' vectors come from: the encoder's."""
        return self.encoder.modality

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Start from the encoder that a brainfm_pretrain run left; heads and decoder start afresh."""
        return load_encoder(self.encoder, path, self.options, self.modalities)

    def refused(self, names: Sequence[str]) -> list[str]:
        """Of the names those that it cannot read; with text it reads any."""
        embedding = self.modality_embedding
        return outside_vocabulary(names, embedding.vocabulary) if isinstance(embedding, OneHotEmbedding) else []

    def check_vocabulary(self, names: Sequence[str]) -> None:
        """Refuse the names that it cannot read, before anything is computed.

        Raises:
            ParameterError: there are such; the message names them.
        """
        if isinstance(self.modality_embedding, OneHotEmbedding):
            vocabulary_rows(names, self.modality_embedding.vocabulary)

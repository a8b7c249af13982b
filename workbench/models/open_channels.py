"""What methods share that take any sequences by name, also ones that they were not built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workbench.errors import ParameterError
from workbench.models.method import MethodModule


class OpenChannels(MethodModule):
    """A method to which a sequence is a name: channels are its own sequences, then whatever else is given.

    `channels` names those of the images that `arrange` gave last; `predict`, `subset_logits` and `pooled_features` read it.
    """

    open_modalities = True
    _channels: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the arranged images."""
        return self._channels or self.modalities

    def arrange(self, images: Tensor, present: Tensor, given: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Channels by name: the method's own in their order, then all others as given; absent ones become exactly zero."""
        own, given = self.modalities, self.modalities if given is None else tuple(given)
        others = tuple(name for name in given if name not in own)
        if not others and set(given) & set(own):
            self._channels = own
            return super().arrange(images, present, given)
        self.check_channels(images, present, given)
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
        return found | {"options": options | {"embeddings": self.embeddings_digest}}

    @property
    def embeddings_digest(self) -> str:
        """Digest of the file of text vectors; empty: the built-in ones."""
        raise ParameterError(f"{type(self).__name__} must say what its sequences' vectors are")

"""Loading pretrained weights into a Swin backbone, with an account of every tensor.

Loading by `strict=False` and a prefix is how pretrained weights get lost in silence: where no name fits, nothing is loaded and
nothing is said. Here every tensor of the file is matched, adapted, skipped for a stated reason or unexpected, every parameter of
the encoder must be filled, and whatever cannot be right is an error: other depth, width, window or patch merging.

Channels go by name. A BraTS file's channels are FLAIR, T1c, T1, T2; the model's may be in any order, fewer or others. A sequence
that the file does not know gets, by `stem`:

    random   what the fresh network has (BrainSegFounder's code does this for all four sequences)
    mean     the mean over the file's channels, divided by the number of the model's sequences; of a one-channel file, equal
             images then give what its one image gave
    copied   the mean over the file's channels as it is
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.errors import ParameterError
from workbench.files import file_digest
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.file import DECODER, STEM, PretrainedFile, read_pretrained, refusal
from workbench.models.swin.facts import ENCODER_DEPTHS, PretrainedSwinOptions

logger = logging.getLogger(__name__)

INPUT_KEYS = (STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight")
"""Weights whose second dimension is the input channels."""
_OUTPUT = "out."


def load_swin(
    backbones: Sequence[nn.Module], path: str | Path, *, modalities: Sequence[str], options: PretrainedSwinOptions
) -> Coverage:
    """Load a file into one or several Swin backbones of equal shape; all or nothing.

    Args:
        backbones: modules with MONAI's names (`swinViT.*`; of a whole SwinUNETR also the decoder's).
        path: the file, see `pretrained.kinds.KINDS`, or an encoder written by `pretrain_swin`.
        modalities: the backbones' input channels, by name.
        options: what the backbones were built with.

    Raises:
        InputError: the file cannot be read, is of no known kind, or does not fit; the message says what to set.
    """
    file = read_pretrained(path)
    if not file.kind.channels and file.stem.shape[1] != 1:
        raise refusal(file.path, f"expected one input channel, found {file.stem.shape[1]}")
    _check_fit(file, options)
    own = backbones[0].state_dict()
    matched: dict[str, Tensor] = {}
    adapted: dict[str, Tensor] = {}
    skipped = dict.fromkeys(file.heads, "head of a pretext task")
    unexpected, other_shape = list(file.unexpected), []
    sources: dict[str, str] = {}
    for name, tensor in file.tensors.items():
        if name.startswith(_OUTPUT):
            skipped[name] = "output convolution: it answers for the regions TC, WT and ET, not for this model's classes"
        elif name not in own:
            _place_stranger(name, file, options, skipped, unexpected)
        elif name in INPUT_KEYS:
            weight, sources = _by_name(tensor, own[name], file.kind.channels, modalities, options.stem)
            if weight is None or weight.shape != own[name].shape:
                other_shape.append(name)
            elif all(source == _RANDOM for source in sources.values()):
                skipped[name] = "input convolution: none of the model's sequences is in the file, random weights stay (stem)"
            elif torch.equal(weight, tensor) or (set(modalities) == set(file.kind.channels)):
                matched[name] = weight
            else:
                adapted[name] = weight
        elif own[name].shape != tensor.shape:
            other_shape.append(name)
        else:
            matched[name] = tensor
    given = {*matched, *adapted, *skipped}
    wanted = [name for name in own if name.startswith(("swinViT.", *(DECODER if file.kind.scope == "network" else ())))]
    coverage = Coverage(
        file=file.path.name,
        digest=file_digest(file.path),
        kind=file.kind.name,
        title=file.kind.title,
        total=file.total,
        matched=tuple(matched),
        adapted=tuple(adapted),
        skipped=skipped,
        unexpected=tuple(unexpected),
        other_shape=tuple(other_shape),
        missing=tuple(name for name in wanted if name not in given and not name.startswith(_OUTPUT)),
        channels={name: sources.get(name, _RANDOM) for name in modalities},
        backbones=len(backbones),
        seen=file.kind.seen,
    )
    _assert(coverage, file, options)
    for backbone in backbones:
        backbone.load_state_dict(matched | adapted, strict=False)  # what is left out is what `coverage` says
    logger.info("%s", coverage)
    return coverage


_RANDOM = "random weights"


def _check_fit(file: PretrainedFile, options: PretrainedSwinOptions) -> None:
    """Refuse another patch merging, width, window or depth, saying which option makes it fit."""
    kind = file.kind
    if kind.merging != options.merging:
        raise refusal(
            file.path,
            f"{kind.title} was trained with {kind.merging} patch merging, this model merges in the {options.merging} way: "
            "the weights would load and compute something else",
            f"set merging to '{kind.merging}'",
        )
    width = len(file.stem)
    if width != options.feature_size:
        raise refusal(file.path, f"feature size {width}, this model has {options.feature_size}", f"set feature_size to {width}")
    if file.window and file.window != options.window:
        raise refusal(file.path, f"windows of {file.window}^3, this model has {options.window}^3", f"set window to {file.window}")
    wanted = ENCODER_DEPTHS[options.encoder]
    if file.depths != wanted and not options.pretrained_partial:
        size = next((name for name, depths in ENCODER_DEPTHS.items() if depths == file.depths), "")
        blocks, own = ("-".join(map(str, depths)) for depths in (file.depths, wanted))
        fitting = f"set encoder to '{size}', or " if size else ""
        raise refusal(
            file.path,
            f"{blocks} transformer blocks, this {options.encoder} encoder has {own}",
            f"{fitting}pretrained_partial to true to load the blocks that fit",
        )


def _place_stranger(
    name: str, file: PretrainedFile, options: PretrainedSwinOptions, skipped: dict[str, str], unexpected: list[str]
) -> None:
    """A tensor that the model has not: a block of a deeper encoder, a decoder that is not there, or unexpected."""
    if options.pretrained_partial and ".blocks." in name and file.depths != ENCODER_DEPTHS[options.encoder]:
        skipped[name] = "block that this encoder does not have (pretrained_partial)"
    elif not name.startswith("swinViT."):
        skipped[name] = "decoder: this model has none"
    else:
        unexpected.append(name)


def _by_name(
    tensor: Tensor, fresh: Tensor, channels: Sequence[str], modalities: Sequence[str], stem: str
) -> tuple[Tensor | None, dict[str, str]]:
    """An input convolution (f, M, ...) put together from the file's (f, C, ...), and where each modality's part comes from."""
    if tensor.shape[:1] + tensor.shape[2:] != fresh.shape[:1] + fresh.shape[2:]:
        return None, {}
    if not channels and len(modalities) == 1:
        return tensor, {modalities[0]: "the file's only channel"}
    mean = tensor.mean(1)
    parts, sources = [], {}
    for index, name in enumerate(modalities):
        if name in channels:
            parts.append(tensor[:, channels.index(name)])
            sources[name] = "the same sequence"
        elif stem == "random":
            parts.append(fresh[:, index])
            sources[name] = _RANDOM
        else:
            parts.append(mean / len(modalities) if stem == "mean" else mean)
            over = f"the mean of its {tensor.shape[1]} channels" if tensor.shape[1] > 1 else "its only channel"
            sources[name] = f"{over}, divided by {len(modalities)}" if stem == "mean" else over
    return torch.stack(parts, dim=1), sources


def _assert(coverage: Coverage, file: PretrainedFile, options: PretrainedSwinOptions) -> None:
    """Refuse what cannot be the file it was taken for."""
    if coverage.other_shape:
        raise refusal(file.path, f"another architecture: {len(coverage.other_shape)} tensors of another shape\n{coverage}")
    inside = [name for name in coverage.unexpected if name.startswith("swinViT.")]
    if inside:
        raise refusal(file.path, f"another architecture: {len(inside)} encoder tensors that this one has not\n{coverage}")
    if coverage.missing and not options.pretrained_partial:
        raise refusal(file.path, f"incomplete: {len(coverage.missing)} tensors of the model are not in it\n{coverage}")
    if 2 * len(coverage.matched) < len(coverage.matched) + len(coverage.missing) or not coverage.matched:
        raise refusal(file.path, f"too little of it fits: {len(coverage.matched)} of {coverage.total} tensors\n{coverage}")
    counted = len(coverage.matched) + len(coverage.adapted) + len(coverage.skipped) + len(coverage.unexpected)
    if counted != coverage.total:
        raise ParameterError(f"{coverage.file}: {coverage.total} tensors, but {counted} accounted for")
    if coverage.unexpected:
        logger.warning("%s: %d unexpected tensors, such as %s", coverage.file, len(coverage.unexpected), coverage.unexpected[0])

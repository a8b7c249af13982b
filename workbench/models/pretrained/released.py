"""Loading weights that the authors of a method released, by a map from our names to theirs, with an account of every tensor.

A family's `released` says the map and which options make its arithmetic the public code's; anything else is refused, since
the weights would load and compute something else. The maps are tested against arrays of the public code (`tests/parity`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from workbench.files import file_digest
from workbench.models.options_base import MethodOptions
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.file import HEADER, open_tensors, refusal
from workbench.models.pretrained.seen import Seen

logger = logging.getLogger(__name__)

_PICKLES = (".pt", ".pth", ".ckpt", ".bin")


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from."""

    names: tuple[str, ...]
    """In the released file, without the prefix that a wrapper put before all names."""
    change: Callable[..., Tensor] = lambda tensor: tensor
    """What is done to them."""


@dataclass(frozen=True, kw_only=True)
class ReleasedWeights:
    """One kind of file that authors released."""

    kind: str
    title: str
    anchor: str
    """A name that every such file has: by it the file is known, and the prefix before all its names."""
    seen: Seen
    modalities: tuple[str, ...] = ()
    """Sequences in the order of the channels; empty: any."""
    required: Mapping[str, object] = field(default_factory=dict)
    """Options without which the arithmetic is not the public code's."""
    unused: tuple[tuple[str, str], ...] = ()
    """(pattern, why) of names that have no counterpart."""


def named(own: Iterable[str], rules: Sequence[tuple[str, str]]) -> dict[str, Source]:
    """Our names -> theirs, by regular expressions that are applied one after the other."""
    found = {}
    for name in own:
        theirs = name
        for pattern, replacement in rules:
            theirs = re.sub(pattern, replacement, theirs)
        found[name] = Source((theirs,))
    return found


def swapped_halves(tensor: Tensor) -> Tensor:
    """The halves of axis 1 exchanged: a convolution of two concatenated maps, of which the other comes first."""
    return torch.cat(tensor.chunk(2, dim=1)[::-1], dim=1)


def is_released(path: str | Path, weights: ReleasedWeights) -> bool:
    """Whether a file is to be read as one that authors released, not as an encoder that a pretraining here left: a pickle, or
    safetensors without a description that has the names of the public code."""
    path = Path(path)
    if path.suffix in _PICKLES:
        return True
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            described = HEADER in (file.metadata() or {})
            return not described and any(_is_anchor(name, weights) for name in file.keys())  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError):
        return False


def _is_anchor(name: str, weights: ReleasedWeights) -> bool:
    return name == weights.anchor or name.endswith("." + weights.anchor)


def read_released(path: str | Path, weights: ReleasedWeights) -> dict[str, Tensor]:
    """The tensors of a released file, without the prefix that DataParallel or a training module put before their names.

    Raises:
        InputError: the file cannot be read safely, or is no such file.
    """
    path = Path(path)
    tensors = open_tensors(path)
    ending = next((name for name in tensors if _is_anchor(name, weights)), None)
    if ending is None:
        raise refusal(
            path,
            f"its {len(tensors)} tensors, such as {', '.join(list(tensors)[:3])}, are not those of {weights.title}: "
            f"there is no {weights.anchor}",
            "pass the file that the authors released, or leave 'pretrained' empty",
        )
    prefix = ending.removesuffix(weights.anchor)
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def load_released(
    module: nn.Module,
    path: str | Path,
    weights: ReleasedWeights,
    sources: Mapping[str, Source],
    *,
    options: MethodOptions,
    modalities: Sequence[str],
    channels: Mapping[str, str] | None = None,
) -> Coverage:
    """Fill a module from a released file; all or nothing.

    Args:
        module: what is filled.
        path: the file: safetensors, or a pickle that `torch.load(weights_only=True)` reads.
        weights: what kind of file it is expected to be.
        sources: name in `module` -> where it comes from; what it does not name stays as it is.
        options: what the module was built with.
        modalities: its sequences, in order.
        channels: modality -> where its input weights come from; None: each from its own.

    Raises:
        InputError: the file cannot be read, the options are not the published ones, or a tensor is missing or of another shape;
            the message says what to set.
    """
    path = Path(path)
    found = read_released(path, weights)
    _check_options(path, weights, options, modalities)
    own, placed = module.state_dict(), {}
    missing = sorted({name for source in sources.values() for name in source.names} - set(found))
    if missing:
        raise refusal(
            path,
            f"of the tensors of {weights.title} {len(missing)} are not in it, such as {', '.join(missing[:3])}",
            "set the sizes of the model (depth, levels, ...) to those of the file",
        )
    for name, source in sources.items():
        value = source.change(*(found[other] for other in source.names))
        if value.shape != own[name].shape:
            raise refusal(
                path,
                f"{source.names[0]} has shape {tuple(value.shape)}, this model needs {tuple(own[name].shape)}",
                "set the sizes of the model (width, classes, ...) to those of the file",
            )
        placed[name] = value
    wrong = [name for name, value in placed.items() if not bool(torch.isfinite(value).all())]
    if wrong:
        raise refusal(path, f"{len(wrong)} tensors hold values that are not finite, such as {sources[wrong[0]].names[0]}")
    used = {name for source in sources.values() for name in source.names}
    skipped, unexpected = {}, []
    for name in found:
        if name not in used:
            reason = next((why for pattern, why in weights.unused if re.search(pattern, name)), "")
            if reason:
                skipped[name] = reason
            else:
                unexpected.append(name)
    coverage = Coverage(
        file=path.name,
        digest=file_digest(path),
        kind=weights.kind,
        title=weights.title,
        total=len(found),
        matched=tuple(name for name in found if name in used),
        skipped=skipped,
        unexpected=tuple(unexpected),
        missing=tuple(name for name in own if name not in sources),
        channels=dict(channels) if channels is not None else dict.fromkeys(modalities, "the same sequence"),
        seen=weights.seen,
    )
    module.load_state_dict(placed, strict=False)  # what is left out is what the account says
    logger.info("%s", coverage)
    return coverage


def _check_options(path: Path, weights: ReleasedWeights, options: MethodOptions, modalities: Sequence[str]) -> None:
    """Refuse what would compute something else with these weights, saying what to set."""
    others = {name: wanted for name, wanted in weights.required.items() if getattr(options, name) != wanted}
    if others:
        raise refusal(
            path,
            f"{weights.title}: the weights would load and compute something else with "
            + ", ".join(f"{name}={getattr(options, name)}" for name in others),
            "set " + ", ".join(f"{name} to {wanted}" for name, wanted in others.items()),
        )
    if weights.modalities and tuple(modalities) != weights.modalities:
        raise refusal(
            path,
            f"{weights.title} reads {', '.join(weights.modalities)} in this order, this model {', '.join(modalities)}",
            f"set modalities to {','.join(weights.modalities)}",
        )

"""Starting BrainFM-MRI's encoder from the one that its pretraining left, with an account of every tensor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from workbench.files import file_digest
from workbench.models.brainfm.encoder import BrainFMEncoder
from workbench.models.brainfm.facts import BrainFMEncoderOptions
from workbench.models.brainfm.modality_embedding import outside_vocabulary, vocabulary_rows
from workbench.models.brainfm.modality_text import sequence_phrase
from workbench.models.brainfm.released import WEIGHTS, published_names
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.file import refusal
from workbench.models.pretrained.own_encoder import read_own_encoder
from workbench.models.pretrained.released import is_released, load_released

logger = logging.getLogger(__name__)

_PREFIX = "encoder."
_TABLE = "modality.table"
_VECTORS = "modality.vectors"
MUST_AGREE = ("token", "width", "depth", "heads", "mlp", "positions", *BrainFMEncoderOptions.later)
"""Options in which an encoder's file and a model that starts from it must not differ."""


def load_encoder(
    encoder: BrainFMEncoder, path: str | Path, options: BrainFMEncoderOptions, modalities: Sequence[str]
) -> Coverage:
    """Fill an encoder from `encoder.safetensors` of a brainfm_pretrain run, or from a file of the public code; all or nothing.

    Raises:
        InputError: the file cannot be read or was built otherwise; the message says which option to set. Its modality
            embedding is one-hot, and one of the model's sequences is not among its own.
    """
    if is_released(path, WEIGHTS):
        return _load_released(encoder, path, options, modalities)
    file = read_own_encoder(path, "brainfm", "brainfm_pretrain")
    told = file.description
    for name in MUST_AGREE:
        earlier = BrainFMEncoderOptions.model_fields[name].default if name in BrainFMEncoderOptions.later else None
        there, here = told.get(name, earlier), getattr(options, name)
        if there != here:
            raise refusal(file.path, f"{name} {there}, this model has {here}", f"set {name} to {there}")
    if told.get("embeddings", "") != encoder.modality.digest:
        raise refusal(
            file.path,
            f"it was trained with {_vectors(told.get('embeddings', ''))}, this model has {_vectors(encoder.modality.digest)}: "
            "the same sequence would be another one to it",
            "set embeddings to the file it was trained with, or leave it empty where it was trained without",
        )
    own, before = encoder.state_dict(), tuple(told.get("modalities", ()))
    found = {name.removeprefix(_PREFIX): value for name, value in file.tensors.items() if name.startswith(_PREFIX)}
    if _VECTORS in own and _VECTORS in found:
        if others := outside_vocabulary(modalities, before):
            raise refusal(
                file.path,
                f"its one-hot modality embedding knows {', '.join(before)}: it has no vector for {', '.join(others)}",
                "leave the sequence out of 'modalities', or pretrain with it, or with modality_embedding text",
            )
        found[_VECTORS] = found[_VECTORS][vocabulary_rows(modalities, before)]
    matched = {name: value for name, value in found.items() if name in own and name != _TABLE}
    other_shape = [name for name, value in matched.items() if value.shape != own[name].shape]
    missing = [name for name in own if name not in found and name != _TABLE]
    if other_shape or missing:
        raise refusal(file.path, f"incomplete or of another shape: {', '.join([*other_shape, *missing][:3])}")
    coverage = Coverage(
        file=file.path.name,
        digest=file_digest(file.path),
        kind="workbench",
        title=f"encoder of {told.get('method')}",
        total=len(file.tensors),
        matched=tuple(matched),
        skipped={name: "text vectors: the model's own, of the same file" for name in found if name == _TABLE},
        unexpected=tuple(name for name in file.tensors if name.removeprefix(_PREFIX) not in own),
        channels={
            name: "the same sequence"
            if name in before
            else f"its text, '{sequence_phrase(name)}', which pretraining did not show"
            for name in modalities
        },
        seen=file.seen,
    )
    encoder.load_state_dict(matched, strict=False)  # all of it but the table of text vectors, as checked above
    logger.info("%s", coverage)
    return coverage


def _load_released(
    encoder: BrainFMEncoder, path: str | Path, options: BrainFMEncoderOptions, modalities: Sequence[str]
) -> Coverage:
    """The encoder of the public code. Its sequences are known by BioBERT's vectors of their names: with others the weights would
    load and compute something else."""
    sources = published_names(f"{_PREFIX}{name}" for name in encoder.state_dict())
    if options.modality_embedding == "text" and not options.embeddings:
        raise refusal(
            Path(path),
            f"{WEIGHTS.title} were trained with BioBERT's vectors of the sequences' names, this model has the built-in ones",
            "make a file of them with `workbench modality-embeddings` and pass it as embeddings",
        )
    own = {name.removeprefix(_PREFIX): source for name, source in sources.items()}
    channels = {name: f"its text, '{sequence_phrase(name)}'" for name in modalities}
    return load_released(encoder, path, WEIGHTS, own, options=options, modalities=modalities, channels=channels)


def _vectors(digest: str) -> str:
    return f"text vectors {digest}" if digest else "the built-in text vectors"

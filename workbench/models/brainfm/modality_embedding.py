"""The modality embedding of BrainFM-MRI: text vectors, built in or read from a file, brought to the width of the tokens; and
what they are compared with, a learned vector for each of a closed list of sequences.

A file of vectors is made by `workbench modality-embeddings` from a BERT model that lies on this machine, BioBERT v1.1 in the
paper; nothing is ever downloaded. The text vectors are frozen; of a file they travel inside checkpoints, so that a run can
predict where the file is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from workbench.errors import InputError, ParameterError, Problem
from workbench.files import atomic_path, file_digest
from workbench.models.brainfm.modality_text import (
    ALIASES,
    DIMENSIONS,
    PHRASES,
    RMS,
    nearest,
    normalised,
    sequence_phrase,
    text_vectors,
)

HEADER = "workbench-modality-embeddings"
DIGEST_PREFIX = "blake2b:"
_VECTORS = "vectors"


class ModalityEmbedding(nn.Module):
    """Sequence names -> vectors of the tokens' width.

    Args:
        width: of the tokens; at 768, a text vector's own length, there is no projection (as published).
        modalities: sequences the model is built for; each gets its own row of a file's table.
        embeddings: file of text vectors; empty: the built-in ones. A digest ('blake2b:...', from a run's record) makes an empty
            table that a checkpoint fills.

    Raises:
        InputError: the file is no file of text vectors.
    """

    table: Tensor
    legend = ("text of the sequence", "frozen vector of 768")

    def __init__(self, width: int, modalities: Sequence[str], embeddings: str = "") -> None:
        super().__init__()
        self.digest = ""
        """Of the file of text vectors; empty: built in."""
        self.rows: dict[str, str] = {}
        """Name -> phrase of the table's rows."""
        if embeddings:
            own = {name: sequence_phrase(name) for name in modalities if _canonical(name) not in PHRASES}
            self.rows = PHRASES | dict(sorted(own.items()))
            known = embeddings.startswith(DIGEST_PREFIX)
            self.digest = embeddings if known else DIGEST_PREFIX + embeddings_digest(embeddings)
            table = torch.zeros(len(self.rows), DIMENSIONS) if known else _table(read_embeddings(embeddings), self.rows)
            self.register_buffer("table", table)
        self.project: nn.Module = nn.Identity() if width == DIMENSIONS else nn.Linear(DIMENSIONS, width)

    def text(self, names: Sequence[str]) -> Tensor:
        """(names, 768): the frozen text vectors. Of a file, a name that is not in it takes the vector of its nearest phrase."""
        if not self.rows:
            return torch.from_numpy(text_vectors(names))
        order = list(self.rows)
        return self.table[[order.index(self._row(name)) for name in names]]

    def _row(self, name: str) -> str:
        """The row of a name: its own, its sequence's under another name, or the nearest."""
        own = next((row for row in (name, _canonical(name)) if row in self.rows), None)
        return own or nearest(name, self.rows)

    def forward(self, names: Sequence[str], like: Tensor) -> Tensor:
        """(names, width), on the device of `like`."""
        return self.project(self.text(names).to(like.device))


class OneHotEmbedding(nn.Module):
    """Sequence names -> learned vectors of the tokens' width: one-hot codes through a linear layer, for a closed list of names.

    They start as noise of the size that text vectors have.
    """

    digest = ""
    legend = ("one-hot sequence", "learned vector")

    def __init__(self, width: int, modalities: Sequence[str]) -> None:
        super().__init__()
        self.vocabulary = tuple(modalities)
        self.vectors = nn.Parameter(RMS * torch.randn(len(self.vocabulary), width))

    def forward(self, names: Sequence[str], like: Tensor) -> Tensor:
        """(names, width).

        Raises:
            ParameterError: a name that is not in the list.
        """
        return self.vectors[vocabulary_rows(names, self.vocabulary)]


def outside_vocabulary(names: Sequence[str], vocabulary: Sequence[str]) -> list[str]:
    """The names that are neither in a list of sequences nor another name of one that is."""
    known = {*vocabulary, *map(_canonical, vocabulary)}
    return [name for name in names if name not in known and _canonical(name) not in known]


def vocabulary_rows(names: Sequence[str], vocabulary: Sequence[str]) -> list[int]:
    """Place in a list of sequences of each name, its own or another name of the same sequence.

    Raises:
        ParameterError: one is in none; the message names it.
    """
    if others := outside_vocabulary(names, vocabulary):
        raise ParameterError(
            f"{', '.join(others)}: no sequence of a one-hot modality embedding of {', '.join(vocabulary)}, and it has no vector "
            "for others. Leave it out, train with it among 'modalities', or with modality_embedding text, which reads any name"
        )
    canonical = [_canonical(name) for name in vocabulary]
    return [vocabulary.index(name) if name in vocabulary else canonical.index(_canonical(name)) for name in names]


def embeddings_digest(path: str | Path) -> str:
    """Digest of a file of text vectors.

    Raises:
        InputError: there is no such file.
    """
    if not Path(path).is_file():
        raise _refusal(path, "the file of text vectors does not exist", "make one with `workbench modality-embeddings`")
    return file_digest(Path(path))


def read_embeddings(path: str | Path) -> dict[str, Tensor]:
    """Name of a sequence -> its text vector (768,).

    Raises:
        InputError: missing, damaged, another program's, of another length, or holding values that are not finite or all zero.
    """
    embeddings_digest(path)
    remedy = "make one with `workbench modality-embeddings`"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            vectors = file.get_tensor(_VECTORS) if _VECTORS in file.keys() else None  # noqa: SIM118 - safe_open is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _refusal(path, f"no safetensors file, or a damaged one: {error}", remedy) from error
    phrases = header.get("phrases") if isinstance(header, dict) else None
    if vectors is None or not isinstance(phrases, dict) or not phrases:
        raise _refusal(
            path, "a safetensors file, but not one of text vectors: it has no table, or no phrases in its header", remedy
        )
    if tuple(vectors.shape) != (len(phrases), DIMENSIONS):
        found = "x".join(map(str, vectors.shape))
        raise _refusal(path, f"expected {len(phrases)} vectors of {DIMENSIONS}, found {found}", remedy)
    bad = [name for name, row in zip(phrases, vectors, strict=True) if not bool(torch.isfinite(row).all()) or not bool(row.any())]
    if bad:
        raise _refusal(path, f"the vectors of {', '.join(bad)} are not finite or all zero", remedy)
    return dict(zip(phrases, vectors.float(), strict=True))


def write_embeddings(model: str | Path, out: str | Path, extra: Mapping[str, str] | None = None) -> int:
    """Compute the text vectors of all known sequences with a BERT model and write them as safetensors.

    Args:
        model: folder of a model and its tokenizer as transformers saves them, 768 wide (BioBERT v1.1); nothing is downloaded.
        out: the file to write.
        extra: further sequences, name -> phrase.

    Returns:
        The number of vectors.

    Raises:
        ParameterError: transformers is not installed.
        InputError: `model` is no such folder, or of another width.
    """
    try:
        from transformers import AutoModel, AutoTokenizer  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ParameterError("text vectors are computed with the package transformers: `pip install transformers`") from error
    if not Path(model).is_dir():
        raise _refusal(
            model, "expected the folder of a model that transformers has saved", "fetch BioBERT v1.1 and pass its folder"
        )
    phrases = PHRASES | dict(extra or {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
        network = AutoModel.from_pretrained(str(model), local_files_only=True).eval()
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise _refusal(
            model, f"transformers cannot open it: {reason}", "pass a folder with config, weights and tokenizer"
        ) from error
    tokens = tokenizer(list(phrases.values()), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = network(**tokens).last_hidden_state  # (N, words, 768)
    weight = tokens["attention_mask"][:, :, None].to(states.dtype)
    vectors = (states * weight).sum(1) / weight.sum(1)  # mean-pooled over the words that are there
    if vectors.shape[1] != DIMENSIONS:
        raise _refusal(
            model, f"its states are {vectors.shape[1]} wide, expected {DIMENSIONS}", "use BioBERT v1.1 or another base model"
        )
    header = {"format": 1, "model": Path(model).resolve().name, "phrases": phrases}
    with atomic_path(Path(out)) as temporary:
        save_file({_VECTORS: vectors.float().contiguous()}, temporary, {HEADER: json.dumps(header)})
    return len(phrases)


def _table(found: Mapping[str, Tensor], rows: Mapping[str, str]) -> Tensor:
    """(rows, 768): a file's vectors in the order of the rows; a row that the file has not takes its nearest."""
    phrases = {name: rows.get(name, sequence_phrase(name)) for name in found}
    return torch.stack([found[name if name in found else nearest(name, phrases)] for name in rows])


def _canonical(name: str) -> str:
    whole = normalised(name)
    return ALIASES.get(whole, whole)


def _refusal(path: str | Path, message: str, remedy: str) -> InputError:
    return InputError(Problem(file=str(path), message=message, remedy=remedy))

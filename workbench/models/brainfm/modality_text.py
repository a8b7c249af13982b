"""What a sequence is, as text, and that text as a vector: how BrainFM-MRI knows one sequence from another. No torch.

BrainFM-MRI names a sequence to the network by the embedding of a text (BioBERT's). Its published code takes the bare name of a
file or key, such as `t2f`, which says little; here every known name stands for a full phrase, in which related sequences share
words: weighting, suppression, contrast agent, diffusion. A name never seen becomes a phrase too: words that are known names are
spelled out, the others stay. `workbench modality-embeddings` turns the same phrases into BioBERT vectors where the model is at
hand.

Choices of ours, all of them: the phrases, the aliases, and the built-in vector, which needs no file. It is compositional and
deterministic: each distinct word is a pseudo-random vector of signs, made of the word itself and of its character 3- and
4-grams (so that `suppressed` lies near `suppression`), words that say little weigh little, and the sum is brought to a fixed
length. Two phrases are thus as similar as the words that they share.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from workbench.errors import ParameterError

DIMENSIONS = 768
"""Length of a text vector, BioBERT's."""
RMS = 0.5
"""Root mean square of a built-in vector's elements: of the order of a token's own."""

PHRASES: dict[str, str] = {
    "t1": "T1-weighted MRI of the brain",
    "t1c": "T1-weighted contrast-enhanced MRI of the brain after gadolinium contrast agent",
    "t1fs": "T1-weighted fat-suppressed MRI of the brain",
    "t2": "T2-weighted MRI of the brain",
    "flair": "T2-weighted fluid attenuated inversion recovery MRI of the brain",
    "flairc": "T2-weighted fluid attenuated inversion recovery MRI of the brain after gadolinium contrast agent",
    "t1flair": "T1-weighted fluid attenuated inversion recovery MRI of the brain",
    "dir": "double inversion recovery fluid attenuated white matter suppressed MRI of the brain",
    "stir": "short tau inversion recovery fat-suppressed MRI of the brain",
    "pd": "proton density weighted MRI of the brain",
    "dwi": "diffusion-weighted MRI of the brain",
    "adc": "apparent diffusion coefficient map from diffusion-weighted MRI of the brain",
    "b0": "diffusion MRI of the brain without diffusion weighting T2-weighted",
    "fa": "fractional anisotropy map from diffusion tensor MRI of the brain",
    "md": "mean diffusivity map from diffusion tensor MRI of the brain",
    "swi": "susceptibility-weighted gradient echo MRI of the brain",
    "t2star": "T2-star-weighted gradient echo MRI of the brain susceptibility",
    "qsm": "quantitative susceptibility map from gradient echo MRI of the brain",
    "asl": "arterial spin labelling perfusion MRI of the brain cerebral blood flow",
    "dsc": "dynamic susceptibility contrast perfusion MRI of the brain after gadolinium contrast agent",
    "cbf": "cerebral blood flow map from perfusion MRI of the brain",
    "cbv": "cerebral blood volume map from perfusion MRI of the brain",
    "mtt": "mean transit time map from perfusion MRI of the brain",
    "tmax": "time to maximum map from perfusion MRI of the brain",
    "mra": "time of flight angiography MRI of the brain arteries",
    "ct": "computed tomography of the brain",
    "pet": "positron emission tomography of the brain",
}
"""Sequence -> phrase. What distinguishes it is spelled out; what is common to many is said in the same words."""

ALIASES: dict[str, str] = {
    "t1w": "t1", "t1n": "t1", "t1pre": "t1", "mprage": "t1", "t1ce": "t1c", "t1gd": "t1c", "t1post": "t1c", "t1wce": "t1c",
    "t1cw": "t1c", "t2w": "t2", "t2f": "flair", "t2flair": "flair", "flairce": "flairc", "pdw": "pd", "trace": "dwi",
    "t2s": "t2star", "gre": "t2star", "tof": "mra", "rcbv": "cbv", "rcbf": "cbf",
}  # fmt: skip
"""Other names of the same sequences."""

ABBREVIATIONS: dict[str, str] = {
    "gd": "gadolinium contrast agent", "gado": "gadolinium contrast agent", "ce": "contrast-enhanced gadolinium contrast agent",
    "post": "after gadolinium contrast agent", "fs": "fat-suppressed", "fatsat": "fat-suppressed", "ir": "inversion recovery",
    "perf": "perfusion", "diff": "diffusion", "dti": "diffusion tensor",
}  # fmt: skip
"""Words of longer names that are spelled out."""

_LITTLE = frozenset(
    [
        "of", "the", "from", "after", "without", "with", "to", "and", "in", "on", "by", "a", "an", "mri", "mr", "image",
        "imaging", "scan", "sequence", "brain", "weighted", "map",
    ]
)  # fmt: skip
_WEIGHT_OF_LITTLE = 0.25
_PIECES = 0.35
"""Share of a word's squared length that its character n-grams have."""


def normalised(name: str) -> str:
    """Lower case, letters and digits only: `T1-CE` and `t1_ce` are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def sequence_phrase(name: str) -> str:
    """The phrase that a sequence's name stands for.

    A known name or alias gives its phrase. Any other name is split at everything but letters and digits; words that are known
    names are spelled out, others stay as they are: `t1 gadolinium fat suppressed`, `flair_3d`.

    Raises:
        ParameterError: a name without a letter or digit.
    """
    whole = normalised(name)
    if not whole:
        raise ParameterError(f"'{name}' is no name of a sequence: it has neither letter nor digit")
    if known := PHRASES.get(ALIASES.get(whole, whole)):
        return known
    words = re.findall(r"[a-z0-9]+", name.lower())
    return " ".join(PHRASES.get(ALIASES.get(word, word)) or ABBREVIATIONS.get(word, word) for word in words)


def phrase_vector(phrase: str) -> np.ndarray:
    """The built-in vector of a phrase, (768,) float32 with root mean square 0.5; the same on every machine."""
    total = np.zeros(DIMENSIONS)
    for word in dict.fromkeys(re.findall(r"[a-z0-9]+", phrase.lower())):
        total += (_WEIGHT_OF_LITTLE if word in _LITTLE else 1.0) * _word_vector(word)
    return (RMS * math.sqrt(DIMENSIONS) * total / np.linalg.norm(total)).astype(np.float32)


def text_vectors(names: Sequence[str]) -> np.ndarray:
    """(names, 768) float32: the built-in vectors of sequences."""
    return np.stack([phrase_vector(sequence_phrase(name)) for name in names])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarities (n, m) of the rows of (n, D) and (m, D)."""
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    return units[0] @ units[1].T


def nearest(name: str, known: Mapping[str, str]) -> str:
    """Of the known sequences (name -> phrase) the one whose phrase lies nearest to the name's, by the built-in vectors."""
    own = phrase_vector(sequence_phrase(name))[None]
    others = np.stack([phrase_vector(phrase) for phrase in known.values()])
    return list(known)[int(similarity(own, others)[0].argmax())]


def similarity_table(names: Sequence[str], known: Sequence[str] = ()) -> pd.DataFrame:
    """Cosine similarity of the built-in vectors of `names` (rows) to those of `known` (columns; none: the same names)."""
    columns = list(known) or list(names)
    return pd.DataFrame(similarity(text_vectors(names), text_vectors(columns)), index=list(names), columns=columns)


def _word_vector(word: str) -> np.ndarray:
    """(768,) of expected length 1: the word itself and its character n-grams."""
    bounded = f"<{word}>"
    pieces = [bounded[i : i + n] for n in (3, 4) for i in range(len(bounded) - n + 1)]
    if not pieces:
        return _signs(word)
    grams = np.sum([_signs(f"#{piece}") for piece in pieces], axis=0) / math.sqrt(len(pieces))
    return math.sqrt(1 - _PIECES) * _signs(word) + math.sqrt(_PIECES) * grams


def _signs(text: str) -> np.ndarray:
    """(768,) of +-1/sqrt(768) from the text's SHAKE-256 digest: a hash, not a random generator, so that it never changes."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(text.encode()).digest(DIMENSIONS // 8), dtype=np.uint8))
    return (2.0 * bits - 1.0) / math.sqrt(DIMENSIONS)

"""What a sequence's name becomes: a phrase, and a vector in which related sequences lie near each other."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import ParameterError
from workbench.models.brainfm.modality_text import (
    ALIASES,
    DIMENSIONS,
    PHRASES,
    phrase_vector,
    sequence_phrase,
    similarity,
    similarity_table,
    text_vectors,
)

FIRST = [0.60036, -0.35121, 0.65025, -0.09065]
"""First elements of t1's vector."""


@pytest.mark.parametrize(
    ("name", "related", "unrelated"),
    [
        ("t1", "t1c", "t2"),
        ("t1c", "t1", "flair"),
        ("t2", "flair", "t1"),
        ("flair", "t2", "t1c"),
        ("dwi", "adc", "t1"),
        ("adc", "dwi", "flair"),
        ("swi", "t2star", "t1c"),
        ("dir", "flair", "t1"),
        ("asl", "cbf", "t2"),
        ("t1 gadolinium fat suppressed", "t1c", "flair"),
        ("t1_gd_fs", "t1c", "dwi"),
        ("flair_3d", "flair", "t1"),
        ("perfusion raw", "asl", "dwi"),
        ("diffusion trace", "adc", "flair"),
    ],
)
def test_related_sequences_lie_nearer_than_unrelated_ones(name: str, related: str, unrelated: str) -> None:
    table = similarity_table([name], [related, unrelated])
    assert table.loc[name, related] > table.loc[name, unrelated] + 0.1


def test_a_name_of_unknown_words_is_like_nothing_and_inflections_are_like_each_other() -> None:
    table = similarity_table(["zebra"], list(PHRASES))
    assert float(table.abs().max().max()) < 0.2
    suppressed = similarity(phrase_vector("suppressed")[None], np.stack([phrase_vector(w) for w in ("suppression", "density")]))
    assert suppressed[0, 0] > suppressed[0, 1] + 0.15


def test_every_known_sequence_has_a_phrase_of_its_own_and_aliases_are_the_same_sequence() -> None:
    assert len(set(PHRASES.values())) == len(PHRASES)
    assert set(ALIASES.values()) <= set(PHRASES)
    assert not set(ALIASES) & set(PHRASES)
    assert sequence_phrase("T1-CE") == sequence_phrase("t1_gd") == PHRASES["t1c"]
    apart = similarity_table(list(PHRASES)).to_numpy() - np.eye(len(PHRASES))
    assert apart.max() < 0.95
    with pytest.raises(ParameterError, match="neither letter nor digit"):
        sequence_phrase("--")


def test_vectors_are_fixed_and_of_one_length() -> None:
    vectors = text_vectors(["t1", "swi", "anything at all"])
    assert vectors.shape == (3, DIMENSIONS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(np.square(vectors).mean(1)), 0.5, rtol=1e-5)
    # written into checkpoints by what they do: these numbers must never change
    np.testing.assert_allclose(vectors[0, :4], FIRST, atol=1e-4)

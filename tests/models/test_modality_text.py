"""What a sequence's name becomes: a phrase, and a vector in which related sequences lie near each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import InputError, ParameterError
from workbench.models.brainfm.modality_embedding import HEADER, ModalityEmbedding, read_embeddings, write_embeddings
from workbench.models.brainfm.modality_text import (
    ALIASES,
    DIMENSIONS,
    PHRASES,
    nearest,
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


def table_file(path: Path, vectors: torch.Tensor, phrases: dict[str, str] | None) -> Path:
    save_file({"vectors": vectors}, path, {} if phrases is None else {HEADER: json.dumps({"format": 1, "phrases": phrases})})
    return path


def test_a_file_of_vectors_is_checked(tmp_path: Path) -> None:
    phrases = {"t1": "one", "t2": "two"}
    good = torch.randn(2, DIMENSIONS)
    read = read_embeddings(table_file(tmp_path / "good.safetensors", good, phrases))
    assert torch.equal(read["t2"], good[1])
    for name, vectors, told, message in (
        ("none", good, None, "no phrases"),
        ("short", good[:, :5].contiguous(), phrases, "expected 2 vectors of 768, found 2x5"),
        ("few", good[:1].contiguous(), phrases, "expected 2 vectors"),
        ("nan", torch.full((2, DIMENSIONS), float("nan")), phrases, "t1, t2 are not finite"),
        ("zero", torch.stack([good[0], torch.zeros(DIMENSIONS)]), phrases, "t2 are not finite or all zero"),
    ):
        with pytest.raises(InputError, match=message):
            read_embeddings(table_file(tmp_path / f"{name}.safetensors", vectors, told))
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(InputError, match="damaged"):
        read_embeddings(tmp_path / "text.safetensors")
    for name, header in (("list", "[1]"), ("null", "null"), ("phrases", '{"phrases": ["t1", "t2"]}')):
        save_file({"vectors": torch.ones(2, 768)}, tmp_path / f"{name}.safetensors", {HEADER: header})
        with pytest.raises(InputError, match="no phrases in its header"):
            read_embeddings(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="modality-embeddings"):
        read_embeddings(tmp_path / "missing.safetensors")


def test_a_file_gives_its_vectors_to_known_names_and_the_nearest_to_others(tmp_path: Path) -> None:
    phrases = PHRASES | {"mine": "T1-weighted after a contrast agent of my own"}
    vectors = torch.randn(len(phrases), DIMENSIONS)
    path = table_file(tmp_path / "v.safetensors", vectors, phrases)
    embedding = ModalityEmbedding(DIMENSIONS, ("t1", "mine", "private"), str(path))
    row = dict(zip(phrases, vectors, strict=True))
    found = embedding.text(["t1", "T1-CE", "mine", "flair_3d"])
    for vector, name in zip(found, ("t1", "t1c", "mine", "flair"), strict=True):
        assert torch.equal(vector, row[name])
    assert torch.equal(embedding.text(["private"])[0], row[nearest("private", phrases)])
    # of a run's record only the digest is left: the checkpoint fills the table
    again = ModalityEmbedding(DIMENSIONS, ("t1", "mine", "private"), embedding.digest)
    assert not bool(again.text(["t1"]).any())
    again.load_state_dict(embedding.state_dict())
    assert torch.equal(again.text(["mine", "swi"]), embedding.text(["mine", "swi"]))


class Tokens(dict[str, torch.Tensor]):
    """What a tokenizer returns."""


def transformers(width: int = DIMENSIONS) -> SimpleNamespace:
    """transformers' two classes, as far as they are used: a token per word, its state the word's length; padding is 1000."""

    class Tokenizer:
        def __call__(self, phrases: list[str], **_: Any) -> Tokens:
            lengths = [[len(word) for word in phrase.split()] for phrase in phrases]
            longest = max(map(len, lengths))
            ids = torch.tensor([row + [1000] * (longest - len(row)) for row in lengths])
            return Tokens(input_ids=ids, attention_mask=(ids < 1000).long())

    class Model:
        def eval(self) -> Model:
            return self

        def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=input_ids[:, :, None].float().expand(-1, -1, width))

    def opened(kind: type) -> SimpleNamespace:
        def from_pretrained(path: str, local_files_only: bool) -> Any:
            assert local_files_only, "nothing may be downloaded"
            return kind()

        return SimpleNamespace(from_pretrained=from_pretrained)

    return SimpleNamespace(AutoTokenizer=opened(Tokenizer), AutoModel=opened(Model))


def test_the_command_pools_the_states_of_the_words_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", transformers())
    (tmp_path / "biobert").mkdir()
    out = tmp_path / "vectors.safetensors"
    parts = ["modality-embeddings", "--model", str(tmp_path / "biobert"), "--out", str(out), "--name", "mine=aa bbbb"]
    done = CliRunner().invoke(app, parts)
    assert done.exit_code == 0, done.output
    found = read_embeddings(out)
    assert set(found) == {*PHRASES, "mine"}
    assert torch.equal(found["mine"], torch.full((DIMENSIONS,), 3.0)), "the mean over two words, padding not counted"


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ParameterError, match="pip install transformers"):
        write_embeddings(tmp_path, tmp_path / "out.safetensors")
    monkeypatch.setitem(sys.modules, "transformers", transformers(12))
    with pytest.raises(InputError, match="12 wide"):
        write_embeddings(tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="folder of a model"):
        write_embeddings(tmp_path / "nowhere", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()

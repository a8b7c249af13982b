"""Files of text vectors: how they are made, checked and looked up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import InputError, ParameterError
from workbench.models.brainfm.modality_embedding import HEADER, ModalityEmbedding, read_embeddings, write_embeddings
from workbench.models.brainfm.modality_text import DIMENSIONS, PHRASES, nearest


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

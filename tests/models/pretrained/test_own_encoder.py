"""Encoders that a pretraining of this workbench left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workbench.errors import InputError
from workbench.models.pretrained.file import save_encoder
from workbench.models.pretrained.own_encoder import read_own_encoder
from workbench.models.pretrained.seen import Seen

DESCRIPTION = {"architecture": "here", "method": "some_pretrain", "modalities": ["t1"]}


def write(folder: Path, state: dict[str, torch.Tensor] | None = None) -> Path:
    save_encoder(folder / "encoder", state or {"w": torch.arange(3.0)}, DESCRIPTION, Seen(collections=("ukb",)))
    return folder / "encoder.safetensors"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    found = read_own_encoder(write(tmp_path), "here", "some_pretrain")
    assert torch.equal(found.tensors["w"], torch.arange(3.0))
    assert found.seen == Seen(collections=("ukb",))
    assert found.description["modalities"] == ["t1"]


def test_another_file_is_refused_with_the_method_that_makes_the_right_one(tmp_path: Path) -> None:
    good = write(tmp_path)
    (tmp_path / "note.txt").write_text("x")
    save_file({"w": torch.zeros(1)}, tmp_path / "plain.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "half.safetensors", {"workbench-encoder": '{"architecture": "here"}'})
    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:-4])
    (tmp_path / "nan").mkdir()
    for path, architecture, message in (
        (tmp_path / "none.safetensors", "here", "does not exist.*some_pretrain"),
        (tmp_path / "note.txt", "here", "no safetensors file"),
        (tmp_path / "plain.safetensors", "here", "no description"),
        (tmp_path / "half.safetensors", "here", "description is incomplete"),
        (tmp_path / "short.safetensors", "here", "truncated or damaged"),
        (good, "there", "architecture 'here', expected 'there'"),
        (write(tmp_path / "nan", {"w": torch.tensor([float("nan")])}), "here", "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            read_own_encoder(path, architecture, "some_pretrain")

"""Files of pretrained weights: recognised by their keys, and refused in plain words."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from swin_files import GIVEN, encoder_of, load, ssl

from workbench.errors import InputError
from workbench.models.pretrained.file import read_pretrained, save_encoder
from workbench.models.pretrained.seen import Seen, seen_cohort


def test_model_swinvit_has_other_names(tmp_path: Path) -> None:
    given = encoder_of(1, "tiny")
    renamed = {"module." + k.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"): v for k, v in given.items()}
    renamed |= {"module.norm.weight": torch.ones(192), "module.norm.bias": torch.ones(192)}
    torch.save({"state_dict": renamed}, tmp_path / "model_swinvit.pt")
    backbone, coverage, _ = load(tmp_path / "model_swinvit.pt")
    assert coverage.kind == "monai_ct"
    assert (len(coverage.matched), coverage.total) == (125, 128)
    assert set(coverage.unexpected) == {"norm.weight", "norm.bias"}
    name = "swinViT.layers2.0.blocks.1.mlp.linear2.weight"
    assert torch.equal(backbone.state_dict()[name], given[name])


def test_disruptive_autoencoder_has_yet_others(tmp_path: Path) -> None:
    given = encoder_of(1, "tiny")
    renamed = {"encoder." + k.removeprefix("swinViT.").replace(".0.", ".0.0.", 1): v for k, v in given.items()}
    renamed["encoder.mask_token"] = torch.zeros(1)
    torch.save({"model": renamed}, tmp_path / "ssl_pretrained_weights.pth")
    _, coverage, _ = load(tmp_path / "ssl_pretrained_weights.pth")
    assert (coverage.kind, len(coverage.matched), coverage.unexpected) == ("monai_dae", 125, ("encoder.mask_token",))
    assert not coverage.seen.known


def test_our_own_encoder_says_what_it_is(tmp_path: Path) -> None:
    seen = Seen(cohorts=(seen_cohort("here", "f00", ("egd",), ["anna", "otto"]),), collections=("ukb",))
    description = {"architecture": "swin", "method": "pretrain_swin", "modalities": list(GIVEN), "merging": "current"}
    save_encoder(tmp_path / "encoder", encoder_of(4, "tiny"), description, seen)
    assert "anna" not in (tmp_path / "encoder.json").read_text(), "a checkpoint is passed on: it names no subject"
    _, coverage, _ = load(tmp_path / "encoder.safetensors", merging="current")
    assert (len(coverage.matched), coverage.total, coverage.skipped) == (126, 126, {})
    assert coverage.seen == seen
    with pytest.raises(InputError, match="set merging to 'current'"):
        load(tmp_path / "encoder.safetensors")
    save_encoder(tmp_path / "other", {"w": torch.zeros(1)}, description | {"architecture": "hiera"}, seen)
    with pytest.raises(InputError, match="'hiera'"):
        load(tmp_path / "other.safetensors")


class Intruder:
    """What a malicious pickle does: it names a function to be called when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_with_a_program_is_refused_unopened(tmp_path: Path) -> None:
    torch.save({"state_dict": {**ssl(1, "tiny"), "x": Intruder(tmp_path / "ran")}}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil.pt: it holds more than tensors.*It names posix.system") as caught:
        load(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value), "PyTorch's advice to open it all the same is not passed on"


def test_what_is_no_file_of_tensors_is_refused_in_plain_words(tmp_path: Path) -> None:
    """Bytes that are no pickle end the unpickler in many ways: each is an InputError, and none is called a program."""
    torch.save(encoder_of(1, "tiny"), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "old.pt").read_bytes()
    contents = [whole[:n] for n in (1, 20, 60, len(whole) // 2)]
    contents += [
        b"hello, this is text\n" * 20,
        gzip.compress(b"an image"),
        bytes(range(256)),
        b"PK\x03\x04",
        b"\x80\x04\x95",
        b"\x80\x02.",
    ]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{number}.pt: ") as caught:
            read_pretrained(path)
        assert "program" not in str(caught.value)
        assert "weights itself" in str(caught.value)
    with pytest.raises(InputError, match="a folder, expected a file"):
        read_pretrained(tmp_path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"short.{suffix}"
    (torch.save if suffix == "pt" else save_file)(encoder_of(1, "tiny"), path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"short\.\w+: truncated or damaged"):
        read_pretrained(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="truncated or damaged"):
        read_pretrained(path)

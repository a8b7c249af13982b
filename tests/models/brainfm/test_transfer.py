"""What fine-tuning takes from a pretrained encoder, and which it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from brainfm_cases import GIVEN, build, draw, pretrain
from safetensors.torch import save_file
from torch import nn

from workbench.errors import InputError
from workbench.models.brainfm.brainfm_pretrain import BrainFMPretrain
from workbench.models.brainfm.encoder import ConditionalLayerNorm
from workbench.models.brainfm.modality_embedding import HEADER
from workbench.models.brainfm.modality_text import PHRASES
from workbench.models.pretrained.file import save_encoder
from workbench.models.pretrained.seen import Seen
from workbench.models.registry import create_model
from workbench.setup.parameters import ExperimentParameters


def save(model: BrainFMPretrain, folder: Path) -> Path:
    save_encoder(folder / "encoder", model.encoder_state(), model.encoder_description(), Seen())
    return folder / "encoder.safetensors"


@pytest.mark.parametrize("head", ["unetr", "linear"])
def test_it_starts_from_the_pretrained_encoder(tmp_path: Path, head: str) -> None:
    source = pretrain(("t1", "t2"))
    for norm in source.encoder.modules():
        if isinstance(norm, ConditionalLayerNorm):
            nn.init.normal_(norm.gamma.weight)
    path = save(source, tmp_path)
    model = build(("t1", "dwi"), head=head)
    coverage = model.load_pretrained(path)
    own = model.encoder.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in source.encoder.state_dict().items())
    assert (len(coverage.matched), coverage.total, coverage.missing, coverage.unexpected) == (len(own), len(own), (), ())
    assert coverage.channels["t1"] == "the same sequence"
    assert "diffusion" in coverage.channels["dwi"]
    assert "dwi from its text" in str(coverage)
    images = draw(1, 2)
    first = source.eval()(images, torch.ones(1, 2).bool(), ("t1", "t2")).auxiliary["features"]
    arranged, present = model.arrange(images, torch.ones(1, 2).bool(), ("t1", "t2"))
    torch.testing.assert_close(model.pooled_features(arranged, present), first, rtol=1e-4, atol=1e-4)


def test_another_encoder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(pretrain(), tmp_path)
    with pytest.raises(InputError, match="width 24, this model has 48"):
        build(width=48).load_pretrained(path)
    with pytest.raises(InputError, match="set token to 8"):
        build(token=16).load_pretrained(path)
    swin = create_model("pretrain_swin", modalities=("t1",), feature_size=12, window=4, checkpointing=False, projection=8)
    save_encoder(tmp_path / "swin", swin.encoder_state(), swin.encoder_description(), Seen())  # type: ignore[operator]
    with pytest.raises(InputError, match="architecture 'swin', expected 'brainfm'"):
        build().load_pretrained(tmp_path / "swin.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        build().load_pretrained(tmp_path / "none.safetensors")


@pytest.mark.parametrize("option", [{"norm": "layer"}, {"modality_embedding": "one_hot"}, {"padding_mask": False}])
def test_an_encoder_says_which_of_the_papers_parts_it_lacks(tmp_path: Path, option: dict[str, Any]) -> None:
    """As before there were these options it says nothing where it lacks none: earlier files and runs stay what they were."""
    (name, value), default = *option.items(), pretrain()
    told, described = default.encoder_description(), default.architecture()["options"]
    assert not {*told, *described} & {"norm", "modality_embedding", "padding_mask"}  # type: ignore[misc]
    source = pretrain(**option)
    assert source.encoder_description() == {**told, **option}
    assert source.architecture()["options"] == {**described, **option}  # type: ignore[dict-item]
    before, after = (ExperimentParameters.build("brainfm", {"size": "demo"} | given).identity() for given in ({}, option))
    assert (name in before, after) == (False, {**before, **option})
    path = save(source, tmp_path)
    with pytest.raises(InputError, match=f"{name} {value}, this model has .*set {name} to {value}"):
        build().load_pretrained(path)
    model = build(GIVEN[::-1], **option)
    assert not model.load_pretrained(path).missing
    images, present = draw(1), torch.tensor([[1, 1, 0, 1]]).bool()
    with torch.no_grad():
        features = [found.eval().pooled_features(*found.arrange(images, present, GIVEN)) for found in (source, model)]
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)


def test_a_one_hot_encoder_has_no_vector_for_another_sequence(tmp_path: Path) -> None:
    path = save(pretrain(("t1", "t2"), modality_embedding="one_hot"), tmp_path)
    with pytest.raises(InputError, match="knows t1, t2: it has no vector for dwi"):
        build(("t1", "dwi"), modality_embedding="one_hot").load_pretrained(path)


def test_an_encoder_of_other_text_vectors_is_refused(tmp_path: Path) -> None:
    """By the same names it would mean other sequences; with the same file it starts, table and all."""
    header = {HEADER: json.dumps({"format": 1, "phrases": PHRASES})}
    for name in ("one", "two"):
        save_file({"vectors": torch.randn(len(PHRASES), 768)}, tmp_path / f"{name}.safetensors", header)
    first, second = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    path = save(pretrain(embeddings=first), tmp_path)
    for options in ({}, {"embeddings": second}):
        with pytest.raises(InputError, match="set embeddings to the file it was trained with"):
            build(**options).load_pretrained(path)
    model = build(("t1", "private"), embeddings=first)
    coverage = model.load_pretrained(path)
    assert set(coverage.skipped) == {"modality.table"}
    assert not coverage.missing
    assert model.architecture()["options"]["embeddings"].startswith("blake2b:")  # type: ignore[index]

"""Pretrained weights: files with the published key layouts (values and width are ours), every tensor accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from swin_files import GIVEN, TINY, load, network, ssl

from workbench.errors import InputError, ParameterError
from workbench.models.glioma.facts import MtsUNetOptions
from workbench.models.glioma.mts_unet import MtsUNet
from workbench.models.registry import create_model
from workbench.models.swin.backbone import SwinBackbone
from workbench.models.swin.weights import load_swin

STEM = "swinViT.patch_embed.proj.weight"


def bsf(path: Path, channels: int, encoder: str, **sizes: int) -> Path:
    """A file as BrainSegFounder's training writes it."""
    content = {"global_step": 75, "epoch": 1, "state_dict": ssl(channels, encoder, **sizes), "optimizer": {"state": {}}}
    torch.save(content, path)
    return path


def test_uk_biobank_file_fills_125_of_142(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = bsf(tmp_path / "64-gpu-model_bestValRMSE.pt", 1, "tiny")
    with caplog.at_level("INFO"):
        backbone, coverage, before = load(path)
    assert coverage.kind == "bsf_ukb"
    assert (len(coverage.matched), coverage.total) == (125, 142)
    assert len(coverage.skipped) == 17
    assert STEM in coverage.skipped
    assert not coverage.missing
    assert not coverage.unexpected
    state, given = backbone.state_dict(), network(1, "tiny")
    for name in before:
        expected = given[name] if name in coverage.matched else before[name]
        assert torch.equal(state[name], expected), name
    assert "loaded 125 of 142" in caplog.text, "the report is logged"
    assert "skipped 16: head of a pretext task" in str(coverage)
    assert coverage.seen.collections == ("ukb",)


@pytest.mark.parametrize("stem", ["mean", "copied"])
def test_a_one_channel_stem_becomes_four(tmp_path: Path, stem: str) -> None:
    backbone, coverage, _ = load(bsf(tmp_path / "ukb.pt", 1, "tiny"), stem=stem)
    assert (len(coverage.matched), coverage.adapted, len(coverage.skipped)) == (125, (STEM,), 16)
    given = network(1, "tiny")[STEM]
    found = backbone.state_dict()[STEM]
    assert found.shape[1] == 4
    for channel in range(4):
        torch.testing.assert_close(found[:, [channel]], given / 4 if stem == "mean" else given)
    if stem == "mean":  # four equal images give what the file's one channel gave
        torch.testing.assert_close(found.sum(1, keepdim=True), given)


def test_one_sequence_takes_the_one_channel_whole(tmp_path: Path) -> None:
    backbone, coverage, _ = load(bsf(tmp_path / "ukb.pt", 1, "tiny"), ("t1",))
    assert (len(coverage.matched), len(coverage.skipped)) == (126, 16)
    assert torch.equal(backbone.state_dict()[STEM], network(1, "tiny")[STEM])


def test_brats_file_fills_182_of_198_and_channels_go_by_name(tmp_path: Path) -> None:
    path = bsf(tmp_path / "model_bestValRMSE-fold0.pt", 4, "small")
    backbone, coverage, _ = load(path, encoder="small")
    assert coverage.kind == "bsf_brats"
    assert (len(coverage.matched), coverage.total, len(coverage.skipped)) == (182, 198, 16)
    file, model = network(4, "small")[STEM], backbone.state_dict()[STEM]
    for name, place in {"flair": 0, "t1c": 1, "t1": 2, "t2": 3}.items():
        assert torch.equal(model[:, GIVEN.index(name)], file[:, place]), name
    assert set(coverage.seen.collections) == {"ukb", "brats2021"}


def test_sequences_of_which_the_file_knows_some(tmp_path: Path) -> None:
    path = bsf(tmp_path / "brats.pt", 4, "small")
    file = network(4, "small")[STEM]
    backbone, coverage, before = load(path, ("flair", "dwi"), encoder="small")
    assert coverage.adapted == (STEM,)
    assert torch.equal(backbone.state_dict()[STEM][:, 0], file[:, 0])
    assert torch.equal(backbone.state_dict()[STEM][:, 1], before[STEM][:, 1])
    assert coverage.channels == {"flair": "the same sequence", "dwi": "random weights"}
    backbone, coverage, _ = load(path, ("flair", "dwi"), encoder="small", stem="copied")
    torch.testing.assert_close(backbone.state_dict()[STEM][:, 1], file.mean(1))
    assert "mean of its 4 channels" in coverage.channels["dwi"]


def test_a_small_file_does_not_slip_into_a_tiny_encoder(tmp_path: Path) -> None:
    path = bsf(tmp_path / "brats.pt", 4, "small")
    with pytest.raises(InputError, match=r"2-2-6-2 transformer blocks.*2-2-2-2.*set encoder to 'small'"):
        load(path)
    backbone, coverage, _ = load(path, pretrained_partial=True)
    assert (len(coverage.matched), coverage.total) == (126, 198)
    assert sum("block" in reason for reason in coverage.skipped.values()) == 56
    name = "swinViT.layers3.0.blocks.1.mlp.linear1.weight"
    assert torch.equal(backbone.state_dict()[name], network(4, "small")[name])
    _, coverage, _ = load(path, encoder="big", pretrained_partial=True)
    assert len(coverage.missing) == 12 * 14


@pytest.mark.parametrize(("wrapped", "encoder", "kind"), [(False, "small", "bsf_finetuned"), (True, "tiny", "monai_brats21")])
def test_a_whole_network_fills_all_but_the_output(tmp_path: Path, wrapped: bool, encoder: str, kind: str) -> None:
    given = network(4, encoder)
    torch.save({"state_dict": dict(given)} if wrapped else dict(given), tmp_path / "whole.pt")
    backbone, coverage, before = load(tmp_path / "whole.pt", encoder=encoder)
    assert coverage.kind == kind
    outputs = {"out.conv.conv.weight", "out.conv.conv.bias"}
    assert set(coverage.skipped) == outputs
    assert len(coverage.matched) == coverage.total - 2 == len(given) - 2
    state = backbone.state_dict()
    assert all(torch.equal(state[name], before[name]) for name in outputs)
    for name in coverage.matched:
        expected = given[name]
        if name in (STEM, "encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"):
            expected = expected[:, [2, 1, 3, 0]]  # FLAIR, T1c, T1, T2 -> T1, T1c, T2, FLAIR
        assert torch.equal(state[name], expected), name


@torch.no_grad()
def test_by_name_a_whole_network_computes_what_it_did(tmp_path: Path) -> None:
    """The same images in the file's order through the file's own network, and in the model's order through the model."""
    torch.manual_seed(0)
    source = SwinBackbone(4, 3, 12, 4, False, merging="legacy").eval()
    save_file(source.state_dict(), tmp_path / "whole.safetensors")
    backbone, _, _ = load(tmp_path / "whole.safetensors")
    images = torch.randn(1, 4, 64, 64, 64)
    ours, theirs = backbone.eval().encode(images[:, [2, 1, 3, 0]]), source.encode(images)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)


def test_both_backbones_of_mts_unet_are_filled(tmp_path: Path) -> None:
    sizes = {**TINY, "cmd_channels": 4}
    model = create_model("mts_unet", modalities=GIVEN, classes=4, markers=("idh",), **sizes)
    assert isinstance(model, MtsUNet)
    coverage = model.load_pretrained(bsf(tmp_path / "ukb.pt", 1, "tiny"))
    assert coverage.backbones == 2
    assert "each of 2 backbones" in str(coverage)
    name = "swinViT.layers1.0.blocks.0.attn.qkv.weight"
    assert model.cmd_backbone is not None
    assert torch.equal(model.backbone.state_dict()[name], network(1, "tiny")[name])
    assert torch.equal(model.cmd_backbone.state_dict()[name], network(1, "tiny")[name])
    plain = create_model("unet", modalities=GIVEN, width=4, levels=3)
    with pytest.raises(ParameterError, match="unet takes no pretrained weights"):
        plain.load_pretrained(tmp_path / "ukb.pt")


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_what_does_not_fit_is_refused_with_the_way_out(tmp_path: Path) -> None:
    ukb = bsf(tmp_path / "ukb.pt", 1, "tiny")
    cases = [
        (lambda: load(ukb, merging="current"), "set merging to 'legacy'"),
        (lambda: load(ukb, feature_size=24), "set feature_size to 12"),
        (lambda: load(ukb, window=7), "set window to 4"),
        (lambda: load(bsf(tmp_path / "three.pt", 3, "tiny")), "expected 4 input channels .*found 3"),
        (lambda: load(tmp_path / "nothing.pt"), "does not exist"),
        (lambda: load(saved(tmp_path / "list.pt", [1, 2])), "no state dict"),
        (lambda: load(saved(tmp_path / "vgg.pt", {"features.0.weight": torch.zeros(3)})), "no known file of Swin weights"),
    ]
    for attempt, message in cases:
        with pytest.raises(InputError, match=message):
            attempt()


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    def with_change(name: str, change: Any) -> Path:
        state = ssl(1, "tiny")
        change(state)
        return saved(tmp_path / name, {"state_dict": state})

    key = "module.swinViT.layers1.0.blocks.0.attn.qkv.weight"
    flat = with_change("flat.pt", lambda s: s.update({f"module.{STEM}": s[f"module.{STEM}"][..., 0]}))
    other = with_change("other.pt", lambda s: s.update({key: s[key][:, :6]}))
    second = with_change("v2.pt", lambda s: s.update({"module.swinViT.layers1c.0.conv1.conv.weight": torch.zeros(1)}))
    wrong = with_change("nan.pt", lambda s: s.update({key: s[key] * float("nan")}))
    less = with_change("less.pt", lambda s: [s.pop(name) for name in [n for n in s if ".attn." in n]])
    for path, message in (
        (flat, "2-D network"), (other, "another shape 1"), (second, "1 encoder tensors that this one has not"),
        (wrong, "not finite"), (less, "incomplete: 48 tensors"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load(path)


def test_a_refused_file_changes_nothing(tmp_path: Path) -> None:
    state = ssl(1, "tiny")
    state.pop("module.swinViT.layers4.0.downsample.norm.bias")
    chosen = MtsUNetOptions(**TINY)
    backbone = SwinBackbone.from_options(4, 4, chosen)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(InputError, match="incomplete: 1 tensors"):
        load_swin([backbone], saved(tmp_path / "less.pt", {"state_dict": state}), modalities=GIVEN, options=chosen)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())

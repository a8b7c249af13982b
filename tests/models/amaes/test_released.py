"""AMAES' released checkpoints: the first convolution for every sequence, and the names of both decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from amaes_cases import pretraining, tuning
from torch import Tensor

from workbench.errors import InputError
from workbench.models.amaes.released import published_names
from workbench.models.amaes.unet import FIRST
from workbench.models.pretrained.released import swapped_halves


def checkpoint(path: Path, **options: Any) -> tuple[Path, dict[str, Tensor]]:
    """A pretraining network under the public code's names, with the biases that its convolutions have."""
    own = pretraining(("t1",), **options).state_dict()
    state = {source.names[0]: own[name] for name, source in published_names(own).items()}
    state |= {name.replace(".weight", ".bias"): torch.ones(len(value)) for name, value in state.items() if ".conv.w" in name}
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}}, path)
    return path, own


@pytest.mark.parametrize(("stem", "factor"), [("mean", 0.5), ("copied", 1.0), ("random", None)])
def test_one_channel_serves_every_sequence(tmp_path: Path, stem: str, factor: float | None) -> None:
    path, own = checkpoint(tmp_path / "unet_b.ckpt")
    model = tuning(("t1", "flair"), stem=stem)
    before = model.state_dict()[FIRST].clone()
    coverage = model.load_pretrained(path)
    wanted = before if factor is None else factor * own[FIRST].expand_as(before)
    assert torch.equal(model.state_dict()[FIRST], wanted)
    assert all(torch.equal(model.state_dict()[name], own[name]) for name in own if name.startswith("encoder.") and name != FIRST)
    assert coverage.total == len(coverage.matched) + len(coverage.skipped)
    assert any("instance norm" in why for why in coverage.skipped.values())
    assert ("random" in coverage.channels["flair"]) == (stem == "random")
    assert coverage.missing == ((FIRST.removeprefix("encoder."),) if factor is None else ())


def test_another_width_and_another_file_are_refused(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "unet_xl.ckpt", width=8)
    with pytest.raises(InputError, match=r"shape \(8, 1, 3, 3, 3\).*set the sizes of the model"):
        tuning(("t1",), stem="copied").load_pretrained(path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"not those of AMAES' released U-Net"):
        tuning().load_pretrained(tmp_path / "other.pth")


def test_the_decoder_of_segmentation_has_its_halves_exchanged() -> None:
    sources = published_names(tuning().state_dict())
    changed = {name for name, source in sources.items() if source.change is swapped_halves}
    assert changed == {f"decoder.ups.{step}.convs.conv_0.conv.weight" for step in range(4)}
    assert sources["decoder.head.bias"].names == ("pred_head.out_conv.bias",)

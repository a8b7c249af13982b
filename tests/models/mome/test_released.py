"""MoME's and MoME+'s released weights: names of every network, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mixtures import FIVE, FOUR, build

from workbench.errors import InputError
from workbench.models.mome.released import WEIGHTS, published_names


def save(name: str, path: Path, names: tuple[str, ...], classes: int = 2) -> Path:
    own = build(name, names, classes=classes).state_dict()
    torch.save({source.names[0]: own[ours] for ours, source in published_names(own).items()}, path)
    return path


@pytest.mark.parametrize(("name", "names"), [("mome", FIVE), ("mome_plus", FOUR)])
def test_all_networks_are_filled_from_one_file(tmp_path: Path, name: str, names: tuple[str, ...]) -> None:
    first, model = build(name, names), build(name, names, seed=1)
    coverage = model.load_pretrained(save(name, tmp_path / "w.pth", names))
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in model.state_dict().items())
    assert len(coverage.matched) == coverage.total == len(model.state_dict())
    assert coverage.seen == WEIGHTS[name].seen


def test_heads_go_from_the_finest_here_and_from_the_coarsest_there() -> None:
    sources = published_names(build("mome_plus", FOUR).state_dict())
    assert sources["mixture.experts.2.heads.0.bias"].names == ("network3.decoder.seg_layers.1.bias",)
    assert sources["mixture.gate.heads.1.weight"].names == ("network.decoder.seg_layers.0.weight",)
    assert sources["dispatch.network.6.bias"].names == ("dispatch_network.mlp.6.bias",)
    alone = published_names(build("pooled_unet", FOUR).net.state_dict(), "plain.")
    assert alone["encoder.1.0.adn.N.bias"].names == ("plain.encoder.stages.1.0.convs.0.norm.bias",)


def test_other_options_and_sequences_are_refused(tmp_path: Path) -> None:
    path = save("mome_plus", tmp_path / "w.pth", FOUR)
    with pytest.raises(InputError, match="set gating to hierarchical"):
        build("mome_plus", FOUR, gating="single").load_pretrained(path)
    with pytest.raises(InputError, match="set dispatch to learned"):
        build("mome_plus", FOUR, dispatch="zero").load_pretrained(path)
    with pytest.raises(InputError, match="set modalities to t1,t1c,t2,flair"):
        build("mome_plus", FOUR[::-1]).load_pretrained(path)
    with pytest.raises(InputError, match="network5"):
        build("mome", FIVE).load_pretrained(path)

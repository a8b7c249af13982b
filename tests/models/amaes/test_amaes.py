"""AMAES's U-Net: what it takes from a pretrained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from amaes_cases import images, pretraining, tuning
from safetensors.torch import load_file

from workbench.errors import InputError
from workbench.models.amaes.amaes_pretrain import AmaesPretrain
from workbench.models.amaes.unet import FIRST
from workbench.models.pretrained.file import save_encoder
from workbench.models.pretrained.seen import Seen


def saved(folder: Path, **options: Any) -> tuple[AmaesPretrain, Path]:
    source = pretraining(**options)
    save_encoder(folder / "encoder", source.encoder_state(), source.encoder_description(), Seen(collections=("brats2021",)))
    return source, folder / "encoder.safetensors"


@pytest.mark.parametrize(("stem", "factor"), [("mean", 0.25), ("copied", 1.0)])
def test_the_one_filter_serves_every_sequence(tmp_path: Path, stem: str, factor: float) -> None:
    source, path = saved(tmp_path)
    model, fresh = tuning(stem=stem), tuning()
    coverage = model.load_pretrained(path)
    for name, value in source.encoder_state().items():
        own = model.state_dict()[name]
        assert torch.equal(own, value.expand_as(own) * factor if name == FIRST else value), name
    assert all(torch.equal(a, b) for a, b in zip(model.decoder.parameters(), fresh.decoder.parameters(), strict=True))
    assert (coverage.adapted, coverage.missing, coverage.unexpected, coverage.skipped) == ((FIRST,), (), (), {})
    assert len(coverage.matched) + 1 == coverage.total == len(source.encoder_state())
    assert coverage.seen.collections == ("brats2021",), "whom it has seen travels with it"
    assert "t1c from its only channel" in str(coverage)


def test_equal_images_give_what_one_image_gave(tmp_path: Path) -> None:
    source, path = saved(tmp_path)
    model = tuning()
    model.load_pretrained(path)
    image = images(1, 1)
    with torch.no_grad():
        for ours, theirs in zip(model.encoder(image.expand(1, 4, -1, -1, -1)), source.encoder(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_published_transfer_leaves_the_first_convolution_random(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    model, fresh = tuning(stem="random"), tuning(stem="random")
    coverage = model.load_pretrained(path)
    assert set(coverage.skipped) == {FIRST}
    assert torch.equal(model.state_dict()[FIRST], fresh.state_dict()[FIRST])
    assert not torch.equal(model.state_dict()["encoder.levels.1.convs.conv_0.conv.weight"],
                           fresh.state_dict()["encoder.levels.1.convs.conv_0.conv.weight"])  # fmt: skip


def test_one_sequence_takes_the_file_as_it_is(tmp_path: Path) -> None:
    source, path = saved(tmp_path)
    model = tuning(("dwi",))
    coverage = model.load_pretrained(path)
    assert coverage.adapted == ()
    assert torch.equal(model.state_dict()[FIRST], source.state_dict()[FIRST])


def test_what_does_not_fit_is_refused_with_what_to_set(tmp_path: Path) -> None:
    source, path = saved(tmp_path, width=8)
    model = tuning()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"width 8, this model has 4 \(set width to 8\)"):
        model.load_pretrained(path)
    state, description = load_file(path), dict(source.encoder_description())
    less = {name: value for name, value in state.items() if "levels.4" not in name}
    save_encoder(tmp_path / "less", less, description, Seen())
    with pytest.raises(InputError, match="6 are not in it and 0 have another shape"):
        tuning(width=8).load_pretrained(tmp_path / "less.safetensors")
    save_encoder(tmp_path / "two", state | {FIRST: state[FIRST].repeat(1, 2, 1, 1, 1)}, description, Seen())
    with pytest.raises(InputError, match="2 channels, expected 1"):
        tuning(width=8).load_pretrained(tmp_path / "two.safetensors")
    save_encoder(tmp_path / "swin", state, description | {"architecture": "swin"}, Seen())
    with pytest.raises(InputError, match="architecture 'swin', expected 'amaes_unet'"):
        model.load_pretrained(tmp_path / "swin.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "all or nothing"

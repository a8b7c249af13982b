"""mmFormer's released weights, as its code saves them, into the model: with the published options alone, and an account."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.errors import InputError
from workbench.models.mmformer.mmformer import MMFormer
from workbench.models.mmformer.released import THEIRS, published_names
from workbench.models.pretrained.released import swapped_halves
from workbench.models.registry import create_model

PUBLISHED = {"layout": "published", "absent_tokens": "zero"}
TINY = {"width": 2, "embedding": 8, "heads": 2, "mlp": 8, "positions": 32, "dropout": 0.0}


def build(modalities: tuple[str, ...] = tuple(THEIRS), **options: Any) -> MMFormer:
    model = create_model("mmformer", modalities=modalities, classes=4, **(TINY | PUBLISHED | options))
    assert isinstance(model, MMFormer)
    return model


def released(model: MMFormer) -> dict[str, Tensor]:
    """The model's weights under the public code's names, with the convolutions that it has and never uses."""
    found = {}
    for name, source in published_names(model.state_dict()).items():
        value = source.change(model.state_dict()[name]) if len(source.names) == 1 else model.state_dict()[name]
        found |= dict(zip(source.names, value[:, None] if len(source.names) > 1 else [value], strict=True))
    return found | {f"{name}_decode_conv.weight": torch.zeros(2, 8, 1, 1, 1) for name in THEIRS.values()}


def save(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save({"epoch": 999, "state_dict": {f"module.{name}": value for name, value in state.items()}, "optim_dict": {}}, path)
    return path


def test_weights_saved_by_the_public_code_are_loaded_with_an_account(tmp_path: Path) -> None:
    first, model = build(), create_model("mmformer", modalities=tuple(THEIRS), classes=4, seed=1, **TINY, **PUBLISHED)
    coverage = model.load_pretrained(save(tmp_path / "model_last.pth", released(first)))
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in model.state_dict().items())
    assert len(coverage.matched) == coverage.total - 4
    assert set(coverage.skipped.values()) == {"a convolution that no forward pass of the public code uses"}
    assert (coverage.unexpected, coverage.missing) == ((), ())
    assert coverage.seen.collections == ("brats2021",)
    assert "loaded" in str(coverage)


def test_the_shared_decoder_has_its_halves_exchanged() -> None:
    sources = published_names(build().state_dict())
    changed = {name for name, source in sources.items() if source.change is swapped_halves}
    assert changed == {f"separate.joins.{level}.0.2.weight" for level in range(4)}


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"layout": "aligned"}, "set layout to published"),
        ({"absent_tokens": "masked"}, "set absent_tokens to zero"),
        ({"fusion_borders": "mirrored"}, "set fusion_borders to zeros"),
        ({"width": 4}, "set the sizes of the model"),
        ({"depth": 2}, "set the sizes of the model"),
    ],
)
def test_what_would_compute_something_else_is_refused(tmp_path: Path, options: dict[str, Any], remedy: str) -> None:
    model, path = build(**options), save(tmp_path / "model_last.pth", released(build()))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=remedy):
        model.load_pretrained(path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_sequences_and_other_files_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "model_last.pth", released(build()))
    with pytest.raises(InputError, match="set modalities to flair,t1c,t1,t2"):
        build(("t1", "t1c", "t2", "flair")).load_pretrained(path)
    with pytest.raises(InputError, match=r"there is no flair_encoder\.e1_c1\.weight"):
        build().load_pretrained(save(tmp_path / "other.pth", {"a": torch.zeros(1)}))
    bad = released(build())
    bad["t2_encoder.e1_c1.bias"] = torch.full_like(bad["t2_encoder.e1_c1.bias"], float("nan"))
    with pytest.raises(InputError, match="not finite"):
        build().load_pretrained(save(tmp_path / "bad.pth", bad))

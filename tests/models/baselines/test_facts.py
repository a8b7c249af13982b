"""The baseline networks: exact sizes, options, any sequences and classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.contracts import Batch
from workbench.errors import ParameterError
from workbench.models.registry import create_model

FOUR = ("t1", "t1c", "t2", "flair")


def count(method: str, meta: torch.device, **how: Any) -> int:
    """Parameters, on the meta device."""
    with meta:
        return create_model(method, **{"modalities": FOUR, "classes": 4} | how).parameter_count()


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("segresnet", {}, 18_798_660),
        ("segresnet", {"width": 16}, 4_702_244),
        ("unetr", {}, 102_449_732),
        ("attention_unet", {}, 5_910_460),
        ("mednext", {"variant": "S"}, 5_554_932),
        ("mednext", {"variant": "B"}, 10_514_868),
        ("mednext", {"variant": "M"}, 17_537_524),
        ("mednext", {"variant": "L"}, 61_730_772),
        ("mednext", {"variant": "L", "kernel": 5}, 62_944_404),
        ("swin_unetr", {}, 62_191_990),
        ("densenet121", {"markers": ("idh",)}, 11_309_505),
    ],
)
def test_sizes_are_the_published_ones(method: str, options: dict[str, Any], expected: int, meta: torch.device) -> None:
    assert count(method, meta, **options) == expected


def test_sizes_agree_with_what_the_papers_report(meta: torch.device) -> None:
    """Where a paper counts, ours is MONAI's: within a percent or two, apart from what the docstrings name."""
    unetr = count("unetr", meta, modalities=("t1",), classes=2, positions=96)
    assert unetr + 12 * 17 == 92_784_046  # the paper's 14 classes: 12 more outputs of 16 features and a bias
    assert (unetr + 12 * 17) / 92.58e6 == pytest.approx(1, abs=0.003)
    large = count("mednext", meta)
    assert large / 61.8e6 == pytest.approx(1, abs=0.005)


def test_parameters_follow_channels_and_classes_where_they_should(meta: torch.device) -> None:
    width, kernel = 32, 27
    base = count("segresnet", meta)
    assert count("segresnet", meta, modalities=("t1",)) == base - 3 * width * kernel
    assert count("segresnet", meta, classes=5) == base + width + 1
    tokens = count("unetr", meta, positions=96) - count("unetr", meta)
    assert tokens == (6**3 - 8**3) * 768  # position embeddings alone


def test_an_unset_width_is_the_published_one_and_is_recorded() -> None:
    model = create_model("segresnet", modalities=("t1",), width=-1)
    assert model.architecture()["options"]["width"] == 32  # type: ignore[index]
    with pytest.raises(ParameterError, match="multiple of 8"):
        create_model("segresnet", modalities=("t1",), width=12)
    with pytest.raises(ParameterError, match="positive"):
        create_model("mednext", modalities=("t1",), width=0)
    with pytest.raises(ParameterError, match="'heads'"):
        create_model("unetr", modalities=("t1",), hidden=100, heads=12)


@pytest.mark.parametrize(
    ("method", "options", "side"),
    [
        ("segresnet", {"width": 8}, 16),
        ("unetr", {"width": 4, "hidden": 24, "heads": 2, "mlp": 48, "positions": 32}, 32),
        ("attention_unet", {"width": 4, "depth": 3}, 16),
        ("mednext", {"width": 4, "variant": "S"}, 32),
    ],
)
@pytest.mark.parametrize(("classes", "label_set"), [(2, "lesion"), (4, "WT"), (5, "glioma_post")])
def test_any_number_of_sequences_and_classes(
    method: str, options: dict[str, Any], side: int, classes: int, label_set: str
) -> None:
    given = ("flair", "dwi", "adc")[: 1 + classes % 3]
    model = create_model(method, modalities=given, classes=classes, **options).train()
    images = torch.randn(1, len(given), side, side, side, generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 1).long()
    prediction = model(images, torch.ones(1, len(given), dtype=torch.bool), given)
    assert prediction.segmentation.shape == (1, classes, side, side, side)
    batch = Batch(given, images, torch.ones(1, len(given), dtype=torch.bool), labels, (label_set,), {})
    total = torch.stack(list(model.loss(prediction, batch, 0.0).values())).sum()
    total.backward()
    assert torch.isfinite(total)

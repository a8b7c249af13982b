"""How methods that read one image read a case of several sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mixtures import FOUR, batch, build, counted

from workbench.models.mome.single_image_unet import draw_image
from workbench.sampling.dropout import subsets


def test_training_draws_present_sequences_only_and_each_as_often() -> None:
    present = torch.tensor([[True, False, True, True], [False, True, False, False]]).repeat(300, 1)
    images = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(600, 4, 1, 1, 1)
    torch.manual_seed(0)
    image, which = draw_image(images, present)
    assert torch.equal(image.flatten().long(), which)
    assert present[torch.arange(600), which].all()
    counts = torch.bincount(which[::2], minlength=4).tolist()
    assert counts[1] == 0
    assert all(70 < counts[i] < 130 for i in (0, 2, 3)), counts
    torch.manual_seed(0)
    assert torch.equal(draw_image(images, present)[1], which), "a function of the step's seed"


@pytest.mark.parametrize("name", ["mome", "pooled_unet"])
@pytest.mark.parametrize("how", ["logits", "probabilities"])
def test_a_case_is_the_average_over_its_sequences(name: str, how: str) -> None:
    model, given = build(name, several_images=how).eval(), batch([[1, 0, 1, 0]])
    with torch.no_grad():
        both = model(given.images, given.present).segmentation
        single = [model(given.images[:, [i]], given.present[:, [i]], (FOUR[i],)).segmentation for i in (0, 2)]
    if how == "logits":
        torch.testing.assert_close(both, (single[0] + single[1]) / 2)
    else:
        torch.testing.assert_close(both.softmax(1), (single[0].softmax(1) + single[1].softmax(1)) / 2)


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("mome", {}, 4 * 5),
        ("pooled_unet", {}, 4),
        ("mome_plus", {}, 4 + 28 + 15),
        ("mome_plus", {"dispatch": "zero"}, 4 + 4 + 15),
    ],
)
def test_all_subsets_of_a_case_share_passes(name: str, options: dict[str, Any], passes: int) -> None:
    """15 subsets one by one: 32 readings of one image, each by all networks; or 15 times five networks in MoME+."""
    model, given = build(name, **options).eval(), batch([[1, 1, 1, 1]])
    shown = torch.tensor([[m in chosen for m in FOUR] for chosen in subsets(FOUR)])
    calls = counted(model)
    with torch.no_grad():
        together = model.forward_subsets(given.images, shown)
        assert sum(calls.values()) == passes < 15 * (1 if name == "pooled_unet" else 5)
        for row, logits in zip(shown, together, strict=True):
            torch.testing.assert_close(logits, model(given.images, row[None]).segmentation, rtol=1e-4, atol=1e-4)

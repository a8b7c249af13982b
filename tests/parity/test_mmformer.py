"""mmFormer against its public code (YaoZhang93/mmFormer): every part, fused and alone, at three pairs of masks, and losses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from public_arrays import Reference, sums, third
from torch import Tensor

from workbench.contracts import Batch
from workbench.models.losses import clamped_segmentation_loss
from workbench.models.mmformer.blocks import tokens_to_volume, upsample
from workbench.models.mmformer.mmformer import MMFormer
from workbench.models.mmformer.released import THEIRS, published_names
from workbench.models.registry import create_model

PUBLISHED = {"layout": "published", "absent_tokens": "zero", "auxiliary": "acquired"}
SIZES = {"width": 2, "embedding": 16, "depth": 2, "heads": 2, "mlp": 32, "dropout": 0.0, "positions": 32}
EVERYTHING = torch.ones(2, 4, dtype=torch.bool)
SETS = ("glioma", "glioma")


@pytest.fixture(scope="module")
def mmformer(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("mmformer")


@pytest.fixture(scope="module")
def model(mmformer: Reference) -> MMFormer:
    made = create_model("mmformer", modalities=tuple(THEIRS), classes=4, **PUBLISHED, **SIZES)
    assert isinstance(made, MMFormer)
    sources = published_names(made.state_dict())
    made.load_state_dict({name: s.change(*(mmformer.weights[n] for n in s.names)) for name, s in sources.items()})
    return made.eval()


def test_every_weight_of_the_public_code_has_a_place(model: MMFormer, mmformer: Reference) -> None:
    used = {name for source in published_names(model.state_dict()).values() for name in source.names}
    rest = set(mmformer.weights) - used
    assert rest == {f"{name}_decode_conv.{kind}" for name in THEIRS.values() for kind in ("weight", "bias")}, "not used there"


@torch.no_grad()
def test_encoders_and_each_sequence_alone(model: MMFormer, mmformer: Reference) -> None:
    images = mmformer.inputs["images"]
    maps = [encoder(images[:, m, None]) for m, encoder in enumerate(model.encoders)]
    for level in range(5):
        found = torch.stack([states[level] for states in maps], dim=1)[:1]
        mmformer.check(f"encoder_level{level + 1}", third(found))
    assert model.separate is not None
    alone = torch.stack([model.separate(states)[0].softmax(1) for states in maps], dim=1)
    mmformer.check("alone_probabilities", third(alone[:1]))


@torch.no_grad()
def test_transformers(model: MMFormer, mmformer: Reference) -> None:
    images, masks = mmformer.inputs["images"], mmformer.inputs["masks"]
    deepest = [encoder(images[:, m, None])[-1] for m, encoder in enumerate(model.encoders)]
    embedded = [embed(x).flatten(2).transpose(1, 2) for embed, x in zip(model.embed, deepest, strict=True)]
    mmformer.check("embedded_tokens", torch.stack(embedded, dim=1))
    _, tokens, _ = model.encode(images, EVERYTHING)
    mmformer.check("intra_tokens", tokens)
    mixed = [model.mix(tokens * mask[:, :, None, None], mask, (32, 32, 32))[0] for mask in masks]
    mmformer.check("inter_tokens", torch.stack([x.flatten(1, 2) for x in mixed]))
    projected = [model.project(tokens_to_volume(x, (2, 2, 2), "published")) for x in mixed]
    mmformer.check("projected", torch.stack(projected))


@torch.no_grad()
def test_fused_output_at_three_pairs_of_masks(model: MMFormer, mmformer: Reference) -> None:
    images, masks = mmformer.inputs["images"], mmformer.inputs["masks"]
    fused = torch.stack([model(images, mask).segmentation.softmax(1) for mask in masks])
    mmformer.check("fused_probabilities", third(fused))
    mmformer.check("fused_edge_plane", fused[:, :1, :, 0])
    mmformer.check("fused_sums", torch.stack([sums(pair) for pair in fused]))


@torch.no_grad()
def test_fusions_and_coarser_levels(model: MMFormer, mmformer: Reference) -> None:
    images, masks = mmformer.inputs["images"], mmformer.inputs["masks"]
    levels, tokens, _ = model.encode(images, EVERYTHING)

    def maps(mask: Tensor) -> list[Tensor]:
        mixed, _ = model.mix(tokens * mask[:, :, None, None], mask, (32, 32, 32))
        shown = [(level * mask[:, :, None, None, None, None]).flatten(1, 2) for level in levels]
        return [*shown, model.project(tokens_to_volume(mixed, (2, 2, 2), "published"))]

    for level, (fusion, x) in enumerate(zip(model.decoder.fusions, maps(masks[0]), strict=True), start=1):
        mmformer.check(f"fusion_level{level}", third(fusion(x)[:1]))
    coarse = model.decoder(maps(masks[1]), coarse=True)[1:]
    enlarged = [upsample(logits.softmax(1), 2**level) for level, logits in enumerate(coarse, start=1)]
    mmformer.check("levels_mask1", third(torch.stack(enlarged, dim=1)))


@torch.no_grad()
def test_loss_of_given_probabilities(mmformer: Reference) -> None:
    """Weighted cross-entropy and Dice are added in ours."""
    probabilities = mmformer.inputs["loss_logits"].softmax(1)
    ours = clamped_segmentation_loss(probabilities, mmformer.inputs["loss_labels"].long(), SETS)
    assert float(ours) == pytest.approx(float(mmformer.outputs["loss_pair"].sum()), rel=1e-6)


def test_every_loss_at_every_pair_of_masks(model: MMFormer, mmformer: Reference) -> None:
    """Also of the sequences that a mask hides: the public code trains all four alone at every step (`auxiliary` acquired)."""
    images, labels = mmformer.inputs["images"], mmformer.inputs["labels"].long()
    for mask, terms in zip(mmformer.inputs["masks"], mmformer.outputs["loss_terms"], strict=True):
        dropped = [[name for name, shown in zip(THEIRS, row, strict=True) if not shown] for row in mask.tolist()]
        shown = images * mask[:, :, None, None, None]
        record = {"samples": [{"dropped": names} for names in dropped]}
        batch = Batch(tuple(THEIRS), shown, mask, labels, SETS, {}, target=images, record=record)
        model.train()
        found = {name: float(term.detach()) for name, term in model.loss(model(shown, mask), batch, 0.0).items()}
        model.eval()
        expected = np.asarray(terms, dtype=np.float64).sum(1)  # fused, four alone, four levels
        assert found["segmentation"] == pytest.approx(expected[0], rel=1e-4)
        assert found["sequences"] == pytest.approx(expected[1:5].sum(), rel=1e-4)
        assert found["levels"] == pytest.approx(expected[5:].sum(), rel=1e-4)

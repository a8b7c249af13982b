"""Sequences by name: also ones that the method was not built for."""

from __future__ import annotations

import pytest
import torch
from brainfm_cases import GIVEN, build, draw, outputs

from workbench.errors import ParameterError


def test_a_sequence_never_seen_is_read_by_its_name() -> None:
    model, images = build(), draw(1, 2)
    shown = torch.ones(1, 2).bool()
    with torch.no_grad():
        swi, again = (outputs(model, images, shown, ("t1", "swi")) for _ in range(2))
        assert torch.equal(swi, again)
        assert bool(torch.isfinite(swi).all())
        assert not torch.allclose(swi, outputs(model, images, shown, ("t1", "anything")))
        assert not torch.allclose(swi, outputs(model, images[:, :1], shown[:, :1], ("t1",))), "it is read"
        torch.testing.assert_close(outputs(model, images, shown, ("t2f", "swi")), outputs(model, images, shown, ("flair", "swi")))
        only = outputs(model, images[:, :1], shown[:, :1], ("swi",))
    assert bool(torch.isfinite(only).all()), "no sequence that it was built for"
    assert model.channels == (*GIVEN, "swi")


@pytest.mark.parametrize("padding_mask", [True, False])
def test_a_subset_that_was_never_asked_for_has_its_own_answer(padding_mask: bool) -> None:
    model, images = build(("t1", "flair"), padding_mask=padding_mask), draw(1)
    with torch.no_grad():
        subsets = model.forward_subsets(images, torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]).bool(), GIVEN)
        for row, logits in zip(([1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]), subsets, strict=True):
            alone = model(images, torch.tensor([row]).bool(), GIVEN).segmentation
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_a_one_hot_embedding_refuses_a_sequence_that_it_was_not_built_for() -> None:
    model, images, shown = build(("t1", "flair"), modality_embedding="one_hot"), draw(1, 2), torch.ones(1, 2).bool()
    with pytest.raises(ParameterError, match="swi: no sequence of a one-hot modality embedding of t1, flair"):
        outputs(model, images, shown, ("t1", "swi"))
    with torch.no_grad():
        torch.testing.assert_close(
            outputs(model, images, shown, ("t2f", "t1")), outputs(model, images.flip(1), shown, ("t1", "flair"))
        )
    assert model.refused(("t1", "t1n", "swi", "dir")) == ["swi", "dir"]
    assert build(("t1", "flair")).refused(("swi", "dir")) == []
    with pytest.raises(ParameterError, match="'embeddings' are vectors of text"):
        build(modality_embedding="one_hot", embeddings="some.safetensors")


def test_names_must_suit_the_channels() -> None:
    model = build()
    with pytest.raises(ParameterError, match="2 modality names"):
        model(draw(1), torch.ones(1, 4).bool(), ("swi", "t1"))
    with pytest.raises(ParameterError, match="more than once"):
        model(draw(1, 2), torch.ones(1, 2).bool(), ("swi", "swi"))
    with pytest.raises(ParameterError, match="shows no sequence: brainfm needs any"):
        model(draw(1), torch.zeros(1, 4).bool(), GIVEN)

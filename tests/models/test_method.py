"""What every method takes from `MethodModule`: channels by name, sizes, subsets, markers."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import Tensor

from workbench.contracts import Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.method import MethodModule, changed_gate
from workbench.models.options_base import MethodOptions


class Echo(MethodModule):
    """Its logits are its arranged images."""

    name = "echo"
    divisor, minimum = 2, 4

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        return Prediction(segmentation=images.clone())


def echo(markers: tuple[str, ...] = ()) -> Echo:
    return Echo(modalities=("t1", "t2"), classes=2, markers=markers, options=MethodOptions())


def images(count: int = 1, channels: int = 2) -> Tensor:
    return torch.randn(count, channels, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def test_channels_go_by_name_and_what_is_absent_is_exactly_zero() -> None:
    given = images(2, 3)
    given[1, 2] = float("nan")
    present = torch.tensor([[True, True, True], [True, True, False]])
    found, shown = echo().arrange(given, present, ("t2", "flair", "t1"))
    assert torch.equal(found[0], given[0, [2, 0]])
    assert torch.equal(found[1, 1], given[1, 0])
    assert not bool(found[1, 0].any()), "what stands in an absent channel is never read"
    assert shown.tolist() == [[True, True], [False, True]]
    alone, there = echo().arrange(given[:, :1], present[:, :1], ("t2",))
    assert there.tolist() == [[False, True], [False, True]]
    assert not bool(alone[:, 0].any())


def test_names_and_sizes_that_do_not_suit_are_refused() -> None:
    model, present = echo(), torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ParameterError, match="given 1 modality names"):
        model(images(), present, ("t1",))
    with pytest.raises(ParameterError, match="t1 is named more than once"):
        model(images(), present, ("t1", "t1"))
    with pytest.raises(ParameterError, match="built for t1, t2 and given only flair, dwi"):
        model(images(), present, ("flair", "dwi"))
    with pytest.raises(ParameterError, match="sample 0 of the batch shows no sequence"):
        model(images(), ~present)
    with pytest.raises(ParameterError, match="choose a patch of 4x6x4"):
        model(torch.zeros(1, 2, 2, 5, 4), present)


def test_subsets_are_what_each_set_gives_by_itself() -> None:
    model, given = echo(), images(2)
    sets = torch.tensor([[True, False], [False, True], [True, True], [True, False], [False, True]])
    for row, logits in zip(sets, model.forward_subsets(given, sets), strict=True):
        assert torch.equal(logits, model(given, row.expand(2, -1)).segmentation)
    with pytest.raises(ParameterError, match="must show at least one"):
        model.forward_subsets(given, torch.zeros(1, 2, dtype=torch.bool))


def test_a_marker_that_the_batch_does_not_list_is_unknown_everywhere() -> None:
    model, logits = echo(("idh", "grade")), torch.zeros(2, 1, requires_grad=True)
    batch = Batch(("t1", "t2"), images(2), torch.ones(2, 2).bool(), None, ("glioma",) * 2, {"idh": torch.tensor([1.0, 0.0])})
    terms = model.marker_terms(Prediction(markers={"idh": logits, "grade": logits}), batch, weight=0.5)
    assert float(terms["idh"].detach()) == pytest.approx(0.5 * 0.6931, abs=1e-4)
    assert float(terms["grade"].detach()) == 0


def test_a_changed_gate_is_put_back_even_after_a_mistake() -> None:
    model = echo()
    with changed_gate(model, torch.ones_like):
        assert model.gate_change is torch.ones_like
    assert model.gate_change is None
    with suppress(RuntimeError), changed_gate(model, torch.ones_like):
        raise RuntimeError
    assert model.gate_change is None


def test_a_checkpoint_names_what_must_agree() -> None:
    assert echo().architecture() == {
        "method": "echo", "modalities": ["t1", "t2"], "classes": 2, "markers": [], "options": {},
        "seen": {"collections": [], "possible": [], "cohorts": [], "known": True},
    }  # fmt: skip
    with pytest.raises(ParameterError, match="takes no pretrained weights"):
        echo().load_pretrained("file.pt")

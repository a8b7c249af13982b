"""The value types that pass between the rooms."""

from __future__ import annotations

from dataclasses import replace

import torch

from workbench.contracts import MARKER_POSITIVE, MARKER_TITLES, MARKERS, Batch


def test_every_marker_has_a_title_and_every_binary_one_a_name_for_its_class() -> None:
    assert set(MARKER_TITLES) == set(MARKERS)
    assert set(MARKER_POSITIVE) == set(MARKERS) - {"grade"}


def test_a_batch_moves_with_all_its_tensors_and_nothing_else_changes() -> None:
    plain = Batch(
        modalities=("t1",), images=torch.ones(2, 1, 2, 2, 2), present=torch.ones(2, 1, dtype=torch.bool), labels=None,
        label_set=("glioma", ""), markers={"idh": torch.tensor([0.0, 1.0])}, cases=("a", "b"), record={"step": 3},
    )  # fmt: skip
    whole = replace(plain, labels=torch.zeros(2, 2, 2, 2, dtype=torch.long), target=plain.images, centre=torch.zeros(2, 3))
    moved = whole.to("meta")
    for name in ("images", "present", "labels", "target", "centre"):
        assert getattr(moved, name).device.type == "meta", name
        assert getattr(moved, name).dtype == getattr(whole, name).dtype
    assert moved.markers["idh"].device.type == "meta"
    assert (moved.modalities, moved.label_set, moved.cases, moved.record) == (("t1",), ("glioma", ""), ("a", "b"), {"step": 3})
    assert whole.images.device.type == "cpu", "the batch itself stays where it was"
    assert (plain.to("meta").labels, plain.to("meta").target, plain.to("meta").centre) == (None, None, None)

"""Batches by number: which, in which order, and what comes through as it is."""

from __future__ import annotations

import pytest
import torch
from toy_method import toy_batches

from workbench.training.feeding import numbered_batches


@pytest.mark.parametrize("workers", [0, 2])
def test_every_index_once_in_its_order_with_its_own_batch(workers: int) -> None:
    batches, indices = toy_batches(batch_size=3), range(5, 14, 4)  # as the second of four processes has them
    found = list(numbered_batches(batches, indices, workers))
    assert [index for index, _ in found] == [5, 9, 13]
    for index, batch in found:
        assert batch.cases == batches(index).cases, "nothing is collated"
        assert torch.equal(batch.images, batches(index).images)


def test_a_batch_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []
    batches = toy_batches()

    def counted(index: int):  # type: ignore[no-untyped-def]
        made.append(index)
        return batches(index)

    feed = numbered_batches(counted, range(100))
    assert made == []
    next(feed)
    assert made == [0]

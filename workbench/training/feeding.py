"""Batches by number, made in this process or in others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from workbench.contracts import Batch


def numbered_batches(sampler_batch: Callable[[int], Batch], indices: range, workers: int = 0) -> Iterator[tuple[int, Batch]]:
    """Yield (index, batch) in the order of `indices`; with `workers` > 0 that many processes work ahead."""
    numbered = _Numbered(sampler_batch, indices)
    return iter(DataLoader(numbered, batch_size=None, num_workers=workers, collate_fn=_as_it_is))


class _Numbered(Dataset[tuple[int, Batch]]):
    def __init__(self, sampler_batch: Callable[[int], Batch], indices: range) -> None:
        self.sampler_batch, self.indices = sampler_batch, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[int, Batch]:
        index = self.indices[position]
        return index, self.sampler_batch(index)


def _as_it_is(item: Any) -> Any:
    """Keep torch's own collation away from the batch."""
    return item

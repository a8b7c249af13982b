"""Every draw is a function of (seed, purpose): the same here, in another process and after years."""

from __future__ import annotations

import numpy as np

from workbench.seeding import derive_seed, stream


def test_a_purpose_has_one_seed_of_its_own() -> None:
    """A number and its text are two purposes, and parts do not run together."""
    purposes = [(), ("a",), ("a", 1), ("a", "1"), ("a", 11), ("a", 1, 1), ("a1",), ("a", "b"), ("ab",)]
    seeds = [derive_seed(seed, *purpose) for seed in (0, 1) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_for_ever() -> None:
    """Runs are repeated by them: another number here means that none repeats any more."""
    assert (derive_seed(0), derive_seed(7, "augment", 3)) == (4246866556266386882, 4555215991528386838)


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    first = stream(3, "order", 1).random(4)
    stream(3, "order", 0).random(100)
    assert np.array_equal(stream(3, "order", 1).random(4), first)
    assert not np.array_equal(stream(3, "order", 2).random(4), first)
    assert derive_seed(np.int64(3), "order") == derive_seed(3, "order")

"""Named collections: which share subjects."""

from __future__ import annotations

import pytest

from workbench.cohort.collections import COLLECTIONS, MAY_SHARE, SHARED, check_collections, sharing
from workbench.errors import ParameterError


def test_sharing_is_symmetric_and_unnamed_collections_are_never_the_same() -> None:
    assert sharing(["tcga-gbm"], ["brats2023"]) == [("tcga-gbm", "brats2023")]
    assert sharing(["brats2023"], ["tcga-gbm"])
    assert not sharing(["private", "other"], ["private", "other"])
    assert not sharing(["tcga-gbm"], ["tcga-lgg"])


def test_pairs_are_of_known_collections_and_known_or_only_possible() -> None:
    assert {name for pair in SHARED | MAY_SHARE for name in pair} <= set(COLLECTIONS)
    assert not SHARED & MAY_SHARE
    assert all(len(pair) == 2 for pair in SHARED | MAY_SHARE)
    assert sharing(["brats2021"], ["brats2023"]) == [("brats2021", "brats2023")], "the same people under new names"
    assert not sharing(["brats2021"], ["brats2024"])
    assert sharing(["brats2021"], ["brats2024"], MAY_SHARE) == [("brats2021", "brats2024")]


def test_names_are_checked_and_each_kept_once() -> None:
    assert check_collections(["egd", "ukb", "egd"]) == ("egd", "ukb")
    with pytest.raises(ParameterError, match="collection 'ucsf' is unknown; there are ukb, brats2021"):
        check_collections(["egd", "ucsf"])

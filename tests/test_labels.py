"""Label conventions held against what their publications say, and the regions that follow from the labels."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import InputError, ParameterError
from workbench.labels import (
    CONVENTIONS,
    ED,
    ET,
    LABEL_SET_CLASSES,
    LABEL_SETS,
    NCR,
    RC,
    REGIONS,
    as_drawn,
    convention,
    judged_regions,
    region_mask,
    regions_of,
    to_canonical,
)

PUBLISHED = {
    "brats2015": {1: NCR, 2: ED, 3: NCR, 4: ET},  # 1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing
    "brats2021": {1: NCR, 2: ED, 4: ET},  # no 3
    "brats2023": {1: NCR, 2: ED, 3: ET},
    "brats2024": {1: NCR, 2: ED, 3: ET, 4: RC},  # 4 is the cavity, not ET as before
    "msd": {1: ED, 2: NCR, 3: ET},  # oedema comes first, unlike in BraTS
    "canonical": {1: NCR, 2: ED, 3: ET, 4: RC},
    "whole_tumour": {1: 1},
    "lesion": {1: 1},
}


def test_every_convention_is_held_against_its_publication() -> None:
    assert set(PUBLISHED) == set(CONVENTIONS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_masks_are_read_as_published(name: str) -> None:
    expected = {0: 0} | PUBLISHED[name]
    values = np.array([[list(expected)]], dtype=np.float32)
    found = to_canonical(values, name)
    assert found.dtype == np.uint8
    assert found.shape == values.shape
    assert dict(zip(expected, found.ravel().tolist(), strict=True)) == expected
    for value in set(range(6)) - set(expected):
        with pytest.raises(InputError, match=f"the mask holds {value}, but convention '{name}' defines only 0, 1"):
            to_canonical(np.array([0, value]), name)


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), (257, "257")])
def test_a_value_that_is_no_label_is_refused_and_named(value: float, shown: str) -> None:
    with pytest.raises(InputError, match=rf"case a, file m\.nii, channel segmentation: the mask holds {shown}, but"):
        to_canonical(np.array([0.0, 1.0, value]), "brats2023", case="a", file="m.nii")


def test_an_unknown_convention_is_refused_with_those_there_are() -> None:
    with pytest.raises(ParameterError, match="'brats1999' is unknown; there are: canonical, brats2015"):
        convention("brats1999")


@pytest.mark.parametrize(
    ("region", "labels"),
    [("WT", {1, 2, 3}), ("TC", {1, 3}), ("ET", {3}), ("ED", {2}), ("NCR", {1}), ("RC", {4}), ("lesion", {1})],
)
def test_regions_are_unions_of_labels(region: str, labels: set[int]) -> None:
    """Whole tumour and tumour core leave the cavity out, as in BraTS 2024."""
    values = np.arange(5)
    assert set(values[region_mask(values, region)].tolist()) == labels
    assert set(REGIONS[region]) == labels


def test_a_label_set_has_as_many_classes_as_its_regions_need() -> None:
    for name, regions in LABEL_SETS.items():
        if name not in ("WT", "lesion"):  # there the one class is the whole tumour
            assert LABEL_SET_CLASSES[name] == 1 + max(label for region in regions for label in REGIONS[region])
    assert (LABEL_SET_CLASSES["WT"], LABEL_SET_CLASSES["lesion"]) == (2, 2)


def test_a_single_class_reads_the_whole_tumour_and_no_cavity() -> None:
    values = np.arange(5, dtype=np.uint8)
    for name in ("WT", "lesion"):
        assert as_drawn(values, name).tolist() == [0, 1, 1, 1, 0]
    for name in ("glioma", "glioma_post", ""):
        assert as_drawn(values, name).tolist() == [0, 1, 2, 3, 4]


def test_what_can_be_judged_is_what_was_drawn_and_is_told_apart() -> None:
    assert regions_of("") == ()
    assert judged_regions("glioma", 4) == ["WT", "TC", "ET", "ED", "NCR"]
    assert judged_regions("glioma", 2) == ["WT"], "a segmenter of one class knows the whole tumour only"
    assert judged_regions("glioma_post", 4) == ["WT", "TC", "ET", "ED", "NCR"], "four classes have no cavity"
    assert judged_regions("glioma_post", 5) == ["WT", "TC", "ET", "ED", "NCR", "RC"]
    assert judged_regions("lesion", 2) == ["lesion"]
    assert judged_regions("WT", 5) == ["WT"], "more was not drawn"

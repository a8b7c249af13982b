"""Prepared cases as they lie on disk: parts, names, label sets, and the way back."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_cohort import FOUR

from workbench.errors import WorkbenchError
from workbench.labels import region_mask
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort


def test_parts_and_names_of_channels(tiny_cohort, tmp_path):
    prepared = prepare_cohort(tiny_cohort, FOUR, folder=tmp_path, cases=["TINY-00002-000"], progress=False)
    case = prepared.case("TINY-00002-000")
    part = (slice(3, 9), slice(None), slice(5, 6))
    np.testing.assert_array_equal(case.images(part), case.images()[:, 3:9, :, 5:6])
    np.testing.assert_array_equal(case.labels(part), case.labels()[3:9, :, 5:6])
    np.testing.assert_array_equal(case.brain(part), case.brain()[3:9, :, 5:6])
    assert case.brain().dtype == bool
    chosen = case.images(part, ["flair", "swi", "t1"])
    np.testing.assert_array_equal(chosen[0], case.images(part)[3])
    np.testing.assert_array_equal(chosen[2], case.images(part)[0])
    assert not chosen[1].any()


def test_label_sets_and_stored_foreground(tiny_cohort, tmp_path):
    prepared = prepare_cohort(
        tiny_cohort, PrepareSettings(spacing=4.0, samples=50), folder=tmp_path, progress=False,
        cases=[f"TINY-0000{i}-000" for i in (0, 3, 4)],
    )  # fmt: skip
    full, none, whole = prepared
    assert (full.label_set, none.label_set, whole.label_set) == ("glioma", "", "WT")
    assert none.labels() is None
    assert none.foreground == {}
    assert none.mask_centre is None
    assert set(whole.foreground) == {1}
    for case in (full, whole):
        labels = case.labels()
        for label, voxels in case.foreground.items():
            assert len(np.unique(voxels, axis=0)) == len(voxels) == min(50, (labels == label).sum())
            assert (labels[tuple(voxels.T)] == label).all()
        centroid = np.argwhere(region_mask(labels, "WT")).mean(axis=0)
        np.testing.assert_allclose(case.mask_centre, centroid, atol=0.51)


def test_reopening_finds_the_same_cases(small):
    made = prepare_cohort(small, FOUR, progress=False)
    opened = PreparedCohort.open(made.folder)
    assert (opened.cases, opened.modalities, opened.spacing, len(opened)) == (made.cases, small.modalities, 4.0, 3)
    np.testing.assert_array_equal(opened.case(opened.cases[1]).images(), made.case(made.cases[1]).images())
    with pytest.raises(WorkbenchError, match="cannot be read"):
        PreparedCohort.open(small.folder)
    (made.folder / "prepared.json").write_text("{}")
    with pytest.raises(WorkbenchError, match="does not describe"):
        PreparedCohort.open(made.folder)
    assert prepare_cohort(small, FOUR, progress=False).cases == made.cases


def test_metadata_is_enough_for_the_way_back(tiny_cohort, tmp_path):
    prepared = prepare_cohort(tiny_cohort, FOUR, folder=tmp_path, cases=["TINY-00000-000"], progress=False)
    (case,) = prepared
    affine = nib.load(tiny_cohort.path(case.name, "t1")).affine
    np.testing.assert_array_equal(case.native.affine, affine)
    assert case.native.shape == (36, 44, 30)
    assert isinstance(case.statistics["t1"]["mean"], float)
    assert pd.notna(case.statistics["t1"]["deviation"])

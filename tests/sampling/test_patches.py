from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.sampling.patches import (
    box_centre,
    foreground_centre,
    inner_centre,
    jittered_mask_centre,
    random_centre,
    read_patch,
)

MODALITIES = ("t1", "t1c", "t2", "flair")


@pytest.mark.parametrize("patch", [(8, 9, 10), (40, 40, 40), (29, 37, 32), (1, 1, 1)])
@pytest.mark.parametrize("centre", [(0, 0, 0), (14, 18, 16), (28, 36, 31), (-30, 5, 5)])
def test_a_patch_is_the_padded_volume_around_its_centre(prepared, centre, patch):
    case = prepared.case("TINY-00000-000")
    images, labels = read_patch(case, centre, patch, MODALITIES)
    width = 80
    part = tuple(slice(width + c - p // 2, width + c - p // 2 + p) for c, p in zip(centre, patch, strict=True))
    np.testing.assert_array_equal(images, np.pad(case.images(), ((0, 0), *[(width, width)] * 3))[:, *part])
    np.testing.assert_array_equal(labels, np.pad(case.labels(), width)[part])


def test_a_case_without_mask_has_no_labels(prepared):
    assert read_patch(prepared.case("TINY-00003-000"), (5, 5, 5), (4, 4, 4), MODALITIES)[1] is None


SIZES = st.tuples(*[st.integers(1, 30)] * 3)


@given(shape=SIZES, patch=SIZES, wish=st.tuples(*[st.integers(-5, 35)] * 3), seed=st.integers(0, 99))
def test_patches_stay_inside_the_box_or_cover_it(shape, patch, wish, seed):
    centres = inner_centre(wish, shape, patch), random_centre(shape, patch, np.random.default_rng(seed)), box_centre(shape)
    for index, centre in enumerate(centres):
        for c, n, p in zip(centre, shape, patch, strict=True):
            low = c - p // 2
            if n > p and index < 2:
                assert 0 <= low <= n - p
            else:  # central: what is left over on both sides differs by at most one voxel
                assert abs(low + (low + p - n)) <= 1


def test_all_positions_come_up(prepared):
    rng = np.random.default_rng(0)
    found = {random_centre((6, 5, 4), (4, 4, 4), rng) for _ in range(200)}
    assert found == {(x, y, 2) for x in (2, 3, 4) for y in (2, 3)}


def test_foreground_patches_hold_the_label_all_labels_equally_often(prepared):
    case = prepared.case("TINY-00000-000")
    rng = np.random.default_rng(0)
    labels = case.labels()
    hits = dict.fromkeys(case.foreground, 0)
    for _ in range(300):
        x, y, z = foreground_centre(case, (1, 1, 1), rng)
        hits[int(labels[x, y, z])] += 1
    assert min(hits.values()) > 70  # NCR is a tenth of oedema
    for _ in range(20):
        _, patch = read_patch(case, foreground_centre(case, (16, 16, 16), rng), (16, 16, 16), MODALITIES)
        assert patch.any()
    assert foreground_centre(prepared.case("TINY-00003-000"), (8, 8, 8), rng) is None


def test_jittered_mask_centre_is_the_masks_centroid_within_the_jitter(prepared):
    rng = np.random.default_rng(0)
    case, without = prepared.case("TINY-00000-000"), prepared.case("TINY-00003-000")
    assert jittered_mask_centre(case, 0, rng) == case.mask_centre
    assert jittered_mask_centre(without, 0, rng) == without.brain_centre
    shifts = np.array([np.subtract(jittered_mask_centre(case, 3, rng), case.mask_centre) for _ in range(200)])
    assert (shifts.min(axis=0) == -3).all()
    assert (shifts.max(axis=0) == 3).all()

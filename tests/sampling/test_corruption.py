"""Noisy masks and misregistered sequences: what is done to arrays, to whom, and that a patch shows what the volume would."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from workbench.errors import ParameterError
from workbench.sampling.batches import Sampler, SamplingSettings
from workbench.sampling.corruption import (
    MisregisteredCase,
    check_mask_noise,
    dilated,
    eroded,
    is_noisy,
    misregistered,
    moved,
    noise_in_words,
    noisy_labels,
    registration_errors,
)

PATCH = (16, 20, 12)
CASE = "TINY-00000-000"


def settings(**changes: Any) -> SamplingSettings:
    return SamplingSettings(**{"patch": PATCH, "batch_size": 3, **changes})


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2


def scene() -> np.ndarray:
    """Labels (15, 15, 15): a core of 1 in a shell of 2."""
    labels = np.zeros((15, 15, 15), np.uint8)
    labels[ball((15, 15, 15), (7, 7, 7), 5)] = 2
    labels[ball((15, 15, 15), (7, 7, 7), 3)] = 1
    return labels


@pytest.mark.parametrize("voxels", [1.0, 1.5, 2.0, 4.0, 9.0])
def test_erosion_and_dilation_are_those_of_a_ball(voxels: float) -> None:
    """Against the slow definition: is there background, or a label, within so many voxels."""
    labels, reach = scene(), int(voxels)
    around = ball((2 * reach + 1,) * 3, (reach,) * 3, voxels)
    kept = ndimage.binary_erosion(labels > 0, around, border_value=1)
    np.testing.assert_array_equal(eroded(labels, voxels), np.where(kept, labels, 0))
    grown = dilated(labels, voxels)
    np.testing.assert_array_equal(grown > 0, ndimage.binary_dilation(labels > 0, around))
    np.testing.assert_array_equal(grown[labels > 0], labels[labels > 0])
    assert set(np.unique(grown)) <= {0, 1, 2}
    assert (grown[(grown > 0) & (labels == 0)] == 2).all(), "what is gained takes the label of the nearest one"


def test_empty_and_full_volumes_stay() -> None:
    for labels in (np.zeros((4, 5, 6), np.uint8), np.full((4, 5, 6), 3, np.uint8)):
        np.testing.assert_array_equal(eroded(labels, 2), labels)
        np.testing.assert_array_equal(dilated(labels, 2), labels)


@pytest.mark.parametrize("kind", ["eroded", "dilated", "shifted", "dropped"])
def test_a_patch_shows_what_the_noisy_volume_would(prepared: Any, kind: str) -> None:
    case = prepared.case(CASE)
    how = {"kind": kind, "distance": 9.0, "share": 0.999, "seed": 0}
    middle = tuple(n // 2 for n in case.shape)
    whole = noisy_labels(case, middle, case.shape, **how)
    assert whole is not None
    assert not np.array_equal(whole, case.labels())
    for centre in (case.mask_centre, (3, 5, 4)):
        part = tuple(slice(60 + c - p // 2, 60 + c - p // 2 + p) for c, p in zip(centre, PATCH, strict=True))
        np.testing.assert_array_equal(noisy_labels(case, centre, PATCH, **how), np.pad(whole, 60)[part])


def test_each_kind_does_what_it_says(prepared: Any) -> None:
    case = prepared.case(CASE)
    clean, middle = np.asarray(case.labels()), tuple(n // 2 for n in case.shape)

    def noisy(kind: str, distance: float = 9.0, share: float = 1.0) -> np.ndarray:
        found = noisy_labels(case, middle, case.shape, kind=kind, distance=distance, share=share, seed=3)
        assert found is not None
        return found

    smaller, larger, aside = noisy("eroded"), noisy("dilated"), noisy("shifted")
    assert 0 < (smaller > 0).sum() < (clean > 0).sum() < (larger > 0).sum()
    assert (smaller[smaller > 0] == clean[smaller > 0]).all()
    assert (larger[clean > 0] == clean[clean > 0]).all()
    assert not (larger[~case.brain()] > 0).any() or (clean[~case.brain()] > 0).any()
    offset = np.array(ndimage.center_of_mass(aside > 0)) - np.array(ndimage.center_of_mass(clean > 0))
    assert np.linalg.norm(offset) * 4 == pytest.approx(9, abs=4 * np.sqrt(3) / 2), "to the nearest voxel of 4 mm"
    np.testing.assert_array_equal(offset, np.rint(offset))
    assert noisy_labels(prepared.case("TINY-00003-000"), middle, PATCH, kind="eroded", distance=9, share=1, seed=0) is None


def test_lesions_are_dropped_one_by_one_and_whole() -> None:
    labels = np.zeros((60, 6, 6), np.uint8)
    for index in range(20):
        labels[3 * index : 3 * index + 2, 2:4, 2:4] = 1 + index % 3
    labels[1, 4, 4] = 2  # touches the first one by a corner alone: the same lesion
    case: Any = SimpleNamespace(name="many", labels=lambda: labels)
    found = noisy_labels(case, (30, 3, 3), labels.shape, kind="dropped", distance=1, share=0.4, seed=0)
    assert found is not None
    kept = np.array([(found[3 * index : 3 * index + 2] > 0).any() for index in range(20)])
    assert 8 <= kept.sum() <= 16
    for index in range(20):
        part = slice(3 * index, 3 * index + 2)
        np.testing.assert_array_equal(found[part], labels[part] if kept[index] else 0)


def test_the_share_of_noisy_cases_is_the_same_cases_for_every_kind(prepared: Any) -> None:
    names = [f"case-{index}" for index in range(2000)]
    noisy = [is_noisy(0, name, 0.3) for name in names]
    assert np.mean(noisy) == pytest.approx(0.3, abs=0.04)
    assert all(is_noisy(0, name, 0.6) for name, chosen in zip(names, noisy, strict=True) if chosen)
    assert noisy != [is_noisy(1, name, 0.3) for name in names]
    case = prepared.case(CASE)
    middle = tuple(n // 2 for n in case.shape)
    for kind in ("eroded", "dilated", "shifted"):
        for share in (0.1, 0.5, 0.9):
            found = noisy_labels(case, middle, case.shape, kind=kind, distance=9, share=share, seed=0)
            assert np.array_equal(found, case.labels()) != is_noisy(0, CASE, share)


def test_sequences_lie_aside_by_exactly_that_far_and_the_first_stays() -> None:
    errors = registration_errors(0, CASE, ("t1c", "t2", "flair"), 2.5)
    assert set(errors) == {"t2", "flair"}
    assert [float(np.linalg.norm(error)) for error in errors.values()] == pytest.approx([2.5, 2.5])
    assert not np.allclose(errors["t2"], errors["flair"])
    volume = np.zeros((20, 20, 20), np.float16)
    volume[8:12, 8:12, 8:12] = 1
    after = moved(volume, np.array([1.5, -2.0, 0.25]))
    assert after.dtype == np.float16
    shift = np.array(ndimage.center_of_mass(after.astype(float))) - np.array(ndimage.center_of_mass(volume.astype(float)))
    np.testing.assert_allclose(shift, [1.5, -2.0, 0.25], atol=1e-3)


@pytest.mark.parametrize("centre", [(14, 18, 16), (2, 5, 30)])
def test_a_patch_shows_what_the_moved_volume_would(prepared: Any, centre: tuple[int, int, int]) -> None:
    case = prepared.case(CASE)
    errors = registration_errors(0, case.name, case.modalities, 7.0)
    found = misregistered(case, centre, PATCH, errors)
    part = tuple(slice(60 + c - p // 2, 60 + c - p // 2 + p) for c, p in zip(centre, PATCH, strict=True))
    for name, error in errors.items():
        whole = moved(np.pad(case.images(modalities=(name,))[0], 60), error / 4.0)
        np.testing.assert_allclose(found[name].astype(np.float32), whole[part].astype(np.float32), atol=2e-3)


def test_a_misregistered_case_shows_moved_volumes_in_whole_and_in_part(prepared: Any) -> None:
    case = prepared.case(CASE)
    errors = registration_errors(0, case.name, case.modalities, 6.0)
    aside = MisregisteredCase(case.folder, errors)
    whole = aside.images()
    assert np.array_equal(whole[0], case.images()[0])
    for channel, name in list(enumerate(case.modalities))[1:]:
        np.testing.assert_array_equal(whole[channel], moved(case.images()[channel], errors[name] / 4.0))
    part = (slice(3, 9), slice(0, 7), slice(5, 20))
    np.testing.assert_array_equal(
        aside.images(part, ("flair", "dwi", "t1")), aside.images(None, ("flair", "dwi", "t1"))[:, *part]
    )
    assert np.array_equal(aside.labels(), case.labels())
    assert np.array_equal(aside.brain(), case.brain())


def test_what_a_run_was_trained_on_in_words() -> None:
    assert noise_in_words("none", 3, 0.5, 0) == "clean"
    assert noise_in_words("eroded", 3, 0.5, 2) == "sequences 2 mm aside and masks eroded 3 mm in 50% of cases"
    assert noise_in_words("dropped", 3, 0.3, 0) == "masks without 30% of lesions"


def batches(prepared: Any, cohort: Any, seed: int = 0, **changes: Any) -> Any:
    return Sampler(prepared, cohort.cases, settings(**changes), seed)


def test_noise_changes_the_masks_and_nothing_else(prepared: Any, tiny_cohort: Any) -> None:
    how = {"mask_noise": "eroded", "mask_noise_mm": 9.0, "mask_noise_share": 0.5, "batch_size": 12}
    plain, noisy = (batches(prepared, tiny_cohort, **changes).batch(0) for changes in ({"batch_size": 12}, how))
    assert torch.equal(plain.images, noisy.images)
    assert torch.equal(plain.present, noisy.present)
    assert torch.equal(plain.centre, noisy.centre)
    assert (plain.cases, plain.label_set) == (noisy.cases, noisy.label_set)
    changed = [name for name, a, b in zip(plain.cases, plain.labels, noisy.labels, strict=True) if not torch.equal(a, b)]
    assert changed
    assert all(is_noisy(0, name, 0.5) for name in changed)
    assert "mask_noise" not in plain.record["samples"][0]


def test_misregistration_changes_the_other_sequences_and_nothing_else(prepared: Any, tiny_cohort: Any) -> None:
    plain, aside = (batches(prepared, tiny_cohort, batch_size=12, misregistration=mm).batch(0) for mm in (0.0, 6.0))
    assert torch.equal(plain.labels, aside.labels)
    assert torch.equal(plain.present, aside.present)
    for sample, there in enumerate(plain.present):
        first = int(there.nonzero()[0])
        equal = [torch.equal(a, b) for a, b in zip(plain.images[sample], aside.images[sample], strict=True)]
        assert equal[first]
        assert all(same for same, has in zip(equal, there, strict=True) if not has), "absent ones stay zero"
        assert not any(same for m, (same, has) in enumerate(zip(equal, there, strict=True)) if has and m != first)
    assert set(aside.record["samples"][0]["misregistration"]) < set(plain.modalities)


def test_a_case_is_wrong_in_the_same_way_whenever_it_comes_up_and_whoever_draws_it(prepared: Any, tiny_cohort: Any) -> None:
    how = {"mask_noise": "shifted", "mask_noise_mm": 9.0, "misregistration": 6.0, "mode": "whole", "patch": (32, 40, 32)}
    first, resumed = (batches(prepared, tiny_cohort, batch_size=12, **how) for _ in range(2))
    one, later = first.batch(0), first.batch(5)
    again = resumed.batch(5)  # a sampler that never drew what came before
    assert torch.equal(later.images, again.images)
    assert torch.equal(later.labels, again.labels)
    order = [one.cases.index(name) for name in later.cases]
    assert torch.equal(one.images[order], later.images)
    assert torch.equal(one.labels[order], later.labels)
    other = batches(prepared, tiny_cohort, seed=1, batch_size=12, **how).batch(0)
    assert not torch.equal(other.images[[other.cases.index(name) for name in one.cases]], one.images)


def test_what_would_change_nothing_or_leave_nothing_is_refused(prepared: Any, tiny_cohort: Any) -> None:
    with pytest.raises(ParameterError, match=r"'mask_noise_mm': 3 mm is less than a voxel of 4 mm"):
        batches(prepared, tiny_cohort, mask_noise="eroded")
    with pytest.raises(ParameterError, match="every lesion dropped"):
        check_mask_noise("dropped", 3, 1.0, 1.0)
    check_mask_noise("dropped", 3, 0.5, 4.0)
    check_mask_noise("none", 3, 1.0, 4.0)

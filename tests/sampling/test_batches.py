from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from workbench.contracts import MARKERS, Batch
from workbench.errors import InputError, WorkbenchError
from workbench.sampling.batches import Sampler, SamplingSettings
from workbench.training.feeding import numbered_batches

PATCH = (16, 20, 12)


def settings(**changes) -> SamplingSettings:
    return SamplingSettings(**{"patch": PATCH, "batch_size": 3, **changes})


def equal(one: Batch, other: Batch) -> bool:
    """Whether two batches are the same to the bit."""
    tensors = [(one.images, other.images), (one.present, other.present), (one.centre, other.centre)]
    tensors += [(torch.nan_to_num(one.markers[m], -1), torch.nan_to_num(other.markers[m], -1)) for m in MARKERS]
    for a, b in ((one.labels, other.labels), (one.target, other.target)):
        assert (a is None) == (b is None)
        if a is not None:
            tensors.append((a, b))
    named = (one.modalities, one.label_set, one.cases, one.record) == (
        other.modalities,
        other.label_set,
        other.cases,
        other.record,
    )
    return named and all(torch.equal(a, b) for a, b in tensors)


def test_a_batch_keeps_the_contract(tiny_cohort, prepared):
    batch = Sampler(prepared, tiny_cohort.cases, settings(batch_size=12), 0).batch(0)
    assert batch.images.shape == (12, 4, *PATCH)
    assert (batch.images.dtype, batch.labels.dtype, batch.present.dtype) == (torch.float32, torch.long, torch.bool)
    assert batch.labels.shape == (12, *PATCH)
    assert batch.centre.shape == (12, 3)
    assert batch.target is None
    assert sorted(batch.cases) == sorted(prepared.cases)
    table = tiny_cohort.cases.set_index("case")
    for index, case in enumerate(batch.cases):
        assert batch.present[index].tolist() == list(prepared.case(case).present)
        assert not batch.images[index, ~batch.present[index]].any()
        assert batch.markers["idh"][index] == table.loc[case, "idh"]
        assert batch.markers["grade"][index] == table.loc[case, "grade"]
        assert math.isnan(batch.markers["tert"][index])
    by_case = dict(zip(batch.cases, batch.label_set, strict=True))
    assert by_case["TINY-00003-000"] == ""
    assert by_case["TINY-00004-000"] == "WT"
    assert not batch.labels[batch.cases.index("TINY-00003-000")].any()
    json.dumps(batch.record)


def test_no_labels_only_where_no_case_of_the_batch_has_a_mask(tiny_cohort, prepared):
    rows = tiny_cohort.cases[tiny_cohort.cases["case"] == "TINY-00003-000"]
    batch = Sampler(prepared, rows, settings(batch_size=2), 0).batch(0)
    assert batch.labels is None
    assert batch.label_set == ("", "")


def test_a_batch_is_a_function_of_seed_and_step_alone(tiny_cohort, prepared):
    chosen = settings(modality_dropout=0.4)
    one, other = (Sampler(prepared, tiny_cohort.cases, chosen, 7) for _ in range(2))
    forwards = [one.batch(step) for step in range(6)]
    backwards = [other.batch(step) for step in reversed(range(6))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not equal(forwards[0], forwards[1])
    assert not equal(forwards[0], Sampler(prepared, tiny_cohort.cases, chosen, 8).batch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_workers(tiny_cohort, prepared, workers):
    sampler = Sampler(prepared, tiny_cohort.cases, settings(modality_dropout=0.4), 3)
    found = [batch for _, batch in numbered_batches(sampler.batch, range(2, 7), workers)]
    assert len(found) == 5
    assert all(equal(batch, sampler.batch(step)) for batch, step in zip(found, range(2, 7), strict=True))


def test_every_case_comes_up_once_per_epoch_in_changing_order(tiny_cohort, prepared):
    sampler = Sampler(prepared, tiny_cohort.cases.iloc[:7], settings(patch=(2, 2, 2), batch_size=3), 0)
    assert sampler.steps_per_epoch == 3
    drawn = [case for step in range(21) for case in sampler.batch(step).cases]  # 63 samples = 9 epochs of 7
    orders = [tuple(drawn[i : i + 7]) for i in range(0, 63, 7)]
    assert all(len(set(order)) == 7 for order in orders)
    assert len(set(orders)) > 5


@pytest.mark.parametrize("share", [0.0, 1 / 3, 0.5, 1.0])
def test_exactly_the_share_of_samples_is_centred_on_foreground(tiny_cohort, prepared, share):
    rows = tiny_cohort.cases[tiny_cohort.cases["segmentation"].notna()]
    sampler = Sampler(prepared, rows, settings(patch=(6, 6, 6), batch_size=6, foreground=share), 0)
    batches = [sampler.batch(step) for step in range(10)]
    kinds = Counter(sample["kind"] for batch in batches for sample in batch.record["samples"])
    assert kinds["foreground"] == round(60 * share)
    for batch in batches:
        for index, sample in enumerate(batch.record["samples"]):
            if sample["kind"] == "foreground":
                assert batch.labels[index].any()


def test_every_sample_has_a_place_of_its_own(tiny_cohort, prepared):
    sampler = Sampler(prepared, tiny_cohort.cases, settings(patch=(2, 2, 2), batch_size=10, foreground=0), 0)
    centres = {tuple(sample["centre"]) for step in range(4) for sample in sampler.batch(step).record["samples"]}
    assert len(centres) > 35  # 40 draws from about 30 000 positions


def test_the_centre_says_where_the_patch_was(tiny_cohort, prepared):
    for mode in ("patch", "whole", "tumour"):
        batch = Sampler(prepared, tiny_cohort.cases, settings(mode=mode), 1).batch(3)
        for index, name in enumerate(batch.cases):
            low = batch.centre[index].numpy() - np.array(PATCH) // 2
            volume = np.pad(prepared.case(name).images().astype(np.float32), ((0, 0), *[(40, 40)] * 3))
            part = volume[:, *(slice(a + 40, a + 40 + p) for a, p in zip(low, PATCH, strict=True))]
            np.testing.assert_array_equal(batch.images[index].numpy(), part)


def test_whole_mode_pads_or_crops_the_box_centrally(tiny_cohort, prepared):
    sampler = Sampler(prepared, tiny_cohort.cases, settings(mode="whole", patch=(32, 24, 40)), 1)
    batch = sampler.batch(0)
    shape = prepared.case(batch.cases[0]).shape
    assert shape == (29, 37, 32)
    image = prepared.case(batch.cases[0]).images()[0].astype(np.float32)
    expected = np.pad(image, ((2, 1), (0, 0), (4, 4)))[:, 6:30]
    np.testing.assert_array_equal(batch.images[0, 0].numpy(), expected)


def test_modalities_are_taken_by_name(tiny_cohort, prepared):
    names = ("flair", "dwi", "t1")
    batch = Sampler(prepared, tiny_cohort.cases, settings(foreground=0), 0, names).batch(1)
    plain = Sampler(prepared, tiny_cohort.cases, settings(foreground=0), 0).batch(1)
    assert batch.modalities == names
    assert plain.modalities == ("t1", "t1c", "t2", "flair")
    assert torch.equal(batch.images[:, 0], plain.images[:, 3])
    assert torch.equal(batch.images[:, 2], plain.images[:, 0])
    assert not batch.images[:, 1].any()
    assert not batch.present[:, 1].any()


def test_a_case_with_none_of_the_modalities_is_named(tiny_cohort, prepared):
    with pytest.raises(InputError, match=r"TINY-00001-000: expected at least one of flair, found only t1, t1c, t2") as error:
        Sampler(prepared, tiny_cohort.cases, settings(), 0, ["flair"])
    assert len(error.value.problems) == 1
    with pytest.raises(InputError, match="no case to draw from"):
        Sampler(prepared, tiny_cohort.cases.iloc[:0], settings(), 0)
    strange = tiny_cohort.cases.assign(case="X-" + tiny_cohort.cases["case"])
    with pytest.raises(WorkbenchError, match="X-TINY-00000-000' is not among the 12 prepared cases"):
        Sampler(prepared, strange, settings(), 0)


@pytest.mark.parametrize("mode", ["each", "subset"])
def test_dropped_modalities_are_zero_not_present_and_kept_as_target(tiny_cohort, prepared, mode):
    plain = Sampler(prepared, tiny_cohort.cases, settings(batch_size=12), 0).batch(0)
    batch = Sampler(prepared, tiny_cohort.cases, settings(batch_size=12, modality_dropout=0.8, dropout_mode=mode), 0).batch(0)
    assert torch.equal(batch.target, plain.images)
    assert batch.present.any(dim=1).all()
    assert (batch.present <= plain.present).all()
    gone = plain.present & ~batch.present
    assert gone.any()
    assert not batch.images[gone].any()
    assert torch.equal(batch.images[batch.present], plain.images[batch.present])
    for index, sample in enumerate(batch.record["samples"]):
        assert sample["dropped"] == [m for m, out in zip(batch.modalities, gone[index].tolist(), strict=True) if out]


def test_augment_follows_the_settings(tiny_cohort, prepared):
    off = Sampler(prepared, tiny_cohort.cases, settings(augment=False), 0)
    batch = off.batch(0)
    assert off.augment(batch, 0) is batch
    on = Sampler(prepared, tiny_cohort.cases, settings(augmentation={"flip": (1.0, 0.0, 0.0), "gamma": 1.0}), 0)
    changed = on.augment(batch, 0)
    assert not torch.equal(changed.images, batch.images)
    assert equal(changed, on.augment(batch, 0))
    assert not torch.equal(changed.images, on.augment(batch, 1).images)


def test_a_whole_brain_batch_is_the_padded_box(tiny_cohort, prepared):
    row = tiny_cohort.row("TINY-00002-000")
    case, rows = prepared.case(row["case"]), tiny_cohort.cases[tiny_cohort.cases["case"] == row["case"]]
    whole = settings(mode="whole", patch=(48, 48, 48), batch_size=1)
    batch = Sampler(prepared, rows, whole, 0).batch(0)
    assert batch.images.shape == (1, 4, 48, 48, 48)
    assert batch.present.tolist() == [[True, True, False, True]]
    assert batch.markers["grade"].item() == row["grade"]
    unknown = rows.assign(idh=float("nan"))
    box = Sampler(prepared, unknown, whole.model_copy(update={"patch": case.shape}), 0).batch(0)
    np.testing.assert_array_equal(box.images[0].numpy(), case.images().astype(np.float32))
    assert math.isnan(box.markers["idh"].item())
    assert torch.equal(batch.images[0, :, 10:39, 6:43, 8:40], box.images[0])


def test_settings_out_of_range_are_refused():
    for wrong in ({"patch": (0, 4, 4)}, {"foreground": 1.5}, {"batch_size": 0}, {"mode": "slices"}, {"patches": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            settings(**wrong)


def test_oversampling_draws_every_class_of_the_marker_equally_often(tiny_cohort, prepared):
    rows = tiny_cohort.cases.copy()
    rows["idh"] = [1, 1, 1] + [0] * 7 + [None] * (len(rows) - 10)
    sampler = Sampler(prepared, rows, settings(batch_size=1, oversample="idh"), 3)
    drawn = Counter(sampler.batch(step).cases[0] for step in range(len(sampler.names)))
    value = dict(zip(rows["case"], rows["idh"], strict=True))
    assert sum(n for case, n in drawn.items() if value[case] == 1) == 7
    assert all(n == 1 for case, n in drawn.items() if value[case] != 1), "the common class and the unknown stay as they are"
    assert sorted(n for case, n in drawn.items() if value[case] == 1) == [2, 2, 3]
    again = Sampler(prepared, rows, settings(batch_size=1, oversample="idh"), 3)
    assert again.names == sampler.names
    with pytest.raises(WorkbenchError, match="marker 'grey' is unknown"):
        Sampler(prepared, rows, settings(oversample="grey"), 3)


def test_images_or_datasets_come_up_equally_often_where_asked(tiny_cohort, prepared):
    rows = tiny_cohort.cases
    names = {case: sum(prepared.case(case).present) for case in rows["case"]}
    assert set(names.values()) == {3, 4}
    by_image = Sampler(prepared, rows, settings(balance="images"), 3)
    assert Counter(by_image.names) == names
    hidden = Sampler(prepared, rows, settings(balance="images", withhold=("t2",)), 3, ("t1", "t2"))
    assert set(Counter(hidden.names).values()) == {1}, "what is withheld is not counted"
    named = rows.assign(dataset=["x", "y", *[None] * (len(rows) - 2)], site=["south", "south", *["north"] * (len(rows) - 2)])
    even = Sampler(prepared, named, settings(balance="datasets"), 3)
    source = dict(zip(rows["case"], ["x", "y", *["north"] * (len(rows) - 2)], strict=True))
    before = Counter(source[name] for name in by_image.names)
    assert set(Counter(source[name] for name in even.names).values()) == {max(before.values())}
    assert len(set(before.values())) == 3

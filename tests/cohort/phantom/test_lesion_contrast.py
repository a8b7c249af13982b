"""What shows of an infarct, by its age; and how parts are painted over each other."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.cohort.phantom.lesion_contrast import LESION, infarct_visibility, paint
from workbench.cohort.phantom.lesion_options import SEQUENCES, LesionOptions

OPTIONS = LesionOptions()


def test_flair_follows_and_adc_returns_with_the_age_of_an_infarct() -> None:
    assert infarct_visibility("flair", 1.5, OPTIONS) < 0.2 < 0.5 == infarct_visibility("flair", 4.5, OPTIONS)
    assert infarct_visibility("flair", 24, OPTIONS) > 0.99
    assert infarct_visibility("adc", 24, OPTIONS) == 1 > infarct_visibility("adc", 168, OPTIONS) > 0.2
    assert infarct_visibility("dwi", 1.5, OPTIONS) > 0.8


def test_every_part_has_a_signal_in_every_sequence() -> None:
    assert all(set(signals) == set(SEQUENCES) for signals in LESION.values())


def test_later_parts_cover_earlier_ones_as_far_as_they_fill_the_voxel_and_show() -> None:
    brain, plain = np.full((1, 1, 3), 0.5), np.zeros((1, 1, 3))
    parts = {"oedema": np.array([[[1.0, 1.0, 0.0]]]), "necrosis": np.array([[[0.0, 0.5, 0.0]]])}
    shown = paint(brain, parts, "t2", plain)[0, 0]
    oedema, necrosis = LESION["oedema"]["t2"], LESION["necrosis"]["t2"]
    assert shown.tolist() == pytest.approx([oedema, (oedema + necrosis) / 2, 0.5])
    assert paint(brain, parts, "t2", plain, visibility=0.0).tolist() == brain.tolist()

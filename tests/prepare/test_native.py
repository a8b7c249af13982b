from __future__ import annotations

import numpy as np
import pytest
from labels_back import labels_back

from workbench.prepare.images import native_brain, native_labels
from workbench.prepare.native import to_native
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort

CASE = "TINY-00000-000"


def prepared_case(cohort, folder, spacing):
    return prepare_cohort(cohort, PrepareSettings(spacing=spacing), folder=folder, cases=[CASE], progress=False).case(CASE)


@pytest.mark.parametrize(("spacing", "least"), [(2.0, 0.97), (3.0, 0.93), (4.0, 0.93), (6.0, 0.75)])
def test_labels_come_back(tiny_cohort, tmp_path, spacing, least):
    case = prepared_case(tiny_cohort, tmp_path, spacing)
    truth, found = native_labels(tiny_cohort, CASE), labels_back(case.labels(), case)
    assert found.shape == truth.shape
    assert found.dtype == np.uint8
    whole = truth > 0
    assert 2 * (whole & (found > 0)).sum() / (whole.sum() + (found > 0).sum()) >= least
    brain = to_native(case.brain()[None].astype(np.float32), case)[0] > 0.5
    assert (brain == native_brain(tiny_cohort, CASE)).mean() > 0.97


def test_logits_get_the_background_asked_for_outside_the_box(tiny_cohort, tmp_path):
    case = prepared_case(tiny_cohort, tmp_path, 4.0)
    logits = np.random.default_rng(0).normal(size=(3, *case.shape)).astype(np.float32)
    background = np.array([10.0, -5.0, -6.0])
    found = to_native(logits, case, background)
    assert found.shape == (3, *case.native.shape)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, 0, 0, 0], background)
    np.testing.assert_array_equal(to_native(logits[:1], case, 4.0)[0, 0, 0, 0], 4.0)
    one = to_native(logits[1:2], case, -5.0)[0]
    np.testing.assert_array_equal(found[1], one)


def test_a_wrong_shape_is_refused(tiny_cohort, tmp_path):
    case = prepared_case(tiny_cohort, tmp_path, 4.0)
    with pytest.raises(ValueError, match="expected"):
        to_native(np.zeros((1, 2, 3, 4), np.float32), case)

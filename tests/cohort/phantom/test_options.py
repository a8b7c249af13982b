"""Options that cannot be are refused by name, before anything is drawn."""

from __future__ import annotations

import pytest

from workbench.cohort.phantom.options import PhantomOptions
from workbench.errors import ParameterError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1}, "'rate' is unknown"),
        ({"mismatch_astrocytoma": 1.4}, "mismatch_astrocytoma"),
        ({"mismatch_others": 0.5}, "exclude each other"),
        ({"coarse_site": "moon"}, "no site 'moon'"),
        ({"misregistration": 9}, "misregistration"),
        ({"width_range": (1.0, 4.0)}, "two voxels"),
        ({"volume_range": (90.0, 4.0)}, "volume_range"),
        ({"sites": {}}, "at least one"),
        ({"detect_solid": 0.9}, "detect_t2 < detect_solid"),
    ],
)
def test_bad_options_are_named(values: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PhantomOptions.build(**values)


def test_rates_of_signs_follow_class_and_grade() -> None:
    options = PhantomOptions(patchy={2: 0.08, 3: 0.5})
    assert options.sign_rates("astrocytoma", 3) == (0.42, 0.05, 0.5)
    assert options.sign_rates("astrocytoma", 4) == (0.05, 0.25, 0.0), "a grade that is not named has no patches"
    assert options.sign_rates("oligodendroglioma", 2) == (0.01, 0.05, 0.08)
    assert options.sign_rates("glioblastoma", 4) == (0.01, 0.90, 0.0)


def test_a_folder_is_marked_with_surgery_only_where_there_was_one() -> None:
    """Phantoms from before there was a second stage are finished by the same settings."""
    assert not {"stage", "surgery"} & set(PhantomOptions().settings())
    assert PhantomOptions(stage="posttreatment").settings()["surgery"]["complete"] == 0.5

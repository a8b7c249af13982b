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
        ({"extra": ("dwi",)}, "extra: unknown dwi; there are adc, cbv"),
        ({"extra": ("adc", "adc")}, "extra: one is named twice"),
        ({"solid_adc": {"astrocytoma": (1.6, 0.2)}}, "solid_adc: must have two numbers"),
        ({"cbv_range": (3.0, 1.0)}, "cbv_range"),
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


def test_maps_stand_behind_the_sequences_and_in_the_settings_only_where_made() -> None:
    """Phantoms from before there were maps are known by the same settings."""
    plain, more = PhantomOptions(), PhantomOptions(extra=("cbv", "adc"))
    assert plain.modalities == ("t1", "t1c", "t2", "flair")
    assert more.modalities == ("t1", "t1c", "t2", "flair", "adc", "cbv")
    assert set(more.settings()) - set(plain.settings()) == {"extra", "solid_adc", "solid_cbv", "adc_range", "cbv_range"}

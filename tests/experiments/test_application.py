"""What a trained run says about the sequences of another cohort before it predicts it."""

from __future__ import annotations

import warnings

import pytest

from workbench.cohort.table import Cohort
from workbench.errors import InputError
from workbench.experiments.application import check_sequences
from workbench.models.mome.mome import MoME
from workbench.models.unet.unet import UNet


def test_a_case_without_a_known_sequence_is_named_with_what_its_sequences_need(tiny_cohort: Cohort) -> None:
    """Case 1 of the tiny cohort lacks flair."""
    with pytest.raises(
        InputError, match=r"TINY-00001-000.*built for: flair, dwi.*cohort filter.*needs an expert of its own"
    ) as found:
        check_sequences(tiny_cohort, ("flair", "dwi"), MoME.unknown)
    assert len(found.value.problems) == 1


def test_sequences_that_are_not_shown_are_said(tiny_cohort: Cohort) -> None:
    with pytest.warns(
        UserWarning, match=r"t2, flair is not shown to the model, which was built for t1, t1c: a sequence needs an expert"
    ):
        check_sequences(tiny_cohort, ("t1", "t1c"), MoME.unknown)
    with pytest.warns(UserWarning, match=r"built for t1, t1c: train a run with it among 'modalities'"):
        check_sequences(tiny_cohort, ("t1", "t1c"), UNet.unknown)


def test_nothing_is_said_where_all_is_shown(tiny_cohort: Cohort) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_sequences(tiny_cohort, ("t1", "t1c", "t2", "flair", "swi"), UNet.unknown)

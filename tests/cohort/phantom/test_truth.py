"""The truth of a cohort as a table: a row for each case, whoever the others are, markers dealt anew in the permuted modes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.phantom.options import SIGNALS, PhantomOptions
from workbench.cohort.phantom.truth import case_name, case_names, make_truth
from workbench.errors import ParameterError

OPTIONS = PhantomOptions()


@cache
def truth(signal: str = "normal", subjects: int = 3000) -> pd.DataFrame:
    return make_truth(subjects, 5, signal, OPTIONS)


def test_a_subject_does_not_depend_on_the_others() -> None:
    assert truth("normal", 12).equals(truth("normal", 40).head(12))


@pytest.mark.parametrize("signal", ["permuted", "site_permuted"])
def test_dealing_keeps_whole_rows_and_prevalence(signal: str) -> None:
    table, plain = truth(signal, 400), truth("normal", 400)
    markers = ["idh", "codel", "tert", "grade"]
    order = ["site", *markers] if signal == "site_permuted" else markers
    assert table[order].sort_values(order).reset_index(drop=True).equals(plain[order].sort_values(order).reset_index(drop=True))
    drawn = [f"drawn_{marker}" for marker in markers]
    assert (table[drawn].to_numpy() == plain[markers].to_numpy()).all()
    assert abs(np.corrcoef(table["idh"], table["drawn_idh"])[0, 1]) < 0.2
    signs = ["mismatch", "enhancement", "lobe", "volume_ml", "width_mm", "age"]
    assert table[signs].equals(plain[signs])


def test_every_mode_draws() -> None:
    for signal in SIGNALS:
        assert make_truth(3, 0, signal, OPTIONS).notna().drop(columns="carrier").all(axis=None)


def test_sessions_after_surgery_are_named_from_100_on() -> None:
    assert (case_name(7), case_names(7, 0, OPTIONS)) == ("PHANTOM-00007-000", ["PHANTOM-00007-000"])
    after = OPTIONS.model_copy(update={"stage": "posttreatment"})
    numbers = [[name.rsplit("-", 1)[1] for name in case_names(index, 0, after)] for index in range(30)]
    assert {tuple(found) for found in numbers} == {("100",), ("100", "101"), ("100", "101", "102")}
    with pytest.raises(ParameterError, match="known only once the tumours were grown"):
        make_truth(2, 0, "normal", after)

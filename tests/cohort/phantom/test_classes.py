"""Signs at their published rates, and nothing together that excludes each other; no image is made."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.phantom.classes import class_probabilities, draw_subject
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import CLASSES
from workbench.cohort.phantom.truth import make_truth

OPTIONS = PhantomOptions()


@cache
def truth(signal: str = "normal", subjects: int = 3000) -> pd.DataFrame:
    return make_truth(subjects, 5, signal, OPTIONS)


def assert_rate(found: pd.Series, rate: float) -> None:
    """Within 4 binomial standard deviations."""
    assert abs(found.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / len(found)) + 1e-9, (found.mean(), rate, len(found))


def test_signs_at_their_rates() -> None:
    table = truth()
    low = table["grade"] < 4
    astro, oligo, wild = (table["class"] == name for name in ("astrocytoma", "oligodendroglioma", "glioblastoma"))
    ring, patchy = (table["enhancement"] == name for name in ("ring", "patchy"))
    assert_rate(table["mismatch"][astro & low], 0.42)
    assert_rate(table["mismatch"][astro & ~low], 0.05)
    assert_rate(table["mismatch"][~astro], 0.01)
    assert_rate(ring[wild], 0.90)
    assert_rate(ring[astro & ~low], 0.25)
    assert_rate(ring[low], 0.05)
    assert_rate(patchy[table["grade"] == 3], 0.50)
    assert_rate(table["heterogeneous"][oligo], 0.60)
    assert_rate(table["tert"][oligo], 0.96)
    assert_rate(table["tert"][astro], 0.05)
    assert_rate(table["tert"][wild], 0.80)
    assert_rate(table["lobe"][oligo] == "frontal", 0.64)
    assert (table["idh"] == (~wild).astype(int)).all()
    assert (table["codel"] == oligo.astype(int)).all()
    assert (table["grade"][wild] == 4).all()
    assert (table["grade"][oligo] < 4).all()


def test_no_ring_around_a_mismatch() -> None:
    table = truth()
    assert not (table["mismatch"] & (table["enhancement"] == "ring")).any()
    assert not (table["mismatch"] & table["heterogeneous"]).any()


def test_ages_volumes_and_fronts_stay_in_range_and_follow_the_class() -> None:
    table = truth()
    ages = table.groupby("class")["age"].mean()
    assert ages["astrocytoma"] == pytest.approx(38.5, abs=1.5)
    assert ages["oligodendroglioma"] == pytest.approx(45, abs=2)
    assert ages["glioblastoma"] == pytest.approx(62, abs=1.5)
    assert table["age"].between(18, 88).all()
    assert table["volume_ml"].between(3, 250).all()
    assert table["volume_ml"].median() == pytest.approx(60, abs=5)
    assert table["width_mm"].between(2, 5).all()
    width = table.groupby("class")["width_mm"].median()
    assert width["astrocytoma"] < width["glioblastoma"] < width["oligodendroglioma"]
    old, young = (table["ventricle_mm"][cut].mean() for cut in (table["age"] > 65, table["age"] < 40))
    assert old - young == pytest.approx(
        0.045 * (table["age"][table["age"] > 65].mean() - table["age"][table["age"] < 40].mean()), abs=0.15
    )


def test_small_cohorts_have_counts_near_their_rates() -> None:
    for seed in range(20):
        drawn = [draw_subject(seed, index, OPTIONS, "normal") for index in range(40)]
        counts = [sum(subject.klass == klass for subject in drawn) for klass in CLASSES]
        assert abs(counts[0] - 6.8) <= 3.3, counts
        assert abs(counts[2] - 21.2) <= 4, counts
        assert 5 <= sum(subject.site == "external" for subject in drawn) <= 10


def test_class_mix_differs_by_site_but_not_where_one_carrier_is_all() -> None:
    mixes = {site: tuple(class_probabilities(OPTIONS, site, "normal").round(6)) for site in OPTIONS.sites}
    assert len(set(mixes.values())) == len(mixes)
    assert len({tuple(class_probabilities(OPTIONS, site, "focus").round(9)) for site in OPTIONS.sites}) == 1
    table = truth()
    for site, expected in mixes.items():
        assert_rate(table["class"][table["site"] == site] == "glioblastoma", expected[2])
    exact = sum(np.array(mixes[site]) * OPTIONS.sites[site].share for site in mixes)
    assert np.allclose(exact, (0.17, 0.30, 0.53), atol=1e-5)
    overall = np.mean([table["class"] == klass for klass in CLASSES], axis=1)
    assert np.allclose(overall, (0.17, 0.30, 0.53), atol=0.015)


@pytest.mark.parametrize("signal", ["mismatch", "t1c_texture", "regional", "focus"])
def test_only_the_carrier_knows_idh(signal: str) -> None:
    table = truth(signal, 1500)
    assert (table["carrier"] == (table["idh"] == 1)).all()
    mutant = table["idh"] == 1
    for column in ("age", "volume_ml", "width_mm", "ventricle_mm"):
        gap = table[column][mutant].mean() - table[column][~mutant].mean()
        assert abs(gap) < 4 * table[column].std() * np.sqrt(1 / mutant.sum() + 1 / (~mutant).sum()), column
    for column in ("mismatch", "enhancement", "heterogeneous", "lobe", "cortical", "site"):
        for value in table[column].unique():
            shown = table[column] == value
            spread = np.sqrt(shown.mean() * (1 - shown.mean()) * (1 / mutant.sum() + 1 / (~mutant).sum()))
            assert abs(shown[mutant].mean() - shown[~mutant].mean()) < 4 * spread + 1e-9, (column, value)
    if signal == "mismatch":
        assert not table["mismatch"].any()
        assert not (table["enhancement"] == "ring").any()

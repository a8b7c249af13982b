"""What a scanner does to a signal: noise, slices, sequences that are missing, shifts."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.cohort.phantom.anatomy import field_of_view
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import MODALITIES
from workbench.cohort.phantom.scanners import available, scan, scan_map, shift
from workbench.seeding import stream

OPTIONS = PhantomOptions()


def test_scanner_noise_is_rician_and_outside_is_nothing() -> None:
    box = field_of_view(3.0)
    brain = np.zeros(box.shape, bool)
    brain[10:40, 10:50, 10:40] = True
    site = OPTIONS.sites["harbour"].model_copy(update={"noise": 0.2, "bias": 0.0})
    image = scan(stream(0, "noise"), np.zeros(box.shape, np.float32), brain, box, site, "t1")
    assert image.dtype == np.int16
    assert not image[~brain].any()
    assert image[brain].min() >= 1
    values = image[brain].astype(float)
    assert values.mean() / values.std() == pytest.approx(
        np.sqrt(np.pi / (4 - np.pi)), rel=0.05
    )  # Rayleigh where there is no signal


def test_thick_slices_blur_through_plane_only() -> None:
    box = field_of_view(2.0)
    brain = np.ones(box.shape, bool)
    quiet = OPTIONS.sites["harbour"].model_copy(update={"noise": 0.0, "bias": 0.0})
    point = np.full(box.shape, 0.2, np.float32)
    point[40, 50, 42] = 1.0
    thin, thick = (
        scan(stream(0, "same"), point, brain, box, quiet.model_copy(update={"thickness": t}), "t2").astype(float)
        for t in ({}, {"t2": 5.0})
    )
    background = np.median(thin)
    assert (thin[40, 50] > background * 1.1).sum() == 1
    assert (thick[40, 50] > background * 1.02).sum() >= 3
    assert (thick[:, 50, 42] > background * 1.02).sum() == 1


def test_missing_sequences_at_their_rate_and_never_all() -> None:
    site = OPTIONS.sites["harbour"].model_copy(update={"missing": {"t1": 0.25}})
    present = [available(stream(0, "scan", i), site) for i in range(600)]
    assert np.mean(["t1" not in p for p in present]) == pytest.approx(0.25, abs=0.07)
    nothing = site.model_copy(update={"missing": dict.fromkeys(MODALITIES, 1.0)})
    assert available(stream(0, "scan"), nothing) == ("t1c",)


def test_maps_are_quantitative() -> None:
    box = field_of_view(4.0)
    brain = np.zeros(box.shape, bool)
    brain[10:30, 10:30, 10:30] = True
    site = OPTIONS.sites["hill"]
    signal = np.full(box.shape, 0.5, np.float32)
    for modality, expected in (("adc", 1000), ("cbv", 250)):
        image = scan_map(stream(0, "map"), signal, brain, box, site, modality)
        assert image.dtype == np.int16
        assert not image[~brain].any()
        assert image[brain].mean() == pytest.approx(expected, rel=0.01)
        assert image[brain].std() == pytest.approx(site.noise * expected / 0.5, rel=0.05)


def test_a_map_that_is_asked_for_changes_no_sequence_s_presence() -> None:
    site = OPTIONS.sites["meadow"].model_copy(update={"missing": {"t2": 0.5, "adc": 0.5}})
    for index in range(40):
        plain = available(stream(0, "scan", index), site)
        more = available(stream(0, "scan", index), site, (*MODALITIES, "adc", "cbv"))
        assert tuple(name for name in more if name in MODALITIES) == plain
        assert "cbv" in more


def test_shift_is_in_millimetres() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[10, 10, 10] = 1
    assert shift(image, np.array([4.0, 0, -2.0]), 2.0)[12, 10, 9] == pytest.approx(1)

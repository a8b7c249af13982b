"""One subject from head to scan: the tumour does not depend on the output, sub-regions nest, contrasts have the right order."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from workbench.cohort.phantom.anatomy import field_of_view
from workbench.cohort.phantom.classes import draw_subject
from workbench.cohort.phantom.contrast import Scene, render
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import MODALITIES
from workbench.cohort.phantom.scanners import available, scan, shift
from workbench.cohort.phantom.subject import Head, draw_labels, make_head, make_scene
from workbench.labels import ED, ET, NCR
from workbench.seeding import stream

OPTIONS = PhantomOptions()


@cache
def head(kind: str) -> Head:
    subject = draw_subject(0, 7, OPTIONS, "normal")
    changes = {
        "mismatch": kind == "mismatch",
        "enhancement": "ring" if kind == "ring" else "none",
        "heterogeneous": kind == "heterogeneous",
    }
    return make_head(0, 7, OPTIONS, "normal", replace(subject, volume=20.0, width=2.3, **changes))


@cache
def scene(kind: str, spacing: float = 3.0) -> Scene:
    return make_scene(head(kind), field_of_view(spacing), stream(0, "texture"))


def drawn(kind: str, spacing: float) -> np.ndarray:
    box = field_of_view(spacing)
    return draw_labels(head(kind).tumour, box, np.ones(box.shape, bool), OPTIONS.detect_t2)


def test_volume_is_the_one_drawn_at_any_spacing() -> None:
    assert head("ring").facts["grown_ml"] == pytest.approx(20, rel=0.003)
    for spacing in (1.5, 2.0, 3.0, 4.0):
        assert (drawn("ring", spacing) > 0).sum() * spacing**3 / 1000 == pytest.approx(20, rel=0.06)


def test_sub_regions_of_a_ring_nest() -> None:
    shares = {}
    for spacing in (1.5, 2.0, 3.0):
        labels = drawn("ring", spacing)
        shares[spacing] = [(labels == value).sum() / (labels > 0).sum() for value in (NCR, ED, ET)]
    assert np.allclose(shares[1.5], shares[2.0], atol=0.03)
    assert np.allclose(shares[1.5], shares[3.0], atol=0.05)
    assert min(shares[1.5]) > 0.05
    labels = drawn("ring", 1.5)
    beside = np.zeros_like(labels, bool)
    for axis in range(3):
        for step in (-1, 1):
            beside |= np.roll(labels == NCR, step, axis)
    assert (beside & (labels == 0)).sum() < 0.05 * (beside & (labels == ET)).sum()
    assert (beside & (labels == ET)).sum() > 5 * (beside & (labels == ED)).sum()


def test_signs_show_in_their_sequences() -> None:
    def mean(kind: str, modality: str, where: np.ndarray) -> float:
        return float(render(scene(kind), modality, head(kind).subject)[where].mean())

    necrosis, rim = scene("ring").necrosis > 0.9, drawn("ring", 3.0) == ET
    assert mean("ring", "t1c", rim) > mean("ring", "t1c", necrosis) + 0.4
    assert mean("ring", "t1", rim) < 0.75
    inside = scene("mismatch").interior > 0.95
    edge = (drawn("mismatch", 3.0) == ED) & (scene("mismatch").interior < 0.1) & (scene("mismatch").concentration > 0.3)
    edge &= scene("mismatch").grey + scene("mismatch").white > 0.95
    assert mean("mismatch", "t2", inside) > mean("mismatch", "flair", inside) + 0.5
    assert mean("mismatch", "flair", edge) > mean("mismatch", "flair", inside) + 0.3
    plain, spotted = (render(scene(kind), "t2", head(kind).subject) for kind in ("plain", "heterogeneous"))
    solid = scene("plain").core > 0.9
    assert spotted[solid].std() > 2 * plain[solid].std()


def test_healthy_contrast_has_the_right_order() -> None:
    here = scene("plain")
    away = here.concentration < 1e-3
    places = {
        "grey": away & (here.grey > 0.93),
        "white": away & (here.white > 0.97),
        "fluid": away & (here.fluid > 0.8) & (here.brain > 0.95),
    }
    mean = {m: {name: render(here, m, head("plain").subject)[place].mean() for name, place in places.items()} for m in MODALITIES}
    for modality in ("t1", "t1c"):
        assert mean[modality]["fluid"] < mean[modality]["grey"] - 0.15 < mean[modality]["white"] - 0.3
    assert mean["t2"]["white"] < mean["t2"]["grey"] - 0.08 < mean["t2"]["fluid"] - 0.4
    assert mean["flair"]["fluid"] < mean["flair"]["white"] - 0.15 < mean["flair"]["grey"] - 0.2


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


def test_shift_is_in_millimetres() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[10, 10, 10] = 1
    assert shift(image, np.array([4.0, 0, -2.0]), 2.0)[12, 10, 9] == pytest.approx(1)

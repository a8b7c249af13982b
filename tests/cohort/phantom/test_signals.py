"""Each mode changes what it says and nothing else: the same head rendered with and without its carrier, voxel by voxel."""

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
from workbench.cohort.phantom.signals import apply_carrier
from workbench.cohort.phantom.subject import Head, draw_labels, make_cases, make_head, make_scene
from workbench.labels import ED
from workbench.seeding import stream

OPTIONS = PhantomOptions()
BOX = field_of_view(3.0)


@cache
def head(signal: str, carrier: bool) -> Head:
    subject = draw_subject(0, 30, OPTIONS, signal)
    subject = replace(subject, volume=14.0, width=2.5, mismatch=False, enhancement="patchy", heterogeneous=False, carrier=carrier)
    return make_head(0, 30, OPTIONS, signal, subject)


@cache
def scene(signal: str, carrier: bool) -> Scene:
    return make_scene(head(signal, carrier), BOX, stream(0, "texture"))


@cache
def images(signal: str, carrier: bool) -> dict[str, np.ndarray]:
    subject = head(signal, carrier).subject
    return {m: apply_carrier(render(scene(signal, carrier), m, subject), scene(signal, carrier).extra, m) for m in MODALITIES}


@cache
def labels(signal: str) -> np.ndarray:
    found = head(signal, True)
    everywhere = np.ones(BOX.shape, bool)
    return draw_labels(found.tumour, BOX, everywhere, OPTIONS.detect_t2)


def changes(signal: str) -> dict[str, np.ndarray]:
    return {m: images(signal, True)[m] - images(signal, False)[m] for m in MODALITIES}


@pytest.mark.parametrize(
    ("signal", "changed"),
    [("mismatch", {"t2", "flair"}), ("t1c_texture", {"t1c"}), ("regional", {"t1c", "flair"}), ("focus", set(MODALITIES))],
)
def test_the_carrier_changes_its_sequences_inside_the_tumour_only(signal: str, changed: set[str]) -> None:
    tumour = labels(signal) > 0
    assert np.array_equal(draw_labels(head(signal, False).tumour, BOX, np.ones(BOX.shape, bool), 0.16), labels(signal))
    for modality, change in changes(signal).items():
        if modality in changed:
            assert np.abs(change[tumour]).max() > 0.1
            assert np.square(change[~tumour]).sum() < 0.02 * np.square(change).sum()
        else:
            assert not change.any(), modality


def test_mismatch_is_in_the_difference_and_not_in_the_mean() -> None:
    change = changes("mismatch")
    inside = scene("mismatch", True).extra["inside"] > 0.97
    difference, mean = change["t2"] - change["flair"], (change["t2"] + change["flair"]) / 2
    assert difference[inside].mean() == pytest.approx(2 * OPTIONS.difference_effect, rel=0.02)
    assert np.abs(mean).max() < 1e-5
    shown = images("mismatch", True)
    assert (shown["t2"] - shown["flair"])[inside].mean() == pytest.approx(OPTIONS.difference_effect, abs=0.02)


def test_texture_has_another_grain_but_equal_mean_and_spread() -> None:
    maps = {carrier: head("t1c_texture", carrier).tumour for carrier in (True, False)}
    steps = {}
    for carrier, tumour in maps.items():
        texture = tumour.extra["t1c"]
        inside = np.abs(texture) > 0
        assert texture[inside].mean() == pytest.approx(0, abs=0.03)
        core = tumour.core > 0.9
        steps[carrier] = np.diff(texture, axis=0)[core[1:]].std() / texture[core].std()
    spreads = [maps[carrier].extra["t1c"][maps[carrier].extra["t1c"] != 0].std() for carrier in (True, False)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.15)
    assert steps[True] > 1.8 * steps[False]


def test_regional_is_read_from_flair_in_the_oedema_and_from_t1c_in_the_core() -> None:
    change, part = changes("regional"), labels("regional")
    effect = 2 * OPTIONS.regional_effect
    solid = scene("regional", True).core > 0.98
    assert change["t1c"][solid].mean() == pytest.approx(effect, rel=0.1)
    assert np.abs(change["flair"][solid]).mean() < 0.05 * effect
    assert change["flair"][part == ED].mean() > 0.35 * effect
    distracting = head("regional", True).tumour.extra["flair"][head("regional", True).tumour.core > 0.98]
    assert np.abs(distracting).mean() == pytest.approx(OPTIONS.regional_effect, rel=0.1)


def test_focus_is_small_and_turns_its_sign() -> None:
    up, down = (head("focus", carrier).tumour.extra["focus"] for carrier in (True, False))
    assert np.array_equal(up, -down)
    assert up.max() == pytest.approx(OPTIONS.focus_effect)
    volume = (up > OPTIONS.focus_effect / 2).sum() * head("focus", True).tumour.box.spacing ** 3
    assert volume == pytest.approx(4 / 3 * np.pi * OPTIONS.focus_radius**3, rel=0.1)


@pytest.mark.slow
def test_idh_is_read_from_the_tumours_t2_minus_flair_and_from_nothing_else() -> None:
    """Whole images, scanners and all: a threshold on one mean separates; the same on other things does not."""
    from sklearn.metrics import roc_auc_score

    plain = {name: site.model_copy(update={"missing": {}}) for name, site in OPTIONS.sites.items()}
    options = OPTIONS.model_copy(update={"sites": plain})
    rows = []
    for index in range(60):
        (case,) = make_cases(3, index, 3.0, options, "mismatch")
        subject = draw_subject(3, index, options, "mismatch")
        tumour, healthy = case.labels > 0, (case.labels == 0) & (case.images["t2"] > 0)
        scaled = {
            m: (case.images[m][tumour].mean() - case.images[m][healthy].mean()) / case.images[m][healthy].std()
            for m in MODALITIES
        }
        rows.append(
            [
                subject.idh,
                scaled["t2"] - scaled["flair"],
                scaled["t1"],
                scaled["t1c"],
                tumour.sum(),
                case.facts["seed_y"],
                subject.age,
            ]
        )
    idh, difference, *others = np.array(rows, float).T
    assert roc_auc_score(idh, difference) > 0.9
    for values in others:
        assert 0.25 < roc_auc_score(idh, values) < 0.75

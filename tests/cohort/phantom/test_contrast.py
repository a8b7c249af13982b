"""From tissue to signal: signs show in their sequences, healthy tissue has the right order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from grown_heads import drawn, head, scene

from workbench.cohort.phantom.contrast import render
from workbench.cohort.phantom.populations import MODALITIES
from workbench.labels import ED, ET


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


def test_maps_follow_the_level_in_the_solid_tumour_and_nowhere_else() -> None:
    here, subject = scene("plain"), head("plain").subject
    solid, away = here.core > 0.95, here.concentration < 1e-3
    for modality, low, high in (("adc", 1.0, 1.6), ("cbv", 1.2, 3.6)):
        one, two = (render(here, modality, replace(subject, **{modality: level})) for level in (low, high))
        assert np.array_equal(one[away], two[away])
        assert two[solid].mean() / one[solid].mean() == pytest.approx(high / low, rel=0.12)
        for image, level in ((one, low), (two, high)):
            assert image[solid].mean() * {"adc": 2.0, "cbv": 5.0}[modality] == pytest.approx(level, rel=0.15)
        unknown = render(here, modality, replace(subject, **{modality: None}))
        assert one[solid].mean() < unknown[solid].mean() < two[solid].mean()
    assert np.array_equal(render(here, "t2", subject), render(here, "t2", replace(subject, adc=2.0, cbv=5.0)))


def test_necrosis_diffuses_freely_and_holds_no_blood() -> None:
    here, subject = scene("ring"), replace(head("ring").subject, adc=1.1, cbv=3.2)
    necrosis, rim = here.necrosis > 0.9, drawn("ring", 3.0) == ET
    adc, cbv = (render(here, modality, subject) for modality in ("adc", "cbv"))
    assert adc[necrosis].mean() > 1.4 * adc[rim].mean()
    assert cbv[necrosis].mean() < 0.4 * cbv[rim].mean()


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

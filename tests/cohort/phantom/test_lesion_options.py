"""Options of the lesion phantoms that cannot be are refused by name."""

from __future__ import annotations

import pytest

from workbench.cohort.phantom.lesion_options import KINDS, SEQUENCES, KindOptions, LesionOptions, LesionSite
from workbench.errors import ParameterError


def test_the_defaults_are_allowed_and_are_settings_of_a_folder() -> None:
    options = LesionOptions.build()
    assert tuple(options.kinds) == KINDS
    assert {name for kind in options.kinds.values() for name in kind.sequences} == set(SEQUENCES)
    assert sum(site.share for site in options.sites.values()) == pytest.approx(1.0)
    settings = options.settings()
    assert settings["glioma"] == options.glioma.settings()
    assert settings["met_counts"]["10"] == 0.03, "plain JSON: keys are text"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kinds": {}}, "kinds: must be ms, wmh"),
        ({"sites": {}}, "sites: at least one"),
        ({"stroke_territories": {"mca": 0.5, "ica": 0.5}}, r"stroke_territories: unknown \['ica'\]; there are aca"),
        ({"met_places": {}}, "met_places: the rates must be 0 or more and add up to 1"),
        ({"met_counts": {1: 0.5, 41: 0.5}}, "met_counts: numbers must be 1 to 40"),
        ({"wmh_volume_range": (80.0, 0.4)}, "wmh_volume_range: must be two rising numbers above 0, is 80, 0.4"),
    ],
)
def test_what_cannot_be_is_named(values: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        LesionOptions.build(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sequences": {}}, "sequences: found none"),
        ({"sequences": {"pet": 1.0}}, r"sequences: found \['pet'\]; there are t1"),
        ({"ages": (70.0, 18.0)}, "ages: must rise"),
    ],
)
def test_a_kind_that_cannot_be_is_named(values: dict, message: str) -> None:
    plain = LesionOptions().kinds["ms"].model_dump()
    with pytest.raises(ParameterError, match=message):
        KindOptions.build(**{**plain, **values})


def test_a_site_may_see_none_of_a_kind_and_has_dwi() -> None:
    assert LesionSite.build(share=0.5, mix={"ms": 0.0}, missing={"adc": 0.5}).mix == {"ms": 0.0}
    with pytest.raises(ParameterError, match="mix: factors must be 0 or more"):
        LesionSite.build(share=0.5, mix={"ms": -1.0})
    with pytest.raises(ParameterError, match=r"mix: unknown \['oligodendroglioma'\]"):
        LesionSite.build(share=0.5, mix={"oligodendroglioma": 1.0})

"""Who is in a phantom cohort: shares that add up, four hospitals that differ, and options refused by name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workbench.cohort.phantom.populations import (
    CLASSES,
    LAYERED,
    LOBES,
    MODALITIES,
    ClassOptions,
    SiteOptions,
    four_sites,
    published_classes,
)
from workbench.errors import ParameterError


def test_the_classes_are_those_of_who_2021() -> None:
    """IDH and 1p/19q are what defines them."""
    classes = published_classes()
    assert tuple(classes) == CLASSES
    assert [(one.idh, one.codel) for one in classes.values()] == [(1, 1), (1, 0), (0, 0)]
    assert sum(one.share for one in classes.values()) == pytest.approx(1.0)
    assert classes["oligodendroglioma"].grades.get(4, 0) == 0
    assert classes["glioblastoma"].grades[4] == 1.0
    assert set(LAYERED) < set(LOBES)


def test_the_sites_differ_and_share_all_subjects() -> None:
    sites = four_sites()
    assert sum(site.share for site in sites.values()) == pytest.approx(1.0)
    assert len({(site.noise, site.bias, site.label_noise) for site in sites.values()}) == 4
    assert max(sites.values(), key=lambda site: site.noise) is sites["external"]
    assert not any("t1c" in site.missing for site in sites.values()), "what is kept where all would be missing"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grades": {2: 0.5, 3: 0.4}}, "grades: the rates must be 0 or more and add up to 1, they add up to 0.9"),
        ({"grades": {1: 1.0}}, r"grades: must be 2, 3 or 4, there is \[1\]"),
        ({"lobes": {"frontal": 1.5, "deep": -0.5}}, "lobes: the rates must be 0 or more"),
        ({"lobes": {"pineal": 1.0}}, r"lobes: unknown \['pineal'\]; there are frontal"),
        ({"tert": 1.5}, "phantom option tert: "),
        ({"colour": "red"}, "phantom option 'colour' is unknown; there are: share, idh"),
    ],
)
def test_a_class_that_cannot_be_is_named(values: dict, message: str) -> None:
    plain = published_classes()["astrocytoma"].model_dump()
    assert ClassOptions.build(**plain) == published_classes()["astrocytoma"]
    with pytest.raises(ParameterError, match=message):
        ClassOptions.build(**{**plain, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"missing": {"dwi": 0.1}}, rf"missing: unknown \['dwi'\]; there are {', '.join(MODALITIES)}"),
        ({"mix": {"ependymoma": 1.0}}, r"mix: unknown \['ependymoma'\]"),
        ({"mix": {"glioblastoma": 0.0}}, "mix: factors must be above 0"),
        ({"noise": 0.9}, "phantom option noise: "),
    ],
)
def test_a_site_that_cannot_be_is_named(values: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        SiteOptions.build(share=0.5, **values)


def test_options_cannot_be_changed() -> None:
    site = SiteOptions(share=0.5)
    with pytest.raises(ValidationError, match="frozen"):
        site.noise = 0.1  # type: ignore[misc]

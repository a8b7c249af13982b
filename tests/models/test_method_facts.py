"""What the facts of the methods must keep: the ids of runs that lie in people's folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.models.catalogue import FACTS
from workbench.models.options import OPTIONS, recorded_parameters
from workbench.records.spec import run_id
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.sizes import size_defaults

RUN_IDS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("run_ids.json").read_text())
"""Method -> size -> the id that a run with nothing else set had on a cohort of fingerprint 0000000000000000, when the method had
no options but those that its record names (`MethodOptions.later`, `earlier`)."""

ANOTHER: dict[str, tuple[str, ...]] = {"mmformer": ("demo", "paper"), "brainfm_pretrain": ("paper",), "amaes_pretrain": ()}
"""Methods with an `earlier` option, and the sizes at which it changes what is computed."""


@pytest.mark.parametrize("method", RUN_IDS)
@pytest.mark.parametrize("size", ["demo", "paper"])
def test_a_run_keeps_its_id(method: str, size: str) -> None:
    """An option or another default that changes an id orphans every run so far: see `MethodOptions.later` and `earlier`."""
    resolved = ExperimentParameters.build(method, recorded_parameters(method, {"size": size})).resolve()
    assert run_id(resolved.identity(), "0" * 16) == RUN_IDS[method][size]


@pytest.mark.parametrize("size", ["demo", "paper"])
def test_what_a_method_does_otherwise_than_before_has_another_id(size: str) -> None:
    """E.g. mmFormer's fusions mirrored their borders: a run that pads them with zeros is not that run gone on with."""
    assert set(ANOTHER) == {method for method in RUN_IDS if OPTIONS[method].earlier}
    for method, sizes in ANOTHER.items():
        resolved = ExperimentParameters.build(method, {"size": size}).resolve()
        assert (run_id(resolved.identity(), "0" * 16) != RUN_IDS[method][size]) == (size in sizes)
        again = ExperimentParameters.build(method, recorded_parameters(method, resolved.identity())).resolve()
        assert again.identity() == resolved.identity()


@pytest.mark.parametrize("method", FACTS)
def test_a_size_names_parameters_and_options_that_there_are(method: str) -> None:
    facts = FACTS[method]
    shared = set(ExperimentParameters.model_fields)
    assert set(facts.demo) <= shared | set(facts.options.model_fields)
    assert set(facts.paper) <= shared
    for size in ("demo", "paper"):
        assert set(size_defaults(method, size)) <= shared

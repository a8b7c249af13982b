"""What the facts of the methods must keep: the ids of runs that lie in people's folders."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from workbench.contracts import PRETRAINING
from workbench.models.catalogue import FACTS
from workbench.records.spec import run_id
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.sizes import size_defaults

RUN_IDS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("run_ids.json").read_text())
"""Method -> size -> the id that a run with nothing else set has on a cohort of fingerprint 0000000000000000."""


@pytest.mark.parametrize("method", RUN_IDS)
@pytest.mark.parametrize("size", ["demo", "paper"])
def test_a_run_keeps_its_id(method: str, size: str) -> None:
    """An option or another default that changes an id orphans every run so far: see `MethodOptions.later`."""
    resolved = ExperimentParameters.build(method, {"size": size}).resolve()
    assert run_id(resolved.identity(), "0" * 16) == RUN_IDS[method][size]


@pytest.mark.parametrize(
    "method", [name for name, facts in FACTS.items() if facts.builder and PRETRAINING not in facts.card.tasks]
)
def test_a_card_says_whether_the_training_itself_hides_sequences(method: str) -> None:
    module, name = FACTS[method].builder.split(":")
    assert bool(FACTS[method].card.hides) == getattr(import_module(module), name).draws_subsets


@pytest.mark.parametrize("method", FACTS)
def test_a_size_names_parameters_and_options_that_there_are(method: str) -> None:
    facts = FACTS[method]
    shared = set(ExperimentParameters.model_fields)
    assert set(facts.demo) <= shared | set(facts.options.model_fields)
    assert set(facts.paper) <= shared
    for size in ("demo", "paper"):
        assert set(size_defaults(method, size)) <= shared

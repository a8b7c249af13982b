"""What the facts of the methods must keep: the ids of runs that lie in people's folders."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from workbench.contracts import PRETRAINING
from workbench.models.catalogue import FACTS
from workbench.records.spec import run_id
from workbench.setup.parameters import ExperimentParameters, as_recorded
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


EARLIER = {"mmformer": {"demo": "04712b9a7e81", "paper": "843f2101d10b"}, "brainfm_pretrain": {"paper": "1c98fdadbda6"}}
"""Ids as in `RUN_IDS` of methods that compute something else by default since: of the runs before that."""


@pytest.mark.parametrize(("method", "size"), [(method, size) for method, sizes in EARLIER.items() for size in sizes])
def test_a_run_of_before_is_what_it_was(method: str, size: str) -> None:
    """E.g. mmFormer's fusions mirrored their borders: its record does not say so, and is read so (`MethodOptions.before`)."""
    earlier = ExperimentParameters.build(method, as_recorded(method, {"size": size})).resolve()
    assert run_id(earlier.identity(), "0" * 16) == EARLIER[method][size] != RUN_IDS[method][size]
    for parameters in (earlier, ExperimentParameters.build(method, {"size": size}).resolve()):
        again = ExperimentParameters.build(method, as_recorded(method, parameters.identity())).resolve()
        assert again.identity() == parameters.identity()


@pytest.mark.parametrize("method", FACTS)
def test_a_size_names_parameters_and_options_that_there_are(method: str) -> None:
    facts = FACTS[method]
    shared = set(ExperimentParameters.model_fields)
    assert set(facts.demo) <= shared | set(facts.options.model_fields)
    assert set(facts.paper) <= shared
    for size in ("demo", "paper"):
        assert set(size_defaults(method, size)) <= shared

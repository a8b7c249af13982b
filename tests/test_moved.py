"""Imports of old places: each fails with the new one, which is there."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from workbench.moved import moved_from, places

MODULES = {old: new for old, new in places().items() if ":" not in old}


def test_every_new_place_is_there() -> None:
    assert len(MODULES) > 100
    assert not [new for new in set(places().values()) if importlib.util.find_spec(new.partition(",")[0]) is None]


NAMES = {old: new for old, new in places().items() if ":" in old and not old.endswith(":*")}


@pytest.mark.parametrize("old", sorted(NAMES))
def test_every_name_is_in_its_new_place(old: str) -> None:
    module, _, name = NAMES[old].partition(", as ")
    assert hasattr(importlib.import_module(module), name or old.partition(":")[2])


@pytest.mark.parametrize("old", sorted(MODULES))
def test_an_old_module_is_refused_with_its_new_place(old: str) -> None:
    with pytest.raises(ModuleNotFoundError) as refused:
        importlib.import_module(old)
    assert f"{old} was moved: import it from {MODULES[old]}" in str(refused.value)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("from workbench.experiments import sizes", "import it from workbench.setup.sizes"),
        ("from workbench.experiments.robustness import robustness_of", "(robustness_of: workbench.experiments.reopening)"),
        ("from workbench.experiments.experiment import TRAINING_FILE", "import it from workbench.records.run_folder"),
        ("from workbench.experiments.radiomics_refit import predict_radiomics", "from workbench.experiments.application"),
        ("from workbench.experiments.starting import fallbacks", "fallbacks: workbench.setup.setup_notes, as fallback_notes"),
        ("from workbench.views.theme import cohort_title", "import it from workbench.cohort.table"),
        ("from workbench.models.mome import MoME", "import it from workbench.models.mome.mome"),
        ("from workbench.models.pretrained import Coverage", "import it from workbench.models.pretrained.coverage"),
    ],
)
def test_so_is_a_name(statement: str, told: str) -> None:
    with pytest.raises(ImportError) as refused:
        exec(statement)
    assert told in str(refused.value)


def test_what_never_was_there_is_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'workbench\.experiments\.nowhere'"):
        importlib.import_module("workbench.experiments.nowhere")
    assert not hasattr(importlib.import_module("workbench.models.mome"), "nothing_of_that_name")
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        moved_from("workbench.views.theme")("anything")


def test_what_the_package_offers_stays() -> None:
    import workbench

    for name in workbench.__all__:
        assert getattr(workbench, name) is not None

"""Every fold of a cohort, one after the other: what a failing or cancelled fold does to the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.execution import cross_validation
from workbench.execution.cross_validation import cross_validate


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Runs that are only noted; `ends` says how some of them end instead."""
    noted = SimpleNamespace(folds=[], pooled=[], ends={}, state={})

    def run_notebook(method: str, values: dict, **_: object) -> str:
        noted.folds.append(values["fold"])
        if values["fold"] in noted.ends:
            noted.state["now"] = noted.ends[values["fold"]]
            raise RunError(f"it ended {noted.ends[values['fold']]}")
        return f"run of fold {values['fold']}"

    def open_run(parameters: object, **_: object) -> tuple[None, SimpleNamespace]:
        return None, SimpleNamespace(status=noted.state | {"state": noted.ends.get(parameters.fold, "completed")})

    monkeypatch.setattr(cross_validation, "run_notebook", run_notebook)
    monkeypatch.setattr(cross_validation, "open_run", open_run)
    monkeypatch.setattr(cross_validation, "pool", lambda runs, **_: noted.pooled.append(runs) or "pooled")
    return noted


@pytest.fixture(scope="module")
def values(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("cv")
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.folder)})
    make_folds(Cohort.create(folder / "cohort", info, tiny_cohort.cases), folds=3)
    return {"cohort": str(folder / "cohort"), "runs": str(folder / "runs"), "size": "demo"}


def test_all_folds_are_run_and_pooled(started: SimpleNamespace, values: dict[str, object]) -> None:
    said: list[str] = []
    assert cross_validate("unet", values, progress=False, say=said.append) == "pooled"
    assert started.folds == [0, 1, 2]
    assert started.pooled == [["run of fold 0", "run of fold 1", "run of fold 2"]]
    assert said == ["fold 0 of 3", "fold 1 of 3", "fold 2 of 3"]


def test_a_failing_fold_does_not_stop_the_others_and_is_named(started: SimpleNamespace, values: dict[str, object]) -> None:
    started.ends[1] = "failed"
    with pytest.raises(RunError, match=r"2 of 3 folds of unet are completed(?s:.*)fold 1: it ended failed"):
        cross_validate("unet", values, progress=False)
    assert started.folds == [0, 1, 2]
    assert not started.pooled


@pytest.mark.parametrize("state", ["cancelled", "interrupted"])
def test_who_stops_a_fold_wants_the_machine_back(started: SimpleNamespace, values: dict[str, object], state: str) -> None:
    started.ends[0] = state
    with pytest.raises(RunError, match="the folds after it were not started"):
        cross_validate("unet", values, progress=False)
    assert started.folds == [0]


def test_wrong_parameters_stop_before_the_first_fold(started: SimpleNamespace, values: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'wdth' is unknown"):
        cross_validate("unet", values | {"wdth": 4}, progress=False)
    assert started.folds == []

"""The HoloViews objects of a run: which there are, before and after it is evaluated."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from workbench.reports import run_figures as module
from workbench.reports.run_figures import run_figures


@pytest.fixture
def setup_of(fabricate: ModuleType, tmp_path: Path) -> Any:
    cases = fabricate.make_cases(test=12, validation=6, train=0, external=0)
    run = fabricate.make_run(tmp_path, "e", "unet", "completed", seed=1, cases=cases, subsets=False)
    info = SimpleNamespace(name="demo", phantom=True)
    parameters = SimpleNamespace(method="unet", fold=0, resamples=100)
    return SimpleNamespace(run=run, cohort=SimpleNamespace(info=info), parameters=parameters)


def test_dice_is_shown_of_the_test_cases_once_there_are_some(setup_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(module, "metric_distribution", lambda rows, summary, **how: given.append((rows, summary, how)) or "plot")
    assert run_figures(setup_of)["dice"] == "plot"
    rows, summary, how = given[0]
    (name,) = rows
    assert name == f"unet {setup_of.run.folder.name[:6]}"
    assert set(rows[name]["split"]) == {"test"}
    assert set(rows[name]["metric"]) == {how["metric"]} == {"dice"}
    wanted = rows[name].query("region == 'WT'")["value"].mean()
    assert summary[name].set_index("region").loc["WT", "value"] == pytest.approx(wanted)
    assert how["subtitle"] == "phantom cohort demo, fold 0"
    assert set(how["regions"]) == {"WT", "TC", "ET", "ED", "NCR"}


def test_before_that_there_are_the_curves_of_the_training(setup_of: Any) -> None:
    setup_of.run.path("metrics.parquet").unlink()
    assert set(run_figures(setup_of)) == {"loss", "score"}

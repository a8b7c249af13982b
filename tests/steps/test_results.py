"""The summary tables of a run: numbers from its long tables, or a refusal."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from workbench.errors import RunError
from workbench.records.run_folder import RunFolder
from workbench.steps.results import results_of


@pytest.fixture
def run(fabricate: ModuleType, tmp_path: Path) -> RunFolder:
    cases = fabricate.make_cases(test=12, validation=0, train=0, external=0)
    return fabricate.make_run(tmp_path, "e", "unet", "completed", seed=1, cases=cases, subsets=False)


def test_an_evaluated_run_has_both_tables(run: RunFolder) -> None:
    found = results_of(run, 100)
    metrics = run.metrics()
    dice = metrics[(metrics["region"] == "WT") & (metrics["metric"] == "dice")]["value"]
    row = found["segmentation"].query("region == 'WT' and metric == 'dice'").iloc[0]
    assert (row["mean"], row["n"], row["split"]) == (pytest.approx(dice.mean()), 12, "test")
    assert set(found["markers"]["marker"]) == {"idh", "codel", "tert", "grade"}


def test_a_method_without_markers_has_an_empty_table(run: RunFolder) -> None:
    run.path("markers.parquet").unlink()
    assert results_of(run, 100)["markers"].empty


def test_a_run_that_is_not_evaluated_has_none(run: RunFolder) -> None:
    run.path("metrics.parquet").unlink()
    with pytest.raises(RunError, match=r"is not evaluated yet: call \.evaluate\(\)"):
        results_of(run, 100)

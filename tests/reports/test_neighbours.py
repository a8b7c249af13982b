"""A run beside the others of its experiment: only those of the same question, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from IPython.display import Markdown

from workbench.files import write_json, write_parquet
from workbench.records.run_folder import RunFolder
from workbench.reports.neighbours import comparison_table, neighbours


@pytest.fixture
def cases(fabricate: ModuleType) -> pd.DataFrame:
    return fabricate.make_cases(test=30, validation=0, train=0, external=0)


@pytest.fixture
def run(fabricate: ModuleType, cases: pd.DataFrame, tmp_path: Path) -> RunFolder:
    return fabricate.make_run(tmp_path, "e", "unet", "completed", seed=1, cases=cases, subsets=False)


def setup_of(run: RunFolder) -> Any:
    info = SimpleNamespace(name="demo", phantom=True)
    parameters = SimpleNamespace(experiment="e", fold=0, resamples=100, method=run.spec["method"])
    return SimpleNamespace(run=run, cohort=SimpleNamespace(info=info), parameters=parameters)


def test_neighbours_are_evaluated_runs_of_the_same_cohort_and_fold(
    run: RunFolder, fabricate: ModuleType, cases: pd.DataFrame, tmp_path: Path
) -> None:
    def beside(method: str, seed: int, state: str = "completed", experiment: str = "e", **given: Any) -> RunFolder:
        return fabricate.make_run(tmp_path, experiment, method, state, seed=seed, cases=cases, given=given, subsets=False)

    assert neighbours(run) == []
    later, first = beside("unet", 2), beside("mts_unet", 1)
    beside("unet", 3, "failed")
    beside("unet", 4, fold=1)
    beside("unet", 5, experiment="other")
    changed = beside("unet", 6)
    cohort = changed.spec["cohort"] | {"fingerprint": "0" * 16}
    write_json(changed.path("spec.json"), dict(changed.spec) | {"cohort": cohort})
    (tmp_path / "e" / "broken").mkdir()
    (tmp_path / "e" / "broken" / "spec.json").write_text("{")
    assert [other.folder for other in neighbours(run)] == [first.folder, later.folder], "by method"


def test_without_a_neighbour_it_says_how_to_get_one(run: RunFolder) -> None:
    found = comparison_table(setup_of(run))
    assert isinstance(found, Markdown)
    assert "No other evaluated run on phantom cohort demo in experiment `e`, fold 0" in found.data


def test_differences_are_this_run_minus_the_other(
    run: RunFolder, fabricate: ModuleType, cases: pd.DataFrame, tmp_path: Path
) -> None:
    """Of a marker that is not estimable one row is enough."""
    other = fabricate.make_run(tmp_path, "e", "mts_unet", "completed", seed=2, cases=cases, skill=2.0, subsets=False)
    for made in (run, other):
        metrics, markers = made.metrics(), made.markers()
        write_parquet(made.path("metrics.parquet"), metrics[(metrics["region"] == "WT") & (metrics["metric"] == "dice")])
        write_parquet(made.path("markers.parquet"), markers[markers["marker"] == "codel"])
    table = comparison_table(setup_of(run))
    assert isinstance(table, pd.DataFrame)
    mine, its = (made.metrics().query("region == 'WT' and metric == 'dice'")["value"].mean() for made in (run, other))
    row = table.xs("WT", level="of").xs("Dice", level="metric").iloc[0]
    assert (row["this run"], row["the other"], row["n"]) == (f"{mine:.3f}", f"{its:.3f}", 30)
    assert row["difference"].startswith(f"{mine - its:.2f}")
    unknown = table.xs("codel co-deleted", level="of")
    assert unknown["this run"].tolist() == ["not estimable"]
    assert table.columns.name == "unet on phantom cohort demo, test"


def test_what_cannot_be_compared_is_said_with_its_reason(run: RunFolder, fabricate: ModuleType, tmp_path: Path) -> None:
    fewer = fabricate.make_cases(test=12, validation=0, train=0, external=0)
    other = fabricate.make_run(tmp_path, "e", "mts_unet", "completed", seed=2, cases=fewer, subsets=False)
    found = comparison_table(setup_of(run))
    assert isinstance(found, Markdown)
    assert found.data.startswith(f"- Not compared with mts_unet {other.folder.name}: ")

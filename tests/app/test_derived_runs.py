"""The pages read pooled and imported runs like any other, and say what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from app.cases import CasesPage
from app.curves import CurvesPage
from app.overview import OverviewPage
from app.robustness import RobustnessPage
from app.state import AppState
from app.store import Store
from workbench.cohort.table import Cohort
from workbench.experiments.pooling import pool
from workbench.files import read_json, write_json, write_parquet
from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="module")
def runs(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, str]:
    """A pooled run of three folds, and the same tables as if they had been imported."""
    root = tmp_path_factory.mktemp("derived") / "runs"
    pooled = pool(fabricate.make_fold_runs(root, cases=fabricate.fold_cases(subjects=75)))
    theirs = Path(shutil.copytree(pooled.folder, root / "cv" / "eeeeeeeeeeee"))
    spec = read_json(theirs / "spec.json")
    derived = {"kind": "imported", "parents": []}
    write_json(
        theirs / "spec.json", spec | {"run": theirs.name, "method": "external", "title": "nnU-Net <v2>", "derived": derived}
    )
    status = read_json(theirs / "status.json")
    write_json(theirs / "status.json", {k: v for k, v in status.items() if k != "budget"} | {"notes": ["made elsewhere"]})
    return Store(root), f"cv/{pooled.folder.name}", f"cv/{theirs.name}"


def test_the_overview_says_what_a_run_was_made_from(runs: tuple[Store, str, str]) -> None:
    store, pooled, theirs = runs
    page = OverviewPage(AppState(runs=[pooled, theirs], run=pooled), store)
    cells = page.table.value["Run"]
    assert "mts_unet (3 folds)" in cells[pooled]
    assert "nnU-Net &lt;v2&gt;" in cells[theirs]
    assert page.table.value.loc[pooled, "Dice WT"].count("n = 75") == 1
    assert "each predicted by the fold that did not train on it" in page.inspection.facts.object
    assert "nnU-Net &lt;v2&gt; · eeeeee: made elsewhere" in page.comparison.notes.object
    page.state.run = theirs
    assert "predictions made elsewhere, imported" in page.inspection.facts.object


def test_the_default_comparison_has_each_imported_method(runs: tuple[Store, str, str]) -> None:
    store, pooled, theirs = runs
    rows, chosen = store.compared([])
    assert not chosen
    assert {row.run for row in rows} >= {theirs}
    assert len([row for row in rows if row.method == "mts_unet"]) == 1
    assert pooled in {row.run for row in store.runs()}


def test_curves_mark_no_threshold_that_is_no_folds_own(runs: tuple[Store, str, str]) -> None:
    store, pooled, _ = runs
    page = CurvesPage(AppState(page="curves", runs=[pooled], marker="idh"), store)
    assert "mts_unet (3 folds): every fold has a Youden threshold of its own" in page.notes.object
    assert not page.use_youden.visible
    assert page.figures.visible
    single = next(row.run for row in store.runs() if not row.derived)
    page.state.runs = [single]
    assert "Youden threshold 0." in page.notes.object
    assert page.use_youden.visible


def test_robustness_says_which_were_not_judged(runs: tuple[Store, str, str]) -> None:
    store, pooled, theirs = runs
    page = RobustnessPage(AppState(page="robustness", runs=[pooled, theirs]), store)
    assert "Not judged under subsets: " in page.notes.object
    assert "nnU-Net" in page.notes.object


def test_a_pooled_case_shows_the_numbers_of_its_split(
    tiny_cohort: Cohort, make_case_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    make_case_run(tiny_cohort, tmp_path)
    folder = next(tmp_path.rglob("spec.json")).parent
    name = folder.relative_to(tmp_path).as_posix()
    spec = read_json(folder / "spec.json")
    write_json(folder / "spec.json", spec | {"derived": {"kind": "pooled", "parents": ["a", "b"]}})
    metrics = pd.read_parquet(folder / "metrics.parquet")
    again = metrics[metrics["split"] == "test"].assign(split="validation", value=0.1234)
    write_parquet(folder / "metrics.parquet", pd.concat([metrics, again], ignore_index=True))
    case = str(again["case"].iloc[0])
    page = CasesPage(AppState(page="cases", run=name, case=case), Store(tmp_path))
    assert "<th>Dice</th>" in page.facts.object
    assert "0.123" not in page.facts.object
    assert not page.notice.visible
    page.state.param.update(split="validation", case=case)
    assert "0.123" in page.facts.object
    assert "the mask shown is that of the fold that tested it" in page.notice.object

"""Runs reviewed together: what stands in the pictures and tables of the robustness notebook."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import ParameterError
from workbench.reports.robustness_review import RobustnessReview


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fabricated runs: of three completed ones two were judged under subsets."""
    spec = importlib.util.spec_from_file_location("fabricate", Path(__file__).parents[1] / "fabricate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_runs(tmp_path_factory.mktemp("review"))


def test_two_runs_are_reviewed_together(runs: Path) -> None:
    review = RobustnessReview(runs)
    assert set(review.titles.values()) == {"unet", "mts_unet"}
    assert "phantom cohort demo" in review.overview().data
    assert "Unequal effort" in review.overview().data
    assert review.heatmap("dice:ET").data[:4] == b"\x89PNG"
    assert review.numbers("auc:idh:mutant").data[:4] == b"\x89PNG"
    table = review.table("dice:WT")
    assert list(table.columns) == ["n", *review.titles.values()]
    assert len(table) == 15
    assert (table.loc["T1", "n"], table.loc["T1 + T2", "n"]) == (24, 23), "one case has no T2"
    added = review.added("dice:WT")
    assert len(added) == 2 * 5
    assert "any sequence" in added.loc["unet"].index


def test_a_withheld_sequence_is_set_beside_runs_that_saw_it(runs: Path) -> None:
    review = RobustnessReview(runs)
    assert "withhold=flair" in review.withheld().data
    path = runs / review.rows[0].run / "spec.json"
    kept = path.read_text()
    spec = json.loads(kept)
    spec["parameters"]["withhold"] = "flair"
    path.write_text(json.dumps(spec))
    table = RobustnessReview(runs).withheld("dice:WT")
    path.write_text(kept)
    assert list(table["trained"]) == ["never saw it", "saw it"]
    first = table.iloc[0]
    assert first["all others"] != first["all with it"]
    assert first["all with it"].endswith("n 23")
    assert first["alone"].endswith("n 24")


def test_runs_that_were_judged_on_other_cases_say_so(runs: Path) -> None:
    review = RobustnessReview(runs)
    assert "same cases" not in review.overview().data
    path = runs / review.rows[0].run / "subset_metrics.parquet"
    markers = path.with_name("subset_markers.parquet")
    kept = path.read_bytes(), markers.read_bytes()
    few = sorted(pd.read_parquet(path)["case"].unique())[:6]
    for file in (path, markers):
        table = pd.read_parquet(file)
        table[table["case"].isin(few)].to_parquet(file)
    changed = RobustnessReview(runs)
    path.write_bytes(kept[0])
    markers.write_bytes(kept[1])
    title = changed.titles[changed.rows[0].run]
    assert f"Not judged on the same cases ({title} 6, " in changed.overview().data
    assert "6 of them in common" in changed.overview().data
    assert changed.table("dice:WT").loc["T1", "n"] == "6 to 24"


def test_what_is_not_there_is_said(runs: Path, tmp_path: Path) -> None:
    review = RobustnessReview(runs, split="external")
    assert "No run was judged by dice:WT" in review.heatmap().data
    assert "dice:WT" in review.table("dice:moon").data, "it says what there is"
    assert "external" in review.added().data
    empty = RobustnessReview(tmp_path)
    assert "workbench robustness" in empty.overview().data
    assert "nothing" in empty.heatmap().data
    assert RobustnessReview(runs, experiment="night").rows == []
    with pytest.raises(ParameterError, match="test and external"):
        RobustnessReview(runs, split="train")


def test_runs_of_another_cohort_and_damaged_tables_are_named_and_left_out(runs: Path) -> None:
    review = RobustnessReview(runs)
    newest, oldest = review.rows[-1], review.rows[0]
    path = runs / oldest.run / "spec.json"
    spec = json.loads(path.read_text())
    spec["cohort"]["fingerprint"] = "0" * 16
    path.write_text(json.dumps(spec))
    changed = RobustnessReview(runs)
    assert [row.run for row in changed.rows] == [newest.run]
    assert oldest.title in changed.overview().data
    (runs / newest.run / "subset_metrics.parquet").write_bytes(b"PAR1 no")
    broken = RobustnessReview(runs)
    assert newest.title in " ".join(broken.problems)

"""Any two or more runs beside each other: chosen by name, compared or refused, curves overlaid."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.records.sweep_plan import read_plan
from workbench.reports.ablation_review import Gallery
from workbench.reports.comparison_review import CompareReview


@pytest.fixture(scope="module")
def runs(sweep_runs: Path) -> dict[tuple[str, str, int, int], str]:
    return {(c.method, c.condition, c.fold, c.seed): c.run for c in read_plan(sweep_runs, "attention").cells}


@pytest.fixture(scope="module")
def review(sweep_runs: Path, runs: dict) -> CompareReview:
    chosen = [runs["unet", "baseline", 0, 1], runs["mts_unet", "baseline", 0, 1], runs["unet", "baseline", 1, 1]]
    return CompareReview(sweep_runs, ",".join(chosen), outcomes="dice,auc", resamples=40)


def test_pairs_on_other_patients_are_refused_and_the_others_compared(review: CompareReview) -> None:
    page = review.overview().data
    assert page.count("Refused: ") == 2
    assert "cases were judged in the first run only" in page
    assert "phantom cohort demo" in page
    table = review.table("dice")
    assert len(table) == 3
    assert (table["WT"] == "refused").sum() == 2
    assert len(review.shifts("dice")) == 1
    assert "first run minus second" in review.notes("auc").data
    assert "luck" in review.notes("auc").data
    assert "nothing" not in review.table("hd95").data
    assert "can be compared by hd95" in review.table("hd95").data


def test_forest_plot_and_overlaid_curves(review: CompareReview) -> None:
    forest = review.forest("auc:idh:mutant")
    assert isinstance(forest, Gallery)
    assert len(forest.figures[0].axes[0].get_yticklabels()) == 3
    curves = review.curves("grade:4")
    roc, calibration = curves.figures[0].axes
    assert len(roc.get_legend().get_texts()) == len(calibration.get_legend().get_texts()) == 3
    assert "AUC" in roc.get_legend().get_texts()[0].get_text()
    assert "not the same cases" in curves.figures[0].texts[0].get_text()
    assert "predicts mgmt" in review.curves("mgmt").data


def test_runs_are_found_by_the_first_letters_of_their_id(sweep_runs: Path, runs: dict) -> None:
    first, second = runs["unet", "baseline", 0, 1], runs["unet", "no_attention", 0, 1]
    review = CompareReview(sweep_runs, f"{first.split('/')[1][:9]}, {second}", outcomes="dice", resamples=20)
    assert [row.run for row in review.rows] == [first, second]
    assert review.deltas.family == 5
    title = review.curves("idh").figures[0].texts[0].get_text()
    assert "same cases" not in title
    assert "pooled" not in title
    name, table = next(iter(review.markers.items()))
    review.markers[name] = table.assign(fold=table.groupby(["marker", "class"]).cumcount() % 2)
    assert "pooled folds" in review.curves("idh").figures[0].texts[0].get_text()


def test_without_a_choice_the_newest_of_each_method(sweep_runs: Path) -> None:
    review = CompareReview(sweep_runs, outcomes="dice", resamples=20)
    assert sorted(row.method for row in review.rows) == ["mts_unet", "unet"]


def test_what_cannot_be_chosen_is_named(sweep_runs: Path, runs: dict, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="'zzz' does not name one run"):
        CompareReview(sweep_runs, "zzz")
    with pytest.raises(RunError, match="is failed: only completed runs"):
        CompareReview(sweep_runs, runs["unet", "wider", 1, 1])
    done = [run for key, run in runs.items() if "wider" not in key and "single_branch" not in key and "no_dropout" not in key]
    with pytest.raises(RunError, match="choose 8 at most"):
        CompareReview(sweep_runs, ",".join(done))
    assert "there is none" in CompareReview(tmp_path).overview().data

"""The review of a sweep: what `workbench ablation` prints and the notebook shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import ParameterError, RunError
from workbench.files import write_json
from workbench.records.sweep_plan import plan_path, read_plan
from workbench.reports import ablation_review
from workbench.reports.ablation_review import AblationReview, Gallery


@pytest.fixture(scope="module")
def review(sweep_runs: Path) -> AblationReview:
    return AblationReview(sweep_runs, outcomes="dice,auc", resamples=60)


def test_the_newest_sweep_is_reviewed_and_says_how_far_it_is(review: AblationReview) -> None:
    assert review.plan.name == "attention"
    page = review.overview().data
    assert "20 of 24 runs finished; 1 running, 1 queued, 1 failed, 1 missing" in page
    assert "phantom cohort demo" in page
    assert "the loss is not finite at step 160" in page
    assert page.count("<tr>") == 2 * 2 + 5 + 2, "two tables with two lines of head; five and two conditions"
    assert "training 38 %" in page


def test_tables_have_a_row_per_switch_and_block(review: AblationReview) -> None:
    table = review.table("dice")
    switches = ["no_attention", "single_branch", "no_dropout", "wider"]
    assert list(table.loc["unet"].index) == ["baseline", *switches]
    assert list(table.loc["mts_unet"].index) == ["baseline", "no_attention"]
    assert list(table.columns) == ["runs", "WT", "TC", "ET", "ED", "NCR"]
    assert table.loc[("unet", "wider"), "runs"] == "2/4"
    assert "n\u00a060" in table.loc[("unet", "wider"), "WT"]
    line = review.deltas.table.set_index(["block", "arm", "metric", "of"]).loc["unet", "wider", "dice", "WT"]
    levels = table.loc[("unet", "baseline"), "WT"].split("\u00a0to\u00a0")
    assert float(levels[0]) <= round(line["value_reference"], 3) <= float(levels[-1])
    assert line["value"] - line["value_reference"] == pytest.approx(line["difference"])
    assert table.loc[("mts_unet", "baseline"), "runs"] == ""
    assert "Not all runs are finished" in review.notes("dice").data
    assert "IDH mutation" in review.table("auc").columns
    shifts = review.shifts("dice")
    assert "Wilcoxon\u00a0p" in shifts.loc[("unet", "wider"), "WT"]
    assert "of\u00a0subjects\u00a0better, " in shifts.loc[("unet", "wider"), "WT"]
    assert "No finished pair" in review.shifts("auc").data, "an AUC is no mean over cases"
    assert "No finished pair of runs was judged by brier" in review.table("brier").data
    assert "over all 54 tests" in review.notes("auc").data, "five switches x five regions, and 29 AUCs: one is not estimable"
    assert "never pooled" in review.notes("auc").data


def test_forest_plots_one_per_block(review: AblationReview) -> None:
    made = review.forest("auc:idh:mutant", "effect")
    assert isinstance(made, Gallery)
    assert len(made.figures) == 2
    labels = [tick.get_text() for tick in made.figures[0].axes[0].get_yticklabels()]
    assert labels[-1] == "no_attention", "the worst comes last"
    assert "no finished pair" not in str(labels)
    with pytest.raises(ParameterError, match="order 'up'"):
        review.forest("dice:WT", "up")
    assert "there is dice:WT" in review.forest("dice:lesion").data


def test_what_is_asked_wrongly_is_refused(sweep_runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"no condition 'nothing'; there are: baseline, no_attention"):
        AblationReview(sweep_runs, against="nothing")
    with pytest.raises(ParameterError, match="'dise' is no outcome"):
        AblationReview(sweep_runs, outcomes="dise")
    with pytest.raises(RunError, match="no sweep"):
        AblationReview(tmp_path)


def test_another_condition_can_be_the_reference(small_sweep: Path, review: AblationReview) -> None:
    other = AblationReview(small_sweep, against="no_attention", outcomes="dice", resamples=20).deltas.table
    own = review.deltas.table.set_index(["block", "arm", "of"])
    line = other[(other["arm"] == "baseline") & (other["of"] == "WT")].iloc[0]
    assert line["difference"] == pytest.approx(-own.loc[("mts_unet", "no_attention", "WT"), "difference"])


@pytest.fixture
def nothing_yet(sweep_runs: Path, tmp_path: Path) -> Path:
    write_json(plan_path(tmp_path, "attention"), read_plan(sweep_runs, "attention").model_dump(mode="json"))
    return tmp_path


def test_a_sweep_of_which_nothing_is_finished(nothing_yet: Path) -> None:
    review = AblationReview(nothing_yet)
    assert "0 of 24 runs finished; 24 missing" in review.overview().data
    for shown in (review.table("dice"), review.forest("dice:WT")):
        assert "Nothing can be compared yet" in shown.data
    done = CliRunner().invoke(app, ["ablation", "attention", "--runs", str(nothing_yet)])
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "no finished pair of runs" in done.stderr


def test_names_in_the_overview_are_text() -> None:
    drawn = ablation_review._bold("**<img src=x onerror=run()>** of <script>")
    assert drawn == "<b>&lt;img src=x onerror=run()&gt;</b> of &lt;script&gt;"

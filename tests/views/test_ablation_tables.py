"""An ablation in words and HTML: differences with sign, interval and p, and the cells as they stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workbench.evaluation.ablation import Deltas
from workbench.evaluation.metrics import Place, shown_in
from workbench.records.sweep_cells import SweepCell, sweep_cells
from workbench.records.sweep_plan import read_plan
from workbench.views import ablation_tables
from workbench.views.ablation_tables import (
    cell_matrix,
    clear,
    completeness,
    delta_notes,
    delta_table,
    failures,
    outcome_options,
    p_text,
    shift_table,
    signed,
)


@pytest.fixture
def cells(sweep_runs: Path) -> list[SweepCell]:
    """The cells of `unet`: 16 of 20 are completed."""
    return [cell for cell in sweep_cells(sweep_runs, read_plan(sweep_runs, "attention")) if cell.block == "unet"]


def test_numbers_have_a_real_minus_and_the_digits_of_their_unit() -> None:
    assert (signed(-0.0354), signed(0.0354, plus=True), signed(-0.0001, plus=True)) == ("−0.035", "+0.035", "0.000")
    assert (signed(-3.456, "hd95"), signed(3.456, "volume_error")) == ("−3.46", "3.46")
    assert [p_text(p) for p in (0.0004, 0.012, float("nan"))] == ["<0.001", "0.012", "–"]


def test_a_difference_counts_where_both_p_and_interval_exclude_zero(deltas: Deltas) -> None:
    harm, distance, unknown = deltas.table.to_dict("records")
    assert clear(harm)
    assert not clear(distance)
    assert not clear(unknown)
    assert not clear(harm | {"high": 0.01}), "an interval that holds 0"
    assert not clear(harm | {"p_holm": 0.06})


def test_table_of_a_metric_starts_with_the_reference_and_says_why_an_arm_has_no_number(deltas: Deltas) -> None:
    table = delta_table(deltas, "unet", "dice")
    assert table.index.name == "against baseline"
    assert table["WT"].to_dict() == {
        "baseline": "0.800",
        "no_attention": "−0.100 (−0.150 to −0.050), p 0.020, n 60",
        "wider": "refused",
        "no_dropout": "no finished pair of runs yet",
    }
    assert table["runs"].tolist() == ["", "2/2", "1/2", "0/2"]
    assert delta_table(deltas, "unet", "auc").loc["no_attention", "IDH mutation"] == "not estimable, n 8"
    assert delta_table(deltas, "unet", "hd95").loc["no_attention", "WT"] == "+2.00 (−1.00 to 5.00, rough), p 0.200, n 10"
    assert delta_table(deltas, "other", "dice").empty


def test_beside_the_mean_stands_the_shift_with_wilcoxons_p_and_the_shares_of_subjects(deltas: Deltas) -> None:
    table = shift_table(deltas, "unet", "dice")
    assert table.to_dict() == {
        "WT": {"no_attention": "shift −0.090 (−0.140 to −0.040), Wilcoxon p < 0.001; 10 % of subjects better, 85 % worse"}
    }
    assert shift_table(deltas, "unet", "auc").empty, "an AUC has no shift"


def test_outcomes_stand_in_the_order_asked_for(deltas: Deltas) -> None:
    assert outcome_options(deltas, shown_in(Place.OUTCOME)) == {
        "Dice, WT": "dice:WT", "HD95 (mm), WT": "hd95:WT", "AUC, IDH mutation": "auc:idh:mutant",
    }  # fmt: skip
    assert next(iter(outcome_options(deltas, ["auc", "dice"]))) == "AUC, IDH mutation"


def test_notes_say_which_side_is_better_the_test_and_what_is_missing(deltas: Deltas) -> None:
    dice, distance, auc = (" ".join(delta_notes(deltas, metric)) for metric in ("dice", "hd95", "auc"))
    assert "higher is better" in dice
    assert "p: of this mean, by flipping the signs" in dice
    assert "Wilcoxon's signed-rank test is of; that p is not corrected" in dice
    assert "rough" not in dice
    assert "with fewer than 15 it is rough" in distance
    assert "unet, no_attention, WT: 8 subjects: p could not have come out below 0.1." in distance
    assert "Wilcoxon" not in auc
    assert "over all 2 tests" in dice
    assert "One seed" in dice
    assert "Not all runs are finished" in dice
    assert "Refused: unet, wider: other cases" in dice
    assert "lower is better" in distance
    assert "counts as the diagonal of the case's own grid" in distance
    assert "374 mm" in " ".join(delta_notes(replace(deltas, penalty="brats"), "hd95"))
    assert "Cases without the region count too" in dice
    assert "DeLong" in auc


def test_cells_are_counted_and_what_ended_badly_has_its_reason(cells: list[SweepCell]) -> None:
    assert completeness(cells) == "16 of 20 runs finished; 1 running, 1 queued, 1 failed, 1 missing"
    (line,) = failures(cells)
    assert line.startswith("unet, wider, fold 1, seed 1 failed: ")
    assert "the loss is not finite" in line


def test_matrix_has_a_sign_a_word_and_a_link_for_every_run(cells: list[SweepCell], monkeypatch: pytest.MonkeyPatch) -> None:
    html = cell_matrix(cells, link=lambda cell: f"?run={cell.planned.run}&x=<1>", block="unet<v2>")
    assert html.count("✓ completed") == 16
    assert html.count("<a href=") == 19, "a missing run has no page"
    assert "– missing" in html
    assert "unet&lt;v2&gt;" in html
    assert "<1>" not in html
    monkeypatch.setattr(ablation_tables, "WIDE", 3)
    short = cell_matrix(cells)
    assert short.count("✓ completed") == 1, "in the legend"
    assert "<a" not in short

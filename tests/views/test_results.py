"""Distributions, forests, training curves and tables."""

from __future__ import annotations

from pathlib import Path

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import cohort_title
from workbench.evaluation.markers import make_sample, marker_metrics
from workbench.evaluation.summaries import headline, summarise_segmentation
from workbench.records.index import RunRow, list_runs
from workbench.records.run_folder import RunFolder
from workbench.views.results import forest, metric_distribution
from workbench.views.tables import (
    duration_text,
    headline_title,
    marker_table,
    runs_table,
    state_cell,
    time_text,
    unequal_budgets,
)
from workbench.views.theme import STATE_SIGNS, THEMES, colour, places
from workbench.views.training import thin, training_curves


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio."""

    def luminance(text: str) -> float:
        parts = np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_colours_can_be_read(name: str) -> None:
    look = THEMES[name]
    assert contrast(look.text, look.page) > 7
    assert contrast(look.muted, look.page) > 4.5
    for state in STATE_SIGNS:
        from workbench.views.theme import state_colour

        assert contrast(state_colour(state, name), look.page) > 4.5
    for shade in look.colours:
        assert contrast(shade, look.panel) > 2.2


def test_a_phantom_always_says_so() -> None:
    assert cohort_title("demo", True) == "phantom cohort demo"
    assert cohort_title("phantom", True) == "phantom cohort"
    assert cohort_title("EGD", False) == "EGD"


def test_distribution_shows_every_case_and_the_mean(runs_folder: Path) -> None:
    row = next(row for row in list_runs(runs_folder) if row.state == "completed" and row.method == "unet")
    metrics = RunFolder.open(runs_folder / row.run).metrics()
    assert metrics is not None
    rows = metrics[(metrics["split"] == "test") & (metrics["metric"] == "dice")]
    summary = summarise_segmentation(rows).rename(columns={"mean": "value"})
    regions = ["WT", "TC", "ET"]
    figure = metric_distribution({row.title: rows}, {row.title: summary}, metric="dice", regions=regions)
    points, means = (element for element in figure if type(element) is hv.Scatter)
    assert len(points) == 3 * 60
    assert means["value"].tolist() == summary.set_index("region").loc[regions, "value"].tolist()
    assert np.abs(points["x"] - np.round(points["x"])).max() < 0.5  # every point in its region's lane
    assert hv.renderer("bokeh").get_plot(figure).state.xaxis[0].ticker.ticks == [0, 1, 2]


def test_distribution_without_bounds_draws() -> None:
    rows = pd.DataFrame({"case": ["a"], "region": ["WT"], "value": [0.5]})
    summary = pd.DataFrame({"region": ["WT"], "value": [0.5], "low": [np.nan], "high": [np.nan], "n": [1]})
    figure = metric_distribution({"unet": rows}, {"unet": summary}, metric="dice", regions=["WT"])
    assert hv.renderer("bokeh").get_plot(figure).state is not None


def test_forest_says_what_it_cannot_estimate() -> None:
    table = pd.DataFrame(
        {"label": ["IDH", "IDH", "TERT"], "series": ["a", "b", "a"], "value": [0.8, np.nan, 0.6], "low": [0.7, np.nan, 0.5],
         "high": [0.9, np.nan, 0.7], "n": [60, 8, 50]}
    )  # fmt: skip
    figure = forest(table, title="AUC", xlabel="AUC", reference=0.5)
    (labels,) = (element for element in figure if type(element) is hv.Labels)
    assert list(labels["text"]) == ["0.80 (0.70 to 0.90), n = 60", "not estimable, n = 8", "0.60 (0.50 to 0.70), n = 50"]
    axis = hv.renderer("bokeh").get_plot(figure).state.yaxis[0]
    assert list(axis.major_label_overrides.values()) == ["IDH", "TERT"]  # a shared label stands once


def test_training_figures() -> None:
    events = pd.DataFrame(
        {"name": ["train/dice", "train/dice", "train/learning_rate", "validation/dice", "validation/dice"],
         "step": [1, 2, 1, 1, 2], "value": [1.0, 0.5, 0.1, 0.3, 0.2]}
    )  # fmt: skip
    figures = training_curves(events, title="unet")
    assert set(figures) == {"loss", "score"}
    assert [element.label for element in figures["loss"]] == ["dice"]
    assert "best 0.300 at step 1" in [element.label for element in figures["score"]]
    assert training_curves(events.iloc[:0]) == {}


def test_thin_keeps_the_mean() -> None:
    rows = pd.DataFrame({"step": np.arange(10000), "value": np.arange(10000.0)})
    assert len(thin(rows, 100)) == 100
    assert thin(rows, 100)["value"].mean() == pytest.approx(rows["value"].mean())


def test_texts() -> None:
    assert (duration_text(None), duration_text(42), duration_text(391), duration_text(7300)) == (
        "",
        "42 s",
        "6 min 31 s",
        "2 h 1 min",
    )
    assert time_text("nonsense") == "nonsense"
    assert headline_title("auc codel") == "AUC 1p/19q"
    assert headline_title("auc grade 4") == "AUC grade 4"


def test_unequal_effort_is_said() -> None:
    rows = [
        RunRow(f"e/{n}", "e", "completed", method=m, budget={"steps": s}) for n, m, s in (("a", "unet", 100), ("b", "mome", 300))
    ]
    assert "unet · a 100" in unequal_budgets(rows)
    assert unequal_budgets(rows[:1]) == ""
    assert unequal_budgets([rows[0], RunRow("e/c", "e", "completed", budget={"steps": 102})]) == ""


def test_runs_table(runs_folder: Path) -> None:
    rows = list_runs(runs_folder)
    done = next(row for row in rows if row.state == "completed" and row.parameters["seed"] == 1)
    run = RunFolder.open(runs_folder / done.run)
    numbers = headline(run.metrics(), run.markers(), resamples=50)
    table = runs_table(rows, {done.run: numbers})
    assert list(table.index) == [row.run for row in rows]
    cell = table.loc[done.run, "Dice WT"]
    assert f"{numbers['dice WT'].value:.2f}" in cell
    assert "n = 60" in cell
    assert "phantom cohort demo" in table.loc[done.run, "Cohort"]
    broken = next(row for row in rows if not row.readable)
    assert "unreadable" in table.loc[broken.run, "Status"]
    assert "JSON" in table.loc[broken.run, "Status"]


def test_text_from_disk_is_escaped() -> None:
    row = RunRow("e/<i>", "e", "failed", reason='<script>"x"</script>', method="<b>")
    cells = " ".join(runs_table([row], {}).iloc[0].astype(str)) + state_cell(row, "dark")
    assert "<script>" not in cells
    assert "<b>" not in cells
    assert '"x"' not in cells


def test_marker_table_has_counts_and_intervals() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) % 2
    good = marker_metrics(make_sample(truth, np.clip(truth * 0.4 + rng.random(40) * 0.6, 0, 1)), resamples=50)
    few = marker_metrics(make_sample([0, 1, 1], [0.1, 0.4, 0.6]))
    table = marker_table({"a": good, "b": few}).set_index("Metric")
    assert table.loc["Cases", "a"] == "n = 40: 20 positive, 20 negative"
    assert "(" in table.loc["AUC", "a"]
    assert table.loc["AUC", "b"] == "not estimable"


def test_a_run_keeps_its_colour_on_a_figure_that_not_all_are_on() -> None:
    assert places(["b", "c"], ["a", "b"]) == {"b": 1, "c": 2}
    table = pd.DataFrame({"label": ["IDH"], "value": [0.8], "low": [0.7], "high": [0.9], "n": [60], "series": ["b"]})
    for order, expected in (((), 0), (("a", "b"), 1)):
        points = next(e for e in forest(table, title="t", xlabel="x", order=order) if isinstance(e, hv.Points))
        assert points.opts.get("style").kwargs["color"] == colour(expected)

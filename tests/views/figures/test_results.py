"""Distributions over cases, and intervals of several runs."""

from __future__ import annotations

from pathlib import Path

import holoviews as hv
import numpy as np
import pandas as pd

from workbench.evaluation.summaries import leading, summarise_segmentation
from workbench.records.index import list_runs
from workbench.records.run_folder import RunFolder
from workbench.views.figures.results import forest, metric_distribution
from workbench.views.theme import colour, places


def test_distribution_shows_every_case_and_the_mean(runs_folder: Path) -> None:
    row = next(row for row in list_runs(runs_folder) if row.state == "completed" and row.method == "unet")
    metrics = RunFolder.open(runs_folder / row.run).metrics()
    assert metrics is not None
    rows = metrics[(metrics["split"] == "test") & (metrics["metric"] == "dice")]
    summary = leading(summarise_segmentation(rows))
    regions = ["WT", "TC", "ET"]
    figure = metric_distribution({row.title: rows}, {row.title: summary}, metric="dice", regions=regions)
    points, means = (element for element in figure if type(element) is hv.Scatter)
    assert len(points) == 3 * 60
    assert means["value"].tolist() == summary.set_index("region").loc[regions, "value"].tolist()
    assert np.abs(points["x"] - np.round(points["x"])).max() < 0.5  # every point in its region's lane
    assert hv.renderer("bokeh").get_plot(figure).state.xaxis[0].ticker.ticks == [0, 1, 2]


def test_distribution_without_bounds_draws() -> None:
    rows = pd.DataFrame({"case": ["a"], "region": ["WT"], "value": [0.5]})
    summary = pd.DataFrame({"region": ["WT"], "value": [0.5], "low": [np.nan], "high": [np.nan], "n": [1],
                            "statistic": ["median"]})  # fmt: skip
    figure = metric_distribution({"unet": rows}, {"unet": summary}, metric="dice", regions=["WT"])
    assert hv.renderer("bokeh").get_plot(figure).state is not None
    assert "median where present" in figure.opts.get("plot").kwargs["title"]


def test_forest_says_what_it_cannot_estimate() -> None:
    table = pd.DataFrame(
        {"label": ["IDH", "IDH", "TERT"], "series": ["a", "b", "a"], "value": [0.8, np.nan, 0.6], "low": [0.7, np.nan, 0.5],
         "high": [0.9, np.nan, 0.7], "n": [60, 8, 50],
         "rough": [False, False, True]}
    )  # fmt: skip
    figure = forest(table, title="AUC", xlabel="AUC", reference=0.5)
    (labels,) = (element for element in figure if type(element) is hv.Labels)
    assert list(labels["text"]) == ["0.80 (0.70 to 0.90), n = 60", "not estimable, n = 8", "0.60 (0.50 to 0.70, rough), n = 50"]
    axis = hv.renderer("bokeh").get_plot(figure).state.yaxis[0]
    assert list(axis.major_label_overrides.values()) == ["IDH", "TERT"]  # a shared label stands once


def test_a_run_keeps_its_colour_on_a_figure_that_not_all_are_on() -> None:
    assert places(["b", "c"], ["a", "b"]) == {"b": 1, "c": 2}
    table = pd.DataFrame({"label": ["IDH"], "value": [0.8], "low": [0.7], "high": [0.9], "n": [60], "series": ["b"]})
    for order, expected in (((), 0), (("a", "b"), 1)):
        points = next(e for e in forest(table, title="t", xlabel="x", order=order) if isinstance(e, hv.Points))
        assert points.opts.get("style").kwargs["color"] == colour(expected)

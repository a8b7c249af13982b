"""Figures of a marker: what they draw and what they say, without pixels."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd
import pytest

from workbench.evaluation.markers import make_sample, marker_metrics
from workbench.views.figures.curves import (
    CurveData,
    Mark,
    calibration_figure,
    confusion_figure,
    curve_data,
    precision_recall_figure,
    roc_figure,
)
from workbench.views.theme import THEMES


def data(n: int = 60, seed: int = 0, title: str = "unet") -> CurveData:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    probability = np.clip(0.3 + 0.3 * truth + rng.normal(0, 0.2, n), 0, 1)
    return curve_data(title, make_sample(truth, probability), resamples=100)


def texts(figure: hv.Overlay) -> str:
    return " | ".join(element.label for element in figure)


def elements(figure: hv.Overlay, kind: type) -> list:
    return [element for element in figure if type(element) is kind]


def state(figure: hv.Overlay):
    return hv.renderer("bokeh").get_plot(figure).state


def test_roc_legend_carries_auc_interval_and_n() -> None:
    run = data()
    text = texts(roc_figure([run]))
    assert f"AUC {run.auc.value:.2f} ({run.auc.low:.2f} to {run.auc.high:.2f}), n = 60 (30+)" in text


def test_roc_draws_the_curve_and_its_band() -> None:
    run = data()
    figure = roc_figure([run])
    line = elements(figure, hv.Curve)[-1]
    assert np.array_equal(line["fpr"], run.roc["fpr"])
    assert np.array_equal(line["tpr"], run.roc["tpr"])
    (band,) = elements(figure, hv.Area)
    assert np.array_equal(band["low"], run.roc_band["low"])


def test_too_few_cases_draw_steps_but_no_number_and_no_band() -> None:
    run = data(n=12)
    figure = roc_figure([run])
    assert "not estimable: n+ = 6, n− = 6" in texts(figure)
    assert "AUC 0" not in texts(figure)
    assert all(len(band) == 0 for band in elements(figure, hv.Area))
    assert len(elements(figure, hv.Curve)[-1]) == len(run.roc) > 3
    assert all(len(bars) == 0 for bars in elements(calibration_figure([run]), hv.ErrorBars))


def test_one_class_only_still_draws() -> None:
    run = curve_data("unet", make_sample(np.ones(8), np.linspace(0.1, 0.9, 8)), resamples=10)
    for figure in (roc_figure([run]), precision_recall_figure([run]), calibration_figure([run])):
        assert "n+ = 8, n− = 0" in texts(figure)
        assert state(figure) is not None


def test_marks_lie_on_the_curve() -> None:
    run = data()
    cut = 0.45
    figure = roc_figure([run], marks={"unet": [Mark(cut, "threshold")]})
    (mark,) = elements(figure, hv.Scatter)
    truth, called = run.sample.truth, run.sample.probability >= cut
    assert mark["tpr"][0] == pytest.approx((called & truth).sum() / truth.sum())
    assert mark["fpr"][0] == pytest.approx((called & ~truth).sum() / (~truth).sum())


def test_an_unknown_youden_threshold_is_not_marked() -> None:
    assert elements(roc_figure([data()], marks={"unet": [Mark(float("nan"), "Youden")]}), hv.Scatter) == []


def test_best_possible_is_dashed() -> None:
    best = data(seed=3, title="best possible")
    figure = roc_figure([data()], best=best)
    lines = [curve for curve in elements(figure, hv.Curve) if curve.label.startswith("best possible")]
    assert len(lines) == 1
    assert hv.Store.lookup_options("bokeh", lines[0], "style").kwargs["line_dash"] == "dashed"


def test_calibration_counts() -> None:
    run = data()
    (points,) = elements(calibration_figure([run]), hv.Scatter)
    assert points["n"].sum() == 60
    (labels,) = elements(calibration_figure([run]), hv.Labels)
    assert [int(text) for text in labels["count"]] == run.bins["n"].tolist()


def test_calibration_leads_with_the_smooth_curve_its_band_slope_and_intercept() -> None:
    run = data()
    figure = calibration_figure([run])
    (band,) = elements(figure, hv.Area)
    line = elements(figure, hv.Curve)[-1]
    assert np.array_equal(line["observed"], run.smooth["observed"])
    assert np.array_equal(band["low"], run.smooth["low"])
    table = marker_metrics(run.sample, resamples=100).set_index("metric")["value"]
    expected = [f"{name} {table[f'calibration_{name}']:.2f} (" for name in ("slope", "intercept")]
    assert all(text in texts(figure) for text in expected)
    apart = curve_data("unet", make_sample(np.arange(40) > 19, np.linspace(0.1, 0.9, 40)), resamples=20)
    assert "slope not estimable: the classes do not overlap" in texts(calibration_figure([apart]))
    assert state(calibration_figure([apart])) is not None


def test_a_pooled_run_says_what_its_auc_ranks() -> None:
    rows = pd.DataFrame(
        {"case": [f"c{i}" for i in range(40)], "truth": [0.0, 1.0] * 20, "probability": np.linspace(0.2, 0.8, 40)}
    )
    rows["subject"] = rows["case"]
    pooled = curve_data("unet", rows.assign(fold=[0] * 20 + [1] * 20), resamples=10)
    assert "cases of 2 models" in pooled.sample.pooled
    assert curve_data("unet", rows.assign(fold=0), resamples=10).sample.pooled == ""


def test_confusion_counts_and_shares() -> None:
    sample = make_sample([1, 1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7, 0.2])
    figure = confusion_figure(curve_data("unet", sample, resamples=5), 0.5, names=("wild type", "mutant"))
    (cells,) = elements(figure, hv.HeatMap)
    found = {(row["truth"], row["predicted"]): row["n"] for _, row in cells.dframe().iterrows()}
    assert found == {
        ("mutant", "mutant"): 2, ("mutant", "wild type"): 1, ("wild type", "mutant"): 1, ("wild type", "wild type"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["light", "dark"])
def test_theme_reaches_the_figure(name: str) -> None:
    figure = state(roc_figure([data()], title="ROC, IDH", subtitle="phantom cohort demo, test split", name=name))
    assert figure.background_fill_color == THEMES[name].panel
    assert figure.title.text_color == THEMES[name].text
    assert "phantom cohort demo, test split" in [title.text for title in figure.above if hasattr(title, "text")]


def test_two_runs_keep_their_order_and_colours() -> None:
    figure = roc_figure([data(title="a"), data(seed=1, title="b")])
    lines = [curve for curve in elements(figure, hv.Curve) if curve.label]
    assert [curve.label[0] for curve in lines] == ["a", "b"]
    colours = [hv.Store.lookup_options("bokeh", curve, "style").kwargs["color"] for curve in lines]
    assert colours == list(THEMES["light"].colours[:2])


def test_rows_of_a_table_are_taken_too() -> None:
    rows = pd.DataFrame({"case": ["a", "b"], "subject": ["a", "b"], "truth": [0.0, 1.0], "probability": [0.2, 0.7]})
    assert curve_data("unet", rows, resamples=5).n == 2

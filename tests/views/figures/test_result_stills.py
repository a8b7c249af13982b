"""Figures of one run for notebooks and paper: what they draw and what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.views.figures.result_stills import distribution_figure, marker_figure, training_figure


def markers(n: int, marker: str = "idh", name: str = "mutant") -> pd.DataFrame:
    rng = np.random.default_rng(n)
    cases, truth = [f"c{index}" for index in range(n)], (np.arange(n) % 2).astype(float)
    probability = np.clip(0.3 + 0.3 * truth + rng.normal(0, 0.2, n), 0, 1)
    return pd.DataFrame({"case": cases, "subject": cases, "split": "test", "marker": marker, "class": name, "truth": truth,
                         "probability": probability})  # fmt: skip


def test_training_marks_the_best_score_and_leaves_out_what_is_no_loss() -> None:
    events = pd.DataFrame(
        [("train/dice", 1, 1.0), ("train/dice", 2, 0.5), ("train/learning_rate", 1, 0.1), ("train/gradient_norm", 1, 3.0),
         ("validation/dice", 1, 0.3), ("validation/dice", 2, 0.2), ("validation/auc", 2, np.nan)],
        columns=["name", "step", "value"],
    )  # fmt: skip
    loss, score = training_figure(events, title="unet").axes
    assert [line.get_label() for line in loss.lines] == ["dice"]
    assert [line.get_label() for line in score.lines] == ["dice", "auc"]
    assert [text.get_text() for text in score.texts] == ["best 0.300\nat step 1"]


def test_distribution_shows_each_case_open_where_the_region_is_absent() -> None:
    rows = [(f"c{index}", region, "dice", value, truth) for region in ("WT", "ET")
            for index, (value, truth) in enumerate([(0.9, 5), (0.8, 5), (1.0, 0), (np.nan, 5)])]  # fmt: skip
    table = pd.DataFrame(rows, columns=["case", "region", "metric", "value", "n_truth"])
    table = table.assign(subject=table["case"], split="test")
    other = table.assign(split="train", value=0.1)
    axes = distribution_figure(pd.concat([table, other]), title="unet").axes[0]  # of Dice
    assert [label.get_text() for label in axes.get_xticklabels()] == ["WT\nn = 3", "ET\nn = 3"]
    filled, empty = axes.collections[:2]
    assert (len(filled.get_offsets()), len(empty.get_offsets())) == (2, 1)
    assert len(empty.get_facecolors()) == 0
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.85), "of the cases that have the region"
    assert axes.get_ylabel() == "Dice"


def test_each_marker_has_its_counts_and_too_few_cases_no_band() -> None:
    table = pd.concat([markers(60), markers(12, "codel", "codeleted")])
    figure = marker_figure(table, title="run", best={("idh", "mutant"): (np.arange(60) % 2).astype(float)})
    assert figure is not None
    first, calibration, few, _ = figure.axes
    assert first.get_title() == "IDH mutation: mutant\nn+ = 30, n- = 30"
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["95 % band", "this run", "best possible (phantom)"]
    assert few.get_title().endswith("n+ = 6, n- = 6: not estimable (needs 10 subjects of each)")
    assert len(few.collections) == 0
    assert few.lines[1].get_linestyle() == "--"
    assert sum(int(text.get_text()) for text in calibration.texts) == 60


def test_without_a_case_of_known_truth_there_is_no_figure() -> None:
    assert marker_figure(markers(10).assign(truth=np.nan), title="run") is None
    assert marker_figure(markers(10), title="run", split="external") is None

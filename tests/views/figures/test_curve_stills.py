from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.evaluation.curves import calibration_curve
from workbench.evaluation.markers import auc_interval, marker_metrics, sample_of
from workbench.views.figures.curve_stills import overlay_still
from workbench.views.tables import calibration_text


def rows(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    cases = [f"c{index}" for index in range(n)]
    probability = np.clip(0.3 + 0.3 * truth + rng.normal(0, 0.2, n), 0, 1)
    return pd.DataFrame({"case": cases, "subject": cases, "truth": truth.astype(float), "probability": probability})


def test_each_run_has_its_auc_and_n_and_too_few_cases_have_no_curve() -> None:
    runs = {"unet": rows(60, 0), "mome": rows(40, 1), "few": rows(12, 2)}
    figure = overlay_still(runs, title="IDH mutation\nphantom cohort demo", resamples=50)
    roc, calibration = figure.axes
    area = auc_interval(sample_of(runs["unet"]))
    said = [text.get_text() for text in roc.get_legend().get_texts()]
    assert said[0] == f"unet: AUC {area.value:.2f} ({area.low:.2f} to {area.high:.2f}), n = 60 (30+)"
    assert said[1].endswith("n = 40 (20+)")
    assert said[2] == "few: not estimable: n+ = 6, n− = 6"
    assert [len(line.get_xdata()) > 2 for line in roc.lines] == [False, True, True, False], "the diagonal, two curves, a label"
    lines = [text.get_text() for text in calibration.get_legend().get_texts()]
    table = marker_metrics(sample_of(runs["unet"]), resamples=50)
    assert lines[0] == f"unet: {calibration_text(table)}"
    assert lines[0].startswith("unet: slope 2.77 (1.32 to 4.23), intercept 0.17 (")
    assert lines[2] == "few: not estimable: n+ = 6, n− = 6"
    smooth = calibration_curve(sample_of(runs["unet"]))
    assert any(np.array_equal(line.get_ydata(), smooth["observed"]) for line in calibration.lines), "the smooth curve is drawn"
    assert "phantom cohort demo" in figure.texts[0].get_text()
    first, second = roc.lines[1:3]
    assert (first.get_color(), first.get_linestyle()) != (second.get_color(), second.get_linestyle())
    assert first.get_linestyle() != second.get_linestyle(), "told apart without colours"

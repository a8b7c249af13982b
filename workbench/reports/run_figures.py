"""HoloViews objects of a run, for JupyterLab."""

from __future__ import annotations

from typing import Any

from workbench.cohort.table import cohort_title
from workbench.evaluation.summaries import summarise_segmentation, with_available
from workbench.setup.run_setup import RunSetup
from workbench.views.feature_plot import feature_figure
from workbench.views.results import metric_distribution
from workbench.views.training import training_curves


def run_figures(setup: RunSetup) -> dict[str, Any]:
    """'loss' and 'score' of the training and, once evaluated, 'dice' of the test cases and the linked plot of 'features'."""
    run, info = setup.run, setup.cohort.info
    subtitle = f"{cohort_title(info.name, info.phantom)}, fold {setup.parameters.fold}"
    figures: dict[str, Any] = training_curves(run.events(), title=setup.parameters.method, subtitle=subtitle)
    metrics = run.metrics()
    if metrics is not None and len(metrics):
        test = with_available(metrics[metrics["split"] == "test"])
        name = f"{setup.parameters.method} {run.folder.name[:6]}"
        dice = test[test["metric"] == "dice"]
        summary = summarise_segmentation(dice, by_present=False, resamples=setup.parameters.resamples)
        figures["dice"] = metric_distribution(
            {name: dice},
            {name: summary.rename(columns={"mean": "value"})},
            metric="dice",
            regions=list(dict.fromkeys(dice["region"])),
            subtitle=subtitle,
        )
    if (features := feature_figure(run.folder)) is not None:
        figures["features"] = features
    return figures

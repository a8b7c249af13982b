"""What a notebook shows of a pretraining: its results, its collapse monitors, and what came back of what was hidden."""

from __future__ import annotations

import pandas as pd
from IPython.display import display

from workbench.cohort.table import cohort_title
from workbench.errors import RunError
from workbench.evaluation.metrics import metric_title
from workbench.evaluation.summaries import summarise_segmentation
from workbench.reports.run_report import picture
from workbench.reports.sentences import sentences
from workbench.setup.run_setup import RunSetup
from workbench.steps.collapse import PREFIX, measure_collapse
from workbench.steps.pretraining import examine, trained_pretraining
from workbench.views.estimates import estimate_text
from workbench.views.figures.pretraining import reconstruction_figure


def pretraining_table(setup: RunSetup) -> pd.DataFrame:
    """Mean (95 % interval over subjects) and n per split and metric."""
    metrics = setup.run.metrics()
    if metrics is None:
        raise RunError(f"run {setup.run.folder} is not evaluated yet: call .evaluate()")
    table = summarise_segmentation(metrics, by_present=False, resamples=setup.parameters.resamples)
    table["text"] = [
        estimate_text(row["mean"], row["low"], row["high"], subjects=row["n_subjects"]) for _, row in table.iterrows()
    ]
    titles = table["metric"].map(metric_title)
    result = table.assign(metric=titles).pivot(index="split", columns="metric", values="text")
    result = result.reindex(index=list(dict.fromkeys(table["split"])), columns=list(dict.fromkeys(titles)))
    result.insert(0, "n", table.groupby("split")["n"].max())
    info = setup.cohort.info
    result.columns.name = cohort_title(info.name, info.phantom)
    return result


def reconstruction_pictures(setup: RunSetup) -> None:
    """Display, for the first `maps` test cases, what was shown, what came back and what was wanted."""
    model = trained_pretraining(setup)
    names = sorted(map(str, setup.cases_by_split["test"]["case"]))[: setup.parameters.maps]
    if not names:
        display(sentences("*There is no test case to show.*"))
    info = setup.cohort.info
    for name in names:
        found = examine(setup, model, name)
        pictures = {title: values[0].float().cpu().numpy() for title, values in found.pictures.items()}
        metric = type(model).picture_metric
        title = f"{name}, {cohort_title(info.name, info.phantom)}: {metric_title(metric)} {float(found.metrics[metric]):.2f}"
        figure = reconstruction_figure(pictures, setup.modalities, title=title)
        display(picture(setup.run, f"reconstruction_{name}", figure))


def collapse_report(setup: RunSetup) -> pd.DataFrame:
    """Display the verdict on the best checkpoint's features, and return the monitors: while it trained, and of that checkpoint.

    Raises:
        RunError: the run is not trained, or its method has no token features.
    """
    model = trained_pretraining(setup)
    rows = setup.cases_by_split["validation"]
    found = measure_collapse(setup, model, rows)
    if found is None:
        raise RunError(f"{setup.parameters.method} has no token features, or there is no validation case: nothing to monitor")
    titles = {
        "effective_rank": f"effective rank of tokens (at most {found.directions})",
        "between_subjects": "similarity between subjects",
        "within_subjects": "one sequence to all, same subject",
        "off_diagonal": "off-diagonal covariance",
    }
    events = setup.run.events()
    history = events[events["name"].str.startswith(PREFIX)].drop_duplicates(["name", "step"], keep="last")
    table = history.assign(name=history["name"].str.removeprefix(PREFIX)).pivot(index="step", columns="name", values="value")
    table = table.reindex(columns=list(titles))  # a monitor that was no number while it trained may be one of the kept weights
    table.index = [f"step {step}" for step in table.index]
    table.loc[f"kept: step {setup.training['best_step']}"] = pd.Series(found.as_dict())
    info = setup.cohort.info
    display(sentences(f"**{found.sentence}** ({len(rows)} validation cases of {cohort_title(info.name, info.phantom)})"))
    return table.rename(columns=titles).rename_axis(columns=cohort_title(info.name, info.phantom)).round(3)

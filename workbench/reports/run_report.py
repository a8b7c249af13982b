"""What an experiment shows in a notebook: tables and still pictures, kept in the run's `figures` folder as PNG and PDF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from IPython.display import SVG, Image, Markdown
from matplotlib.figure import Figure

from workbench.cohort.table import Cohort, cohort_title
from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import ParameterError
from workbench.evaluation.decisions import calibration_table, decision_table
from workbench.evaluation.detection import PENALTIES, detection
from workbench.evaluation.metrics import Place, metric_title, shown_in
from workbench.evaluation.summaries import leading, with_available
from workbench.files import atomic_path
from workbench.models.catalogue import card
from workbench.records.pretrained import read_pretrained_record
from workbench.records.provenance import register
from workbench.records.run_folder import ATTRIBUTION_FILE, WEIGHTS_FILE, RunFolder
from workbench.reports.group_tables import group_table, only_one_group
from workbench.reports.sentences import sentences
from workbench.reports.stills import still
from workbench.reports.subset_tables import (
    added_table,
    number_of_sequences_figure,
    subset_figure,
    subset_table,
)
from workbench.setup.run_setup import RunSetup
from workbench.steps.results import results_of
from workbench.steps.sensitivity import sensitivity_rows, sensitivity_table
from workbench.views.cases.map_figures import attribution_figure, weight_figure
from workbench.views.cases.map_tables import read_map_table
from workbench.views.estimates import estimate_text, share_text
from workbench.views.figures.features import feature_still_of
from workbench.views.figures.result_stills import distribution_figure, marker_figure, training_figure

TABLES = ("segmentation", "markers", "groups", "decisions", "calibration", "sensitivity", "subsets", "added_sequence")
FIGURES = ("training", "segmentation", "markers", "attribution", "modality_weights", "subsets", "subset_number", "features")


def cohort_table(setup: RunSetup) -> pd.DataFrame:
    """Per split: cases, subjects, sites, masks, and how many cases carry each marker."""
    rows = {}
    for name, cases in setup.cases_by_split.items():
        row: dict[str, Any] = {
            "cases": len(cases),
            "subjects": cases["subject"].nunique(),
            "sites": ", ".join(f"{site} {n}" for site, n in cases["site"].value_counts().items()),
            "masks": int(cases["segmentation"].notna().sum()),
        }
        for marker in setup.markers:
            counts = cases[marker].value_counts().sort_index()
            row[marker] = ", ".join(f"{value}: {n}" for value, n in counts.items()) or "unknown"
        rows[name] = row
    table = pd.DataFrame(rows).T
    table.columns.name = cohort_title(setup.cohort.info.name, setup.cohort.info.phantom)
    return table


def diagram(setup: RunSetup) -> SVG:
    """The model's diagram."""
    return SVG(setup.network.diagram())


def model_table(setup: RunSetup) -> pd.DataFrame:
    """Parameters per component and in all."""
    counts = setup.network.parameters_by_component()
    table = pd.DataFrame({"parameters": [*counts.values(), setup.network.parameter_count()]}, index=[*counts, "in all"])
    table.index.name = f"{setup.parameters.method} ({setup.parameters.size})"
    return table.map(lambda count: f"{count:,}")


def show(setup: RunSetup, name: str) -> Any:
    """One of `FIGURES` as a picture.

    Raises:
        ParameterError: no such figure.
    """
    run, info = setup.run, setup.cohort.info
    title = f"{setup.parameters.method} on {cohort_title(info.name, info.phantom)}, fold {setup.parameters.fold}"
    if name == "training":
        figure: Figure | None = training_figure(run.events(), title=title)
    elif name == "segmentation":
        metrics = run.metrics()
        figure = distribution_figure(metrics, title=title) if metrics is not None and len(metrics) else None
    elif name == "markers":
        markers = run.markers()
        rows = with_available(markers) if markers is not None else pd.DataFrame(columns=["split", "truth", "marker", "class"])
        figure = marker_figure(rows, title=title, best=best_curves(setup.cohort, rows))
    elif name == "attribution":
        figure = attribution_figure(read_map_table(run.folder / ATTRIBUTION_FILE), title=title)
    elif name == "modality_weights":
        figure = weight_figure(read_map_table(run.folder / WEIGHTS_FILE), title=title)
        if figure is None:
            return sentences(f"*{setup.parameters.method} does not weigh its sequences voxel by voxel: no weights to show.*")
    elif name == "subsets":
        figure = subset_figure(setup)
    elif name == "subset_number":
        figure = number_of_sequences_figure(setup)
    elif name == "features":
        figure = feature_still_of(run.folder, title=title)
    else:
        raise ParameterError(f"figure '{name}' is unknown; there are {', '.join(FIGURES)}")
    if figure is None and name == "features":
        return sentences(f"*{setup.parameters.method} does not say what it makes of its sequences: no features to place.*")
    return picture(run, name, figure) if figure is not None else sentences(f"*Nothing to show for {name} in the test split.*")


def result_table(setup: RunSetup, kind: str) -> pd.DataFrame | Markdown:
    """As `_result_table`; a sentence where there is nothing to tabulate, e.g. the markers of a method that only segments."""
    if kind == "groups" and (sentence := only_one_group(setup)) is not None:
        return sentence
    table = _result_table(setup, kind)
    if not table.empty:
        return table
    if kind in ("subsets", "added_sequence"):
        return sentences("*No subset was judged: `subsets` is `none`, or there is no test case with a mask or a known marker.*")
    entry = card(setup.parameters.method)
    task = SEGMENTATION if kind == SEGMENTATION else MARKER_TASK
    if kind != "groups" and task not in entry.tasks:
        return sentences(f"*{entry.title} predicts no {task}: there is no table of {kind}.*")
    return sentences(f"*Nothing to tabulate for {kind}: no held-out case has both prediction and truth.*")


def _result_table(setup: RunSetup, kind: str) -> pd.DataFrame:
    """The results as a reader wants them: mean (95 % interval) and n per split, region or marker, a column per metric.

    `kind` is segmentation, markers, groups (both per dataset, kind of lesion, seen and unseen sites), decisions (thresholds
    chosen on validation), calibration (maps fitted there), sensitivity (what misregistration and a wrong tumour gate do to the
    markers), subsets (every subset of sequences) or added_sequence (what one more sequence does).

    Raises:
        ParameterError: there is no such table.
    """
    if kind not in TABLES:
        raise ParameterError(f"there is no table '{kind}'; there are {', '.join(TABLES)}")
    if kind == "groups":
        found = group_table(setup)
        found.columns.name = _tested_on(setup)
        return found
    if kind in ("decisions", "calibration"):
        return _fitted_table(setup, kind)
    if kind == "sensitivity":
        return _sensitivity_table(setup)
    if kind in ("subsets", "added_sequence"):
        return subset_table(setup) if kind == "subsets" else added_table(setup)
    table = results_of(setup.run, setup.parameters.resamples)[kind]
    if table.empty:
        return pd.DataFrame()
    if kind == SEGMENTATION:
        return _segmentation_table(setup, leading(table))
    rows = ["split", "marker", "class"]
    shown = table[table["metric"].isin(shown_in(Place.NOTEBOOK, kind))]
    result = _by_metric(shown.assign(metric=shown["metric"].map(metric_title)), rows)
    counts = shown.groupby(rows, sort=False)
    result.insert(0, "n", counts["n"].max())
    result.insert(1, "positive", counts["n_positive"].max())
    result.columns.name = _tested_on(setup)
    return result


def _by_metric(table: pd.DataFrame, rows: list[str]) -> pd.DataFrame:
    """A column per metric, in order of appearance: value, low and high of n_subjects as text."""
    texts = [
        estimate_text(row["value"], row["low"], row["high"], subjects=row.get("n_subjects"))
        if row.get("estimable", True)
        else "not estimable"
        for _, row in table.iterrows()
    ]
    result = table.assign(text=texts).pivot(index=rows, columns="metric", values="text")
    return result.reindex(
        index=pd.MultiIndex.from_frame(table[rows].drop_duplicates()), columns=list(dict.fromkeys(table["metric"]))
    )


def _segmentation_table(setup: RunSetup, table: pd.DataFrame) -> pd.DataFrame:
    """Rows split and region: cases, of them those with the region, found and invented; then how good the outlines are."""
    shown = table[table["metric"].isin(shown_in(Place.NOTEBOOK, SEGMENTATION))]
    titles = {name: metric_title(name) for name in shown["metric"]}
    titles |= {name: f"{titles[name]}, median" for name in shown.loc[shown["statistic"] == "median", "metric"]}
    rows = ["split", "region"]
    result = _by_metric(shown.assign(metric=shown["metric"].map(titles)), rows)
    for name in dict.fromkeys(shown.loc[shown["statistic"] == "median", "metric"]):
        part = shown[shown["metric"] == name].set_index(rows)
        quartiles = [
            f"{low:.2f} to {high:.2f}" if high == high else "-" for low, high in zip(part["q1"], part["q3"], strict=True)
        ]
        place = list(result.columns).index(titles[name]) + 1
        missed = PENALTIES.get(str(part["penalty"].iloc[0]))
        title = f"quartiles (a miss counts as {missed})" if missed else f"{titles[name].removesuffix(', median')}, quartiles"
        result.insert(place, title, pd.Series(quartiles, part.index).reindex(result.index))
    counts = shown.groupby(rows, sort=False)
    with_region = counts["n_nonempty"].max()
    result.insert(0, "n", with_region + counts["n_empty_truth"].max())
    result.insert(1, "with the region", with_region)
    metrics = setup.run.metrics()
    found = detection(with_available(metrics)).set_index(rows) if metrics is not None else pd.DataFrame()
    for place, (name, of) in enumerate((("found", "with"), ("false", "without"))):
        texts = pd.Series([_count_text(row, name, of) for _, row in found.iterrows()], found.index, dtype=object)
        result.insert(2 + place, "found" if name == "found" else "falsely found", texts.reindex(result.index).fillna("-"))
    result.columns.name = _tested_on(setup)
    return result


def _count_text(row: pd.Series, name: str, of: str) -> str:
    """'58 of 60 (0.89 to 0.99)'."""
    if not row[f"n_{of}"]:
        return "-"
    counted = share_text(row[name], row[f"n_{of}"])
    return estimate_text(
        row[name], row[f"{name}_low"], row[f"{name}_high"], subjects=row[f"subjects_{of}"],
        show=lambda value: counted if value == row[name] else f"{value:.2f}",
    )  # fmt: skip


def _tested_on(setup: RunSetup) -> str:
    """The head of every table of results: the cohort, and whether pretrained weights had seen its test subjects."""
    info, mark = setup.cohort.info, read_pretrained_record(setup.run.folder).mark
    return cohort_title(info.name, info.phantom) + (f", {mark}" if mark else "")


def _fitted_table(setup: RunSetup, kind: str) -> pd.DataFrame:
    """Rows split, marker, class and rule (or calibration); columns: what was fitted, on how many, and the metrics."""
    markers = setup.run.markers()
    if markers is None or markers.empty:
        return pd.DataFrame()
    make, name, fit = (decision_table, "rule", "threshold") if kind == "decisions" else (calibration_table, "calibration", "fit")
    table = make(markers, resamples=setup.parameters.resamples)
    rows = ["split", "marker", "class", name]
    shown = table.assign(metric=table["metric"].map(metric_title))
    result = _by_metric(shown, rows)
    first = shown.groupby(rows, sort=False).first()
    fitted = first[fit] if kind == "calibration" else first[fit].map(lambda v: "-" if pd.isna(v) else f"{v:.3f}")
    trust = first["trusted"].map(lambda trusted: "" if trusted else ", too few to trust")
    result.insert(0, fit, fitted)
    result.insert(1, "validation cases", first["n_validation"].astype(str) + trust)
    result.insert(2, "n", first["n"])
    result.columns.name = _tested_on(setup)
    return result


def _sensitivity_table(setup: RunSetup) -> pd.DataFrame:
    """Rows marker and disturbance; AUC beside that of the same cases left alone, change of the logit, flipped decisions."""
    table = sensitivity_table(sensitivity_rows(setup))
    if table.empty:
        return pd.DataFrame()
    rows = []
    for _, row in table.iterrows():
        unknown = pd.isna(row["auc"])
        rows.append(
            {
                "marker": row["marker"], "class": row["class"], "disturbance": row["disturbance"], "n": row["n"],
                "AUC": estimate_text(row["auc"], row["low"], row["high"], subjects=row["n_subjects"]),
                "AUC undisturbed": "-" if unknown else f"{row['undisturbed']:.3f}",
                "change of the logit": f"{row['change']:.3f}", "decisions changed": f"{row['flipped']:.0%}",
            }
        )  # fmt: skip
    result = pd.DataFrame(rows).set_index(["marker", "class", "disturbance"])
    result.columns.name = _tested_on(setup)
    return result


def best_curves(cohort: Cohort, markers: pd.DataFrame, split: str = "test") -> dict[tuple[str, str], np.ndarray]:
    """(marker, class) -> best possible probabilities of a phantom, aligned with the rows of known truth of that split."""
    truth = cohort.truth
    if truth is None:
        return {}
    rows = markers[(markers["split"] == split) & markers["truth"].notna()]
    found = {}
    for (marker, name), group in rows.groupby(["marker", "class"], sort=False):
        wanted = f"grade{name}" if marker == "grade" else str(marker)
        if f"posterior_{wanted}" in truth.columns:
            found[str(marker), str(name)] = (
                truth.set_index("case").loc[group["case"], f"posterior_{wanted}"].to_numpy(dtype=float)
            )
    return found


def picture(run: RunFolder, name: str, figure: Figure) -> Image:
    """Keep a figure as PNG and PDF under `figures` and return it for display."""
    for suffix in ("png", "pdf"):
        with atomic_path(run.path("figures", f"{name}.{suffix}")) as temporary:
            figure.savefig(
                temporary, format=suffix, facecolor="white", metadata={"CreationDate": None} if suffix == "pdf" else None
            )
    register(run.folder, *(f"figures/{name}.{suffix}" for suffix in ("png", "pdf")))
    return still(figure, name)


def remarks(setup: RunSetup) -> Markdown:
    """What belongs beside the results: notes, budget, phantom notice."""
    training = setup.training
    budget = training["budget"]
    lines = [
        f"Best checkpoint: step {training['best_step']} of {training['steps']} ({training['score']}).",
        f"Budget: {budget['steps']} optimiser steps, {budget['samples']} samples, {budget['seconds']:.0f} s "
        f"on {budget['device']} with {budget['threads']} threads.",
        *dict.fromkeys([*training["notes"], *setup.notes]),
    ]
    if setup.cohort.info.phantom:
        lines.append("Phantom results: synthetic images, never clinical evidence.")
    if setup.parameters.size == "demo":
        lines.append("Demo size: a small network trained briefly; it shows that everything works, not how good the method is.")
    return sentences("\n".join(f"- {line}" for line in lines))

"""Test cases under every subset of their sequences: the rows behind the tables and pictures of `evaluation.robustness`."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd

from workbench.contracts import JUDGED
from workbench.errors import RunError
from workbench.evaluation.robustness import (
    added_sequence,
    by_number,
    marker_scores,
    markers_by_subset,
    segmentation_by_subset,
    split_names,
    subset_order,
)
from workbench.evaluation.segmentation import case_metrics
from workbench.files import write_parquet
from workbench.inference.export import native_logits
from workbench.inference.predict import CasePrediction
from workbench.inference.subsets import predict_subsets
from workbench.prepare.images import native_brain, native_labels
from workbench.records.provenance import register
from workbench.records.run_folder import SUBSET_MARKERS_FILE, SUBSET_METRICS_FILE
from workbench.sampling.dropout import subsets
from workbench.setup.run_setup import RunSetup
from workbench.steps.long_tables import MARKER_COLUMNS, METRIC_COLUMNS, case_columns, judged_regions, marker_rows

FEW = 6
"""Cases that `subsets=few` judges."""
MOST = 6
"""A case with more sequences than this would have more than 63 subsets: then only those of one, of two and of all but one."""
_UNDER_WAY = "subsets"


def evaluate_subsets(setup: RunSetup, *, every: bool = False) -> None:
    """Write `subset_metrics.parquet` and `subset_markers.parquet`: rows as in the run's own tables, one set per subset.

    Each case is kept as soon as it is done, so that this can be interrupted. Where the tables are there nothing is done, also
    where they hold a few cases only. `every`: all test and external cases are judged, whatever the run's `subsets` says.
    """
    run = setup.run
    wanted = "all" if every else setup.parameters.subsets
    if wanted == "none" or (run.folder / SUBSET_MARKERS_FILE).is_file():
        return
    if not setup.trained:
        raise RunError(f"run {run.folder} is not trained yet: call .train() before its subsets are judged")
    rows = judged_cases(setup, wanted)
    model = setup.trained_model()
    for row in setup.progress.over(rows, "judging subsets", len(rows)):
        if not _kept(setup, row, SUBSET_MARKERS_FILE).is_file():
            metrics, markers = _judge(setup, model, row)
            write_parquet(_kept(setup, row, SUBSET_METRICS_FILE), metrics)
            write_parquet(_kept(setup, row, SUBSET_MARKERS_FILE), markers)  # last: it says that the case is done
    for name, columns in ((SUBSET_METRICS_FILE, METRIC_COLUMNS), (SUBSET_MARKERS_FILE, MARKER_COLUMNS)):
        parts = [part for row in rows if len(part := pd.read_parquet(_kept(setup, row, name)))]
        write_parquet(run.path(name), pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns))
    # with whatever a killed process left there
    shutil.rmtree(run.folder / _UNDER_WAY, ignore_errors=True)
    register(run.folder, SUBSET_METRICS_FILE, SUBSET_MARKERS_FILE)


def judged_cases(setup: RunSetup, wanted: str) -> list[pd.Series]:
    """`all`: test cases, then external ones; `few`: the test cases with the most sequences."""
    if wanted != "few":
        table = pd.concat([setup.cases_by_split[name] for name in JUDGED])
    else:
        table = setup.cases_by_split["test"]
        acquired = table[list(setup.modalities)].notna().sum(axis=1)
        table = table.loc[acquired.sort_values(ascending=False, kind="stable").index[:FEW].sort_values()]
    return [row for _, row in table.iterrows()]


def shown_sets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The subsets that a case with these sequences is judged under, smallest first."""
    every = subsets(names)
    if len(names) <= MOST:
        return every
    return [chosen for chosen in every if len(chosen) <= 2 or len(chosen) >= len(names) - 1]


def _judge(setup: RunSetup, model: Any, row: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    case = setup.prepared.case(row["case"])
    there = {name for name, has in zip(case.modalities, case.present, strict=True) if has}
    sets = shown_sets(tuple(name for name in setup.modalities if name in there))
    truth = native_labels(setup.cohort, case.name)
    brain = None if truth is None else native_brain(setup.cohort, case.name)
    metrics, markers = [], []
    for predicted in predict_subsets(
        model, case, sets, modalities=setup.modalities, patch=setup.patch, device=setup.device, segments=setup.segments,
        **setup.parameters.inference(),
    ):  # fmt: skip
        named = {"present": "+".join(predicted.present)}
        if truth is not None and predicted.logits is not None:
            metrics.append(_measured(setup, row, case, predicted, truth, brain).assign(**named))
        markers.append(marker_rows(setup, row, predicted.markers).assign(**named))
    judged = pd.concat(metrics, ignore_index=True)[METRIC_COLUMNS] if metrics else pd.DataFrame(columns=METRIC_COLUMNS)
    return judged, pd.concat(markers, ignore_index=True)[MARKER_COLUMNS]


def _measured(setup: RunSetup, row: pd.Series, case: Any, predicted: CasePrediction, truth: Any, brain: Any) -> pd.DataFrame:
    labels = native_logits(predicted, case).argmax(axis=0).astype("uint8")
    return case_metrics(labels, truth, brain, case.native, judged_regions(setup, row)).assign(**case_columns(setup, row))


def _kept(setup: RunSetup, row: pd.Series, name: str) -> Any:
    return setup.run.path(_UNDER_WAY, f"{row['case']}.{name}")


def subset_results(setup: RunSetup) -> dict[str, pd.DataFrame]:
    """The tables of `evaluation.robustness` for this run: 'segmentation' and 'markers' per subset, 'number', 'added'; empty
    where nothing was judged."""
    metrics, markers = setup.run.subset_metrics(), setup.run.subset_markers()
    n = setup.parameters.resamples
    if metrics is None or markers is None:
        empty = pd.DataFrame()
        return {"segmentation": empty, "markers": empty, "number": empty, "added": empty}
    scores = pd.concat([metrics[metrics["metric"] == "dice"], marker_scores(markers)], ignore_index=True)
    return {
        "segmentation": segmentation_by_subset(metrics, resamples=n),
        "markers": markers_by_subset(markers),
        "number": by_number(scores, resamples=n),
        "added": added_sequence(scores),
    }


def untrained_subsets(setup: RunSetup) -> list[str]:
    """The judged subsets that no training case showed, as tables name them.

    A training case with drop-out of sequences shows all subsets of what it has; without, only all that it has.
    """
    training = setup.cases_by_split["train"][list(setup.learned_modalities)].notna()
    shown = {frozenset(row.index[row]) for _, row in training.iterrows()}
    metrics, markers = setup.run.subset_metrics(), setup.run.subset_markers()
    judged = {p for table in (metrics, markers) if table is not None for p in table["present"]}
    drops = bool(setup.parameters.modality_dropout) or setup.network.draws_subsets

    def trained(present: str) -> bool:
        names = frozenset(split_names(present))
        return any(names <= have for have in shown) if drops else names in shown

    return [p for p in subset_order(judged, setup.modalities) if not trained(p)]

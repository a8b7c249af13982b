"""The folds of a cross-validation as one run: every subject judged once, by the model that never saw it.

Test rows of all folds stand in one table. Validation rows are kept with their fold, so that a threshold chosen on a fold's
validation cases judges that fold's test cases only. External cases were predicted by the models of all folds: here they have one
prediction, the mean of the folds' probabilities. AUCs are over the pooled probabilities of several models, which may be
calibrated differently: the mean of the folds' own AUCs is another, usually slightly higher, number. Where runs are compared, an
AUC counts pairs of cases within a fold instead (`evaluation.run_comparison`, `evaluation.pairwise`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.cohort.folds import read_folds
from workbench.contracts import PRETRAINING
from workbench.errors import InputError, Problem, RunError, WorkbenchError
from workbench.evaluation.markers import log_odds
from workbench.evaluation.thresholds import ALL_FOLDS
from workbench.files import atomic_path, value_digest, write_json, write_parquet
from workbench.models.catalogue import CARDS
from workbench.records.environment import code_version, environment
from workbench.records.pretrained import PRETRAINED_FILE, PretrainedRecord, read_pretrained_record
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import (
    FITTED_FILE,
    MARKERS_FILE,
    METRICS_FILE,
    SUBSET_MARKERS_FILE,
    SUBSET_METRICS_FILE,
    RunFolder,
)
from workbench.records.spec import IMPORTED, POOLED, SCHEMA_VERSION
from workbench.steps.headline import write_headline

_SUMMED = ("steps", "samples", "flops", "seconds")
_SEVERITY = ("contaminated", "unknown", "clean", "")


def pool(runs: Sequence[str | Path | RunFolder], *, external: bool = True, progress: bool = True) -> RunFolder:
    """Make the pooled run of completed fold runs; where it is there already, open it.

    Args:
        runs: the runs of all folds, in any order: same experiment, method, cohort and parameters, only the fold differs.
        external: also external cases, where the folds judged some; masks need the folds' checkpoints, since the folds' models
            predict the cases together.
        progress: show progress where they do.

    Returns:
        The completed run folder, beside its folds. Its spec has `fold` 'all' and says under `derived` what it was made of.

    Raises:
        RunError: the runs do not go together, a fold is missing, or one is not completed; the message names it.
        InputError: a subject is tested by two folds, or by none.
    """
    opened = [run if isinstance(run, RunFolder) else RunFolder.open(run) for run in runs]
    folds = _checked(opened)
    opened = [folds[fold] for fold in sorted(folds)]
    _check_cases(opened)
    run = RunFolder.create(opened[0].folder.parent, _spec(opened, external))
    if run.status["state"] == "completed":
        return run
    run.claim()
    try:
        with run.beating():
            notes = _fill(run, opened, external, progress)
    except BaseException as error:
        state = "failed" if isinstance(error, Exception) else "interrupted"
        run.set_status(state, error=f"{type(error).__name__}: {error}")
        raise
    run.set_status("completed", budget=_budget(opened), notes=notes or None)
    write_artefacts(run, step="pool")
    return run


# -- what goes together ----------------------------------------------------------------------------------------------------


def _checked(runs: Sequence[RunFolder]) -> dict[int, RunFolder]:
    """The runs by fold."""
    if len(runs) < 2:
        raise RunError("pooling needs the runs of at least two folds")
    first = runs[0]
    found: dict[int, RunFolder] = {}
    for run in runs:
        if (kind := (run.spec.get("derived") or {}).get("kind")) in (POOLED, IMPORTED):
            raise RunError(f"run {run.folder} is {kind}, not the training of a fold: pool the runs of single folds")
        if (state := run.effective_state()) != "completed":
            raise RunError(f"run {run.folder} is {state}, not completed: run it again first")
        if run.metrics() is None:
            raise RunError(f"run {run.folder} is not evaluated: it has no {METRICS_FILE}")
        _same(first, run)
        fold = int(run.spec["parameters"].get("fold", 0))
        if fold in found and found[fold].folder.resolve() != run.folder.resolve():
            raise RunError(f"{found[fold].folder} and {run.folder} are both fold {fold}: pool one run of each fold")
        if fold in found:
            raise RunError(f"run {run.folder} is named twice")
        found[fold] = run
    expected = set(range(_fold_count(first) or max(found) + 1))
    if missing := sorted(expected - set(found)):
        raise RunError(
            f"fold {', '.join(map(str, missing))} of cohort {first.spec['cohort']['name']} is missing: pooled results are "
            f"those of all folds; `workbench run {first.spec['method']} -p fold=all` with these parameters runs what is missing"
        )
    return found


def _same(first: RunFolder, run: RunFolder) -> None:
    if run.folder.resolve().parent != first.folder.resolve().parent:
        raise RunError(
            f"{first.folder} and {run.folder} are of different experiments: folds that are pooled lie beside each other"
        )
    for what, one, other in (
        ("methods", first.spec["method"], run.spec["method"]),
        ("cohorts", first.spec["cohort"]["fingerprint"], run.spec["cohort"]["fingerprint"]),
        ("trainings", *((side.spec.get("derived") or {}).get("kind", "in one go") for side in (first, run))),
    ):
        if one != other:
            raise RunError(f"{first.folder} and {run.folder} are of different {what} ({one}, {other}): they are not folds of one")
    one, other = ({k: v for k, v in side.spec["parameters"].items() if k != "fold"} for side in (first, run))
    if differ := sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k)):
        listed = ", ".join(f"{k} ({one.get(k)!r}, {other.get(k)!r})" for k in differ)
        raise RunError(f"{first.folder} and {run.folder} differ in more than their fold: {listed}")


def _fold_count(run: RunFolder) -> int | None:
    """How many folds the runs' cohort has; None where it is not there any more, or not what it was."""
    with suppress(WorkbenchError, OSError):
        return len(read_folds(run.unchanged_cohort("has no number of folds")))
    return None


def _check_cases(runs: Sequence[RunFolder]) -> None:
    """Every subject is tested by exactly one fold, and whoever is validated on is tested somewhere."""
    tested, validated = [], []
    for run in runs:
        for table in (run.metrics(), run.markers()):
            if table is not None and len(table):
                cases = table[["case", "subject", "split"]].drop_duplicates().assign(run=run.folder.name)
                tested.append(cases[cases["split"] == "test"])
                validated.append(cases[cases["split"] == "validation"])
    test = pd.concat(tested).drop_duplicates() if tested else pd.DataFrame(columns=["case", "subject", "run"])
    if test.empty:
        raise RunError(f"none of the runs in {runs[0].folder.parent} has results of test cases: there is nothing to pool")
    remedy = "were the folds dealt anew between the runs? Run all folds on the same folds.json"
    counts = test.groupby("subject")["run"].unique()
    problems = [
        Problem(
            case=str(subject), message=f"the subject is tested by {len(names)} runs: {', '.join(sorted(names))}", remedy=remedy
        )
        for subject, names in counts[counts.map(len) > 1].items()
    ]
    never = pd.concat(validated).drop_duplicates("subject")
    never = never[~never["subject"].isin(set(test["subject"]))]
    problems += [
        Problem(
            case=str(row["subject"]), message=f"the subject is validated on by {row['run']} and tested by none", remedy=remedy
        )
        for _, row in never.iterrows()
    ]
    if problems:
        raise InputError(*problems)


def _spec(runs: Sequence[RunFolder], external: bool) -> dict[str, Any]:
    first = runs[0].spec
    parents = [run.spec["run"] for run in runs]
    made_of = [POOLED, parents, first["cohort"]["fingerprint"], *([] if external else ["without external cases"])]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": value_digest(made_of, 12),
        "method": first["method"],
        "experiment": first["experiment"],
        "parameters": first["parameters"] | {"fold": "all"},
        "cohort": first["cohort"],
        "derived": {"kind": POOLED, "parents": parents, "folds": [run.spec["parameters"].get("fold", 0) for run in runs]},
        "code_version": code_version(),
        "environment": environment(),
        "threads": first["threads"],
    }


# -- what it is made of ----------------------------------------------------------------------------------------------------


def _fill(run: RunFolder, parents: Sequence[RunFolder], external: bool, progress: bool) -> list[str]:
    """Write everything; returns what belongs beside the results."""
    notes: list[str] = []
    metrics, markers = ([getattr(parent, name)() for parent in parents] for name in ("metrics", "markers"))
    pooled = {METRICS_FILE: [_inner(table) for table in metrics]}
    if all(table is not None for table in markers):
        pooled[MARKERS_FILE] = [_inner(table) for table in markers]
        notes += _uneven(markers)
        if external:
            averaged, lacking = mean_markers([table[table["split"] == "external"] for table in markers])
            pooled[MARKERS_FILE].append(averaged)
            notes += lacking
    there = any((table["split"] == "external").any() for table in [*metrics, *markers] if table is not None)
    if there and not external:
        notes.append("external cases were left out on request")
    elif any((table["split"] == "external").any() for table in metrics):
        if CARDS.get(run.spec["method"]) and PRETRAINING in CARDS[run.spec["method"]].tasks:
            notes.append("external cases were judged by each fold's encoder alone and are left out here")
        else:
            from workbench.experiments.pooling_external import judge_external

            pooled[METRICS_FILE].append(judge_external(run, parents, progress=progress))
    _link_predictions(run, parents)
    _keep_pretrained(run, parents)
    notes += _pool_subsets(run, parents)
    if MARKERS_FILE in pooled:
        from workbench.evaluation.decisions import fitted_artefact

        together = _together(pooled[MARKERS_FILE])
        write_parquet(run.path(MARKERS_FILE), together)
        write_json(run.path(FITTED_FILE), fitted_artefact(together, run.spec["run"]))
    write_parquet(run.path(METRICS_FILE), _together(pooled[METRICS_FILE]))
    write_headline(run, int(run.spec["parameters"].get("resamples", 1000)))
    return notes


def _inner(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"].isin(["test", "validation"])]


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table, test rows first; empty parts do not decide on the columns' types."""
    filled = [table for table in tables if len(table)] or tables[:1]
    table = pd.concat(filled, ignore_index=True)
    order = table["split"].map({"test": 0, "validation": 1}).fillna(2)
    return table.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


def mean_markers(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, list[str]]:
    """The folds' marker rows of the same cases as one set: mean probability, its log-odds as logit, fold -1.

    Returns:
        The rows, and a sentence where a marker was left out because not every fold predicts it.

    Raises:
        InputError: the folds did not predict the same cases.
    """
    filled = [table for table in tables if len(table)]
    if not filled:
        return tables[0], []
    key = ["case", "present", "marker", "class"]
    kinds = [set(zip(table["marker"], table["class"], strict=True)) for table in tables]
    shared = set.intersection(*kinds)
    lacking = sorted({str(marker) for kind in kinds for marker, _ in kind - shared})
    notes = [f"external cases: {', '.join(lacking)} is not predicted by every fold and left out"] if lacking else []
    chosen = [t[[pair in shared for pair in zip(t["marker"], t["class"], strict=True)]].set_index(key) for t in filled]
    for table in chosen[1:]:
        differ = chosen[0].index.symmetric_difference(table.index)
        if len(differ):
            remedy = "run the folds again on the same cohort"
            cases = sorted({str(entry[0]) for entry in differ})
            raise InputError(
                *(Problem(case=case, message="not predicted alike by every fold", remedy=remedy) for case in cases[:8])
            )
    mean = np.mean([table["probability"].reindex(chosen[0].index).to_numpy(np.float64) for table in chosen], axis=0)
    columns = list(filled[0].columns)
    return chosen[0].assign(fold=ALL_FOLDS, probability=mean, logit=log_odds(mean)).reset_index()[columns], notes


def _uneven(tables: Sequence[pd.DataFrame]) -> list[str]:
    """A sentence for each marker that some folds could not learn: its pooled numbers are over the others' cases."""
    sets = [set(table.loc[table["split"] == "test", "marker"]) for table in tables]
    return [
        f"{marker} is predicted by {sum(marker in there for there in sets)} of {len(sets)} folds: its pooled results are over "
        "their test cases only"
        for marker in sorted(set.union(*sets))
        if not all(marker in there for there in sets)
    ]


def _pool_subsets(run: RunFolder, parents: Sequence[RunFolder]) -> list[str]:
    """Test cases under subsets, where all folds have them. Returns what belongs beside the results."""
    tables = [(parent.subset_metrics(), parent.subset_markers()) for parent in parents]
    there = [parent for parent, (_, markers) in zip(parents, tables, strict=True) if markers is not None]
    if not there:
        return []
    if len(there) < len(parents):
        missing = ", ".join(parent.folder.name for parent in parents if parent not in there)
        return [f"subsets of sequences are not pooled: {missing} was not judged under them (`workbench robustness RUN`)"]
    notes: list[str] = []
    for name, index in ((SUBSET_METRICS_FILE, 0), (SUBSET_MARKERS_FILE, 1)):
        parts = [pair[index] for pair in tables]
        if any(len(t) and (t["split"] == "external").any() for t in parts if t is not None) and not notes:
            notes.append("external cases under subsets of sequences are in the folds' runs, each fold by itself")
        test = [t[t["split"] == "test"] for t in parts if t is not None]
        filled = [t for t in test if len(t)] or test[:1]
        if filled:
            write_parquet(run.path(name), pd.concat(filled, ignore_index=True))
    return notes


def _link_predictions(run: RunFolder, parents: Sequence[RunFolder]) -> None:
    """The test cases' masks and logits, from the fold that tested them: as hard links, or copies where the disk has none."""
    for parent in parents:
        tables = [table for table in (parent.metrics(), parent.markers()) if table is not None and len(table)]
        cases = {str(case) for table in tables for case in table.loc[table["split"] == "test", "case"]}
        for case in sorted(cases):
            for name in (f"{case}.nii.gz", f"{case}.json"):
                if (source := parent.folder / "predictions" / name).is_file():
                    link_or_copy(source, run.path("predictions", name))


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at `target` as a hard link, or as a copy where that cannot be; what stands there is replaced."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def _keep_pretrained(run: RunFolder, parents: Sequence[RunFolder]) -> None:
    """The most worrying of the folds' accounts of pretrained weights: it holds for what is pooled."""
    records: list[PretrainedRecord] = [read_pretrained_record(parent.folder) for parent in parents]
    worst = min(range(len(parents)), key=lambda index: _SEVERITY.index(records[index].verdict))
    if records[worst].document is not None:
        write_json(run.path(PRETRAINED_FILE), records[worst].document)
    elif records[worst].verdict:
        link_or_copy(parents[worst].folder / PRETRAINED_FILE, run.path(PRETRAINED_FILE))


def _budget(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What all folds spent together; a number that one fold does not know is left out."""
    spent = [run.status.get("budget") or {} for run in runs]
    numbers = {key: [budget.get(key) for budget in spent] for key in _SUMMED}
    return {key: sum(values) for key, values in numbers.items() if all(isinstance(v, int | float) for v in values)}

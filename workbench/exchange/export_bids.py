"""Predicted masks as a BIDS derivative dataset: names, side-cars and label tables that other tools read without asking.

After the Brain Imaging Data Structure 1.10, 'Derivatives': discrete segmentations `*_dseg.nii.gz` with a label table
`*_dseg.tsv`, `desc` telling runs apart, `space-orig` for the grid of the case's own images. Marker probabilities are a table in
`phenotype/`. BIDS labels are letters and digits only: names.tsv says which case is which.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import __version__
from workbench.cohort.table import Cohort
from workbench.contracts import JUDGED
from workbench.errors import InputError, Problem, RunError, WorkbenchError
from workbench.exchange.export_csv import write_csv
from workbench.exchange.export_tables import PHANTOM_NOTICE, open_runs, refuse_run_folder
from workbench.files import atomic_path, read_json, write_json, write_text
from workbench.labels import LABEL_NAMES, LABEL_SET_CLASSES, convention
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.records.spec import IMPORTED, POOLED, run_name

BIDS_VERSION = "1.10.0"
NAMES_FILE, DESCRIPTION_FILE = "names.tsv", "dataset_description.json"
LABEL_TITLES = {
    "NCR": "necrotic or non-enhancing tumour core", "ED": "oedema and infiltration", "ET": "enhancing tumour",
    "RC": "resection cavity",
}  # fmt: skip
_SINGLE = {"WT": ("WT", "whole tumour"), "lesion": ("lesion", "lesion")}
"""Label set of one class -> abbreviation and name of label 1."""


def export_bids(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write the predictions of runs on one cohort as a BIDS derivative dataset.

    Args:
        folders: completed run folders; each gets a `desc` of its own, its method and the beginning of its id.
        out: folder of the dataset: new, empty, or one that this command wrote for the same cohort.

    Raises:
        RunError: a run has no predictions, its cohort is gone, or the runs are of several cohorts.
        InputError: two subjects or sessions would get the same BIDS label.
        WorkbenchError: `out` holds something else.
    """
    runs = open_runs(folders)
    cohort = _cohort(runs)
    names = bids_names(cohort.cases[["case", "subject", "timepoint"]])
    chosen = {run.folder.name: _predicted(run, names) for run in runs}
    out = Path(out)
    refuse_run_folder(out)
    _refuse_others(out, cohort)
    for run in runs:
        metrics = run.metrics()
        splits = {} if metrics is None else dict(metrics.drop_duplicates("case")[["case", "split"]].to_numpy().tolist())
        for case, source in chosen[run.folder.name].items():
            stem = _stem(str(names.loc[case, "subject"]), str(names.loc[case, "session"]), _desc(run))
            target = out / stem.parent / f"{stem.name}_dseg.nii.gz"
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)  # no hard link: who corrects a mask there does not change the run
            label_set = mask_label_set(run, cohort, case)
            write_json(target.with_name(f"{stem.name}_dseg.json"), _sidecar(run, cohort, case, splits.get(case), label_set))
            write_csv(_label_table(label_set), target.with_name(f"{stem.name}_dseg.tsv"), "\t", "n/a")
        _write_markers(run, names, out)
    _write_head(out, cohort, names, runs)
    return out


def bids_label(text: str) -> str:
    """Letters and digits of a name: all that a BIDS label may hold."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def bids_names(cases: pd.DataFrame) -> pd.DataFrame:
    """Index case; columns subject (BIDS label) and session (BIDS label; empty where no subject has several cases).

    Args:
        cases: columns case, subject, timepoint.

    Raises:
        InputError: two subjects, or two cases of a subject, would get the same label, or one would have none.
    """
    several = bool(cases["subject"].duplicated().any())
    rows, problems = [], []
    for case, subject, timepoint in cases[["case", "subject", "timepoint"]].itertuples(index=False, name=None):
        number = 1 + int((cases.loc[cases["subject"] == subject, "case"].astype(str) < str(case)).sum())
        session = f"{number:02d}" if pd.isna(timepoint) else bids_label(str(timepoint))
        rows.append({"case": str(case), "source": str(subject), "subject": bids_label(str(subject))}
                    | {"session": session if several else ""})  # fmt: skip
        if not bids_label(str(subject)) or (several and not session):
            problems.append(Problem(case=str(case), message="its name has neither letters nor digits, so that BIDS has no label"))
    table = pd.DataFrame(rows)
    folded = table.assign(key=table["subject"].str.lower())  # some file systems do not tell case apart
    for label, part in folded.groupby("key"):
        if part["source"].nunique() > 1:
            listed = ", ".join(sorted(part["source"].unique()))
            problems.append(Problem(message=f"subjects {listed} would all be 'sub-{label}'", remedy="rename them in the cohort"))
        elif part.assign(low=part["session"].str.lower()).duplicated(["low"]).any():
            listed = ", ".join(part["case"])
            message = f"cases {listed} of one subject would have the same session"
            problems.append(Problem(message=message, remedy="give them different timepoints in the cohort"))
    if problems:
        raise InputError(*problems)
    return table.set_index("case")


def _cohort(runs: Sequence[RunFolder]) -> Cohort:
    prints = {str(run.spec["cohort"]["fingerprint"]) for run in runs}
    if len(prints) > 1:
        listed = ", ".join(sorted({str(run.spec["cohort"]["name"]) for run in runs}))
        raise RunError(f"the runs are of different cohorts ({listed}): a BIDS dataset is of one; export them apart")
    return runs[0].unchanged_cohort("cannot be exported")


def _predicted(run: RunFolder, names: pd.DataFrame) -> dict[str, Path]:
    """Case -> predicted mask."""
    if (state := run.effective_state()) != "completed":
        raise RunError(f"run {run.folder} is {state}, not completed: its predictions are not all there")
    found = {str(case): run.folder / "predictions" / f"{case}.nii.gz" for case in names.index}
    found = {case: path for case, path in found.items() if path.is_file()}
    markers = run.markers()
    if not found and (markers is None or markers.empty):
        raise RunError(f"run {run.folder} has neither predicted masks nor marker probabilities to export")
    return found


def _refuse_others(out: Path, cohort: Cohort) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        version = read_json(out / DESCRIPTION_FILE)["SourceDatasets"][0]["Version"]
    except (WorkbenchError, KeyError, IndexError, TypeError):
        version = None
    if version != cohort.fingerprint():
        raise WorkbenchError(
            f"{out} is not empty, and not a BIDS export of cohort {cohort.info.name} as it is: choose another --out"
        )


def _desc(run: RunFolder) -> str:
    return f"{bids_label(run_name(run.spec))}{run.spec['run'][:6]}"


def _stem(subject: str, session: str, desc: str) -> Path:
    folders = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
    return Path(*folders, "anat", "_".join([*folders, "space-orig", f"desc-{desc}"]))


def mask_label_set(run: RunFolder, cohort: Cohort, case: str) -> str:
    """What the labels of a predicted mask stand for: those that its model tells apart, which the case's truth may not, or finer.

    Two classes are a whole tumour or a lesion, whatever the truth of a case calls it (`labels.judged_regions`).
    """
    drawn, derived = str(cohort.row(case)["labels"]), run.spec.get("derived") or {}
    if derived.get("kind") == IMPORTED:  # written as `labels.as_drawn`
        own = convention(str(run.spec["parameters"]["labels"])).label_set
        return drawn if drawn in _SINGLE else own
    trained = run.folder.parent / derived["parents"][0] if derived.get("kind") == POOLED else run.folder
    known = list(cohort.cases["labels"].dropna())
    if (said := trained / TRAINING_FILE).is_file():
        classes = int(read_json(said)["model"]["classes"])
    else:  # pooled, and its folds are gone: what a training on this cohort tells apart
        classes = max((LABEL_SET_CLASSES[name] for name in known), default=2)
    if classes > 2:
        return next(name for name, count in LABEL_SET_CLASSES.items() if count == classes)
    return drawn if drawn in _SINGLE else next((name for name in known if name in _SINGLE), "WT")


def _sidecar(run: RunFolder, cohort: Cohort, case: str, split: str | None, label_set: str) -> dict[str, Any]:
    return {
        "Description": f"Segmentation predicted by {run_name(run.spec)}, run {run.spec['run']}",
        "SpatialReference": "orig",
        "Manual": False,
        "CohortCase": case,
        "Split": split,
        "LabelSet": label_set,
        "Phantom": cohort.info.phantom,
    }


def _label_table(label_set: str) -> pd.DataFrame:
    """The look-up table of a case's mask: index, name, abbreviation."""
    if label_set in _SINGLE:
        short, title = _SINGLE[label_set]
        entries = [(1, title, short)]
    else:
        entries = [(label, LABEL_TITLES[short], short) for label, short in LABEL_NAMES.items()]
    return pd.DataFrame([(0, "background", "BG"), *entries], columns=["index", "name", "abbreviation"])


def _write_markers(run: RunFolder, names: pd.DataFrame, out: Path) -> None:
    """Probabilities of a run's test and external cases: a row per case, a column per marker class."""
    markers = run.markers()
    if markers is None or markers.empty:
        return
    shown = markers[markers["split"].isin(JUDGED)]
    columns = [f"{m}_{bids_label(str(c)).lower()}" for m, c in zip(shown["marker"], shown["class"], strict=True)]
    wide = shown.assign(column=columns).pivot(index=["case", "split"], columns="column", values="probability").reset_index()
    wide.insert(0, "participant_id", ["sub-" + str(names.loc[case, "subject"]) for case in wide["case"]])
    if names["session"].any():
        wide.insert(1, "session_id", ["ses-" + str(names.loc[case, "session"]) for case in wide["case"]])
    path = out / "phenotype" / f"markers{_desc(run)}.tsv"
    write_csv(wide.drop(columns="case"), path, "\t", "n/a")
    described = {name: {"Description": f"Predicted probability: {name.replace('_', ', ')}"} for name in dict.fromkeys(columns)}
    described["split"] = {"Description": "Role of the case: test, or external (a site that no model was trained on)"}
    about = {"Description": f"Marker probabilities predicted by {run_name(run.spec)}, run {run.spec['run']}, not calibrated"}
    write_json(path.with_suffix(".json"), {"MeasurementToolMetadata": about, **described})


def _write_head(out: Path, cohort: Cohort, names: pd.DataFrame, runs: Sequence[RunFolder]) -> None:
    """What describes the dataset as a whole, last: its presence says that the export is whole."""
    descriptions = out / "descriptions.tsv"
    known = pd.read_csv(descriptions, sep="\t", dtype=str) if descriptions.is_file() else pd.DataFrame()
    mine = pd.DataFrame(
        [{"desc_id": f"desc-{_desc(run)}", "description": f"{run_name(run.spec)}, run {run.spec['run']}, fold "
          f"{run.spec['parameters'].get('fold', 'not said')}, workbench {run.spec['code_version']}"} for run in runs]
    )  # fmt: skip
    write_csv(pd.concat([known, mine]).drop_duplicates("desc_id", keep="last"), descriptions, "\t", "n/a")
    if there := sorted(path.name for path in out.glob("sub-*")):  # none of a run of markers alone: BIDS wants no list then
        write_csv(pd.DataFrame({"participant_id": there}), out / "participants.tsv", "\t", "n/a")
    write_csv(names.reset_index().rename(columns={"source": "cohort_subject"}), out / NAMES_FILE, "\t", "n/a")
    write_text(out / ".bidsignore", f"{NAMES_FILE}\n")
    notice = f"\n{PHANTOM_NOTICE}\n" if cohort.info.phantom else ""
    write_text(
        out / "README",
        f"Predictions of the Brain MRI Workbench on cohort {cohort.info.name}, in the grids of its images.\n"
        f"descriptions.tsv says which desc is which run, {NAMES_FILE} which sub (and ses) is which case of the cohort,\n"
        f"*_dseg.tsv what the labels are.\n{notice}",
    )
    write_json(
        out / DESCRIPTION_FILE,
        {
            "Name": f"{cohort.info.name}: predictions{' (phantom)' if cohort.info.phantom else ''}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            **({"License": cohort.info.licence} if cohort.info.licence else {}),
            "GeneratedBy": [
                {
                    "Name": "Brain MRI Workbench",
                    "Version": __version__,
                    "Description": "descriptions.tsv names the run behind each desc",
                }
            ],
            "SourceDatasets": [{"Version": cohort.fingerprint(), **_source(cohort.info.source)}],
        },
    )


def _source(text: str) -> dict[str, str]:
    """Where the cohort came from, where its description gives an address."""
    return {"URL": text.strip()} if re.fullmatch(r"https?://\S+", text.strip()) else {}

"""The truth of a phantom cohort as a table. Needs no image: thousands of rows take a second."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from workbench.cohort.phantom.classes import Subject, draw_subject
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import EXTRA
from workbench.cohort.phantom.posterior import posterior
from workbench.cohort.phantom.signals import MARKER_COLUMNS, deal_markers
from workbench.cohort.phantom.surgery import draw_plan
from workbench.errors import ParameterError


def case_name(index: int, timepoint: str = "000") -> str:
    """Name of a subject's session; 000 is the only one before surgery, 100, 101, ... are those after it, as in BraTS."""
    return f"PHANTOM-{index:05d}-{timepoint}"


def case_names(index: int, seed: int, options: PhantomOptions) -> list[str]:
    """Names of all sessions of a subject, in order of time."""
    if options.stage == "preoperative":
        return [case_name(index)]
    return [case_name(index, f"{100 + session}") for session in range(draw_plan(seed, index, options).sessions)]


def make_truth(
    subjects: int, seed: int, signal: str, options: PhantomOptions, facts: list[dict[str, Any]] | None = None
) -> pd.DataFrame:
    """All draws and posteriors of a cohort, without making an image: one row per case.

    Marker columns are as dealt to the cohort's table; `drawn_*` are those the image was made from (they differ in the permuted
    modes only).

    Args:
        facts: what came out for each case, in the order of `case_names` of all subjects: its columns are added. After surgery it
            is needed, since only the grown tumour says which signs still show.

    Raises:
        ParameterError: no `facts` for the post-treatment stage.
    """
    if options.stage != "preoperative" and facts is None:
        raise ParameterError(
            "what shows after surgery is known only once the tumours were grown: make the phantom, read its truth"
        )
    drawn = [draw_subject(seed, index, options, signal) for index in range(subjects)]
    truth = pd.DataFrame([_row(subject) for subject in drawn])
    for marker in MARKER_COLUMNS:
        truth[f"drawn_{marker}"] = truth[marker]
    truth[list(MARKER_COLUMNS)] = deal_markers(truth, seed, signal)
    if options.stage != "preoperative":
        names = [case_names(index, seed, options) for index in range(subjects)]
        truth = truth.loc[[index for index, sessions in enumerate(names) for _ in sessions]].reset_index(drop=True)
        truth["case"] = [name for sessions in names for name in sessions]
    found = pd.DataFrame(facts, index=truth.index)
    for with_age, suffix in ((False, ""), (True, "_with_age")):
        table = posterior(pd.concat([truth, found], axis=1), options, signal, with_age=with_age)
        for column in table.columns:
            truth[f"posterior_{column}{suffix}"] = table[column]
    return pd.concat([truth, found], axis=1)


def _row(subject: Subject) -> dict[str, Any]:
    name = case_name(subject.index)
    row = asdict(subject)
    row.pop("index")
    row = {key: value for key, value in row.items() if value is not None or key not in EXTRA}
    renamed = {"klass": "class", "volume": "volume_ml", "width": "width_mm", "ventricle": "ventricle_mm"}
    renamed |= {name: f"solid_{name}" for name in EXTRA}
    row = {renamed.get(key, key): value for key, value in row.items()}
    return {"case": name, "subject": name[:-4], **row, "idh": subject.idh, "codel": subject.codel}

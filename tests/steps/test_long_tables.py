"""The long tables from what prediction left on disk: who stands in them, by which regions, and with which truth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.files import write_json
from workbench.prepare.images import native_labels
from workbench.steps.long_tables import (
    MARKER_COLUMNS,
    METRIC_COLUMNS,
    case_columns,
    judged_regions,
    marker_rows,
    markers_table,
    metrics_table,
)

HELD_OUT = {"validation": "TINY-00001-000", "test": "TINY-00004-000", "external": "TINY-00003-000"}
"""Split -> case: one without FLAIR, one with a whole-tumour mask, and one without a mask."""


@pytest.fixture
def setup_of(tiny_cohort: Cohort, tmp_path: Path) -> Any:
    """A run of fold 2 with three held-out cases; T1c is withheld from training and validation."""
    table = tiny_cohort.cases.set_index("case", drop=False)
    names = ("t1", "t1c", "t2", "flair")
    (tmp_path / "predictions").mkdir()
    return SimpleNamespace(
        cohort=tiny_cohort, run=SimpleNamespace(folder=tmp_path), classes=4, modalities=names,
        parameters=SimpleNamespace(fold=2), split={case: split for split, case in HELD_OUT.items()},
        cases_by_split={split: table.loc[[case]] for split, case in HELD_OUT.items()},
        shown_in=lambda split: tuple(name for name in names if split != "validation" or name != "t1c"),
        progress=SimpleNamespace(over=lambda items, *_: items),
    )  # fmt: skip


def row_of(setup: Any, split: str) -> pd.Series:
    return setup.cases_by_split[split].iloc[0]


def test_a_row_says_which_case_it_is_about_and_what_was_shown(setup_of: Any) -> None:
    assert case_columns(setup_of, row_of(setup_of, "validation")) == {
        "case": "TINY-00001-000", "subject": "TINY-00001", "site": "north", "dataset": None, "lesion": None, "fold": 2,
        "split": "validation", "present": "t1+t2",
    }  # fmt: skip
    told = row_of(setup_of, "test").copy()
    told["dataset"], told["lesion"] = "brats", "glioma"
    found = case_columns(setup_of, told)
    assert (found["dataset"], found["lesion"], found["present"]) == ("brats", "glioma", "t1+t1c+t2+flair")


def test_a_case_is_judged_by_what_was_drawn_and_what_the_model_tells_apart(setup_of: Any) -> None:
    whole, full = row_of(setup_of, "test"), row_of(setup_of, "validation")
    assert judged_regions(setup_of, whole) == ["WT"]
    assert judged_regions(setup_of, full) == ["WT", "TC", "ET", "ED", "NCR"]
    setup_of.classes = 2
    assert judged_regions(setup_of, full) == ["WT"]


def test_metrics_are_of_the_cases_with_mask_and_prediction(setup_of: Any, tiny_cohort: Cohort) -> None:
    for split, case in HELD_OUT.items():
        image = nib.load(tiny_cohort.path(case, "t1"))
        truth = native_labels(tiny_cohort, case)
        found = np.zeros(image.shape, np.uint8) if truth is None or split == "validation" else truth
        nib.save(nib.Nifti1Image(found, image.affine), setup_of.run.folder / "predictions" / f"{case}.nii.gz")
    table = metrics_table(setup_of)
    assert list(table.columns) == METRIC_COLUMNS
    dice = table[table["metric"] == "dice"].set_index(["split", "region"])["value"]
    assert dice.xs("test").to_dict() == {"WT": 1.0}
    assert dice.xs("validation").to_dict() == dict.fromkeys(["WT", "TC", "ET", "ED", "NCR"], 0.0)
    assert set(table["split"]) == {"test", "validation"}, "one has no mask"
    (setup_of.run.folder / "predictions" / f"{HELD_OUT['test']}.nii.gz").unlink()
    assert set(metrics_table(setup_of)["split"]) == {"validation"}, "one is not predicted"


def test_markers_come_with_their_truth_and_another_set_can_be_asked_for(setup_of: Any) -> None:
    for case in (HELD_OUT["validation"], HELD_OUT["external"]):
        document = {"markers": {"idh": [0.0], "grade": [1.0, 2.0, 3.0]}, "age_only": {"idh": [2.0]}}
        write_json(setup_of.run.folder / "predictions" / f"{case}.json", document)
    table = markers_table(setup_of)
    assert list(table.columns) == MARKER_COLUMNS
    assert list(dict.fromkeys(table["case"])) == [HELD_OUT["validation"], HELD_OUT["external"]]
    rows = table[table["case"] == HELD_OUT["validation"]].set_index(["marker", "class"])
    assert rows["truth"].to_dict() == {("idh", "mutant"): 1.0, ("grade", "2"): 0.0, ("grade", "3"): 1.0, ("grade", "4"): 0.0}
    assert rows.loc[("idh", "mutant"), "probability"] == 0.5
    assert rows["probability"].xs("grade").sum() == pytest.approx(1)
    assert markers_table(setup_of, "age_only")["logit"].tolist() == [2.0, 2.0]


def test_without_predictions_the_tables_are_empty_and_keep_their_columns(setup_of: Any) -> None:
    assert (len(metrics_table(setup_of)), list(metrics_table(setup_of).columns)) == (0, METRIC_COLUMNS)
    assert (len(markers_table(setup_of)), list(markers_table(setup_of).columns)) == (0, MARKER_COLUMNS)
    assert list(marker_rows(setup_of, row_of(setup_of, "test"), {}).columns) == MARKER_COLUMNS

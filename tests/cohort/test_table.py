"""The table of cases: its schema, what it refuses, and the fingerprint of what it holds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.cohort.table import SUBJECT_COLUMNS, Cohort, CohortInfo, normalise_cases
from workbench.errors import InputError, WorkbenchError

INFO = CohortInfo(name="made up", modalities=("t1", "flair"), label_convention="brats2021")


def table(**columns: Any) -> pd.DataFrame:
    """Two cases of two subjects."""
    plain = {"case": ["a-0", "b-0"], "subject": ["a", "b"], "t1": ["a/t1.nii.gz", None], "flair": [None, "b/flair.nii.gz"]}
    return pd.DataFrame(plain | columns)


def problems(**columns: Any) -> list[tuple[str, str, str]]:
    """(case, channel, message) of what the schema finds."""
    with pytest.raises(InputError) as caught:
        normalise_cases(table(**columns), INFO)
    return [(problem.case, problem.channel, problem.message) for problem in caught.value.problems]


def test_missing_columns_become_null_with_their_type() -> None:
    found = normalise_cases(table(), INFO)
    assert list(found.columns) == ["case", "subject", "timepoint", "site", "t1", "flair", *list(SUBJECT_COLUMNS)[4:]]
    assert {name: str(found[name].dtype) for name in SUBJECT_COLUMNS} == SUBJECT_COLUMNS
    assert found["site"].tolist() == ["unknown site"] * 2
    assert found[["idh", "grade", "age", "sex", "segmentation", "labels"]].isna().all(axis=None)


def test_a_mask_has_the_label_set_of_its_convention() -> None:
    """The case's own convention comes before the cohort's, a label set that is given before both."""
    masks = {"segmentation": ["a/seg.nii.gz", "b/seg.nii.gz"]}
    assert normalise_cases(table(**masks), INFO)["labels"].tolist() == ["glioma", "glioma"]
    own = normalise_cases(table(**masks, label_convention=[None, "lesion"], labels=["WT", None]), INFO)
    assert own["labels"].tolist() == ["WT", "lesion"]
    found = normalise_cases(table(segmentation=["a/seg.nii.gz", None]), INFO)
    assert found["labels"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "place", "words"),
    [
        ({"case": ["a-0", "a-0"]}, ("a-0", ""), "not unique"),
        ({"case": ["a/0", "b-0"]}, ("a/0", ""), "no path separator"),
        ({"subject": ["a", None]}, ("", "subject"), "null in some rows"),
        ({"idh": [2, 0]}, ("a-0", "idh"), "idh is 2, allowed are [0, 1] or null"),
        ({"idh": [-1, 0]}, ("a-0", "idh"), "idh is -1"),
        ({"grade": [None, 1]}, ("b-0", "grade"), "grade is 1, allowed are [2, 3, 4] or null"),
        ({"sex": ["unknown", "F"]}, ("a-0", "sex"), "sex is 'unknown'"),
        ({"age": ["old", 3]}, ("", "age"), "not of type Float64"),
        ({"labels": ["tumour", None]}, ("a-0", "labels"), "label set 'tumour' is unknown"),
        ({"label_convention": [None, "brats1999"]}, ("b-0", "label_convention"), "'brats1999' is unknown"),
    ],
)
def test_broken_rules_are_named_with_case_and_column(columns: dict[str, Any], place: tuple[str, str], words: str) -> None:
    found = problems(**columns)
    assert [(case, channel) for case, channel, _ in found] == [place]
    assert words in found[0][2]


def test_a_mask_without_a_convention_is_refused() -> None:
    with pytest.raises(InputError, match="has a mask, but the cohort declares no label convention"):
        normalise_cases(table(segmentation=["s", None]), INFO.model_copy(update={"label_convention": None}))


def test_all_columns_that_are_missing_are_named() -> None:
    with pytest.raises(InputError) as caught:
        normalise_cases(table().drop(columns=["subject", "flair"]), INFO)
    assert [problem.channel for problem in caught.value.problems] == ["subject", "flair"]


@pytest.fixture
def written(tmp_path: Path) -> Cohort:
    for path in ("a/t1.nii.gz", "b/flair.nii.gz"):
        (tmp_path / "cohort" / path).parent.mkdir(parents=True)
        (tmp_path / "cohort" / path).write_bytes(path.encode())
    return Cohort.create(tmp_path / "cohort", INFO, table(idh=[1, None]))


def test_a_cohort_is_read_as_it_was_written(written: Cohort) -> None:
    again = Cohort.open(written.folder)
    assert again.info == written.info
    pd.testing.assert_frame_equal(again.cases, written.cases)
    assert (again.present("a-0"), again.present("b-0")) == (("t1",), ("flair",))
    assert again.path("a-0", "t1") == written.folder / "a" / "t1.nii.gz"
    assert again.path("a-0", "flair") is None
    with pytest.raises(WorkbenchError, match="cohort made up has no case 'c-0'"):
        again.row("c-0")


def test_the_fingerprint_follows_content_not_place_or_time(written: Cohort, tmp_path: Path) -> None:
    before = written.fingerprint()
    moved = Path(shutil.copytree(written.folder, tmp_path / "moved"))
    (moved / "digests.json").write_text("{")  # derived and disposable
    os.utime(moved / "a" / "t1.nii.gz", (1, 1))
    assert Cohort.open(moved).fingerprint() == before
    elsewhere = Cohort(tmp_path / "none", INFO.model_copy(update={"image_root": str(written.folder)}), written.cases)
    assert elsewhere.fingerprint() == before
    (moved / "a" / "t1.nii.gz").write_bytes(b"another image")
    assert Cohort.open(moved).fingerprint() != before
    assert Cohort(written.folder, INFO, normalise_cases(table(idh=[0, None]), INFO)).fingerprint() != before
    assert Cohort(written.folder, INFO.model_copy(update={"external_sites": ("x",)}), written.cases).fingerprint() != before
    (written.folder / "b" / "flair.nii.gz").unlink()
    with pytest.raises(InputError, match=r"file b/flair\.nii\.gz: the image cannot be read"):
        written.fingerprint()


def test_the_fingerprint_changes_with_the_collections_and_not_with_their_absence(tiny_cohort: Cohort) -> None:
    made = Cohort(tiny_cohort.folder, tiny_cohort.info.model_copy(update={"collections": ("egd",)}), tiny_cohort.cases)
    assert made.fingerprint() != tiny_cohort.fingerprint()
    older = tiny_cohort.info.model_dump(mode="json")
    del older["collections"]  # as cohorts were written before
    assert Cohort(tiny_cohort.folder, CohortInfo(**older), tiny_cohort.cases).fingerprint() == tiny_cohort.fingerprint()

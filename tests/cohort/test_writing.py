"""Writing a cohort folder: whole or not at all, never over another one unless told."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.table import Cohort, CohortInfo
from workbench.cohort.writing import refuse_existing, relative_root, write_cohort
from workbench.errors import InputError, WorkbenchError

INFO = CohortInfo(name="made up", modalities=("t1",))
CASES = pd.DataFrame({"case": ["a"], "subject": ["a"], "t1": [None]})
TRUTH = pd.DataFrame({"case": ["a"], "volume_ml": [3.0]})


def test_the_image_root_is_seen_from_the_cohort(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "images")
    assert relative_root(tmp_path / "images", tmp_path / "deep" / "cohort") == "../../images"
    assert relative_root(tmp_path / "link", tmp_path / "cohort") == "../images", "where the link leads"
    assert relative_root(tmp_path, tmp_path) == "."


def test_a_cohort_that_is_there_and_a_file_are_refused(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "none", False)
    refuse_existing(tmp_path, False)
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match="file is a file"):
        refuse_existing(tmp_path / "file", True)
    (tmp_path / "cohort.json").touch()
    refuse_existing(tmp_path, True)
    with pytest.raises(WorkbenchError, match=r"already holds a cohort.*--overwrite"):
        refuse_existing(tmp_path, False)


def test_folds_and_truth_of_a_replaced_cohort_go_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    assert write_cohort(folder, INFO, CASES, truth=TRUTH).truth is not None
    for name in ("folds.json", "notes.txt"):
        (folder / name).write_text("{}")
    again = write_cohort(folder, INFO.model_copy(update={"name": "another"}), CASES, overwrite=True)
    assert (again.info.name, again.truth) == ("another", None)
    assert sorted(path.name for path in folder.iterdir()) == ["cases.parquet", "cohort.json", "notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"], "nothing is left beside it"


def test_a_table_that_breaks_the_schema_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "cohort"
    write_cohort(folder, INFO, CASES, truth=TRUTH)
    with pytest.raises(InputError):
        write_cohort(folder, INFO, CASES.assign(sex="?"), overwrite=True)
    assert Cohort.open(folder).truth is not None
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]

"""A cohort that changes under a run: the case, the file and the channel are named, and putting it back is enough."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.setup.unchanged import require_unchanged


@pytest.fixture
def cohort(tiny_cohort: Cohort, tmp_path: Path) -> Cohort:
    """A copy that a test may break."""
    shutil.copytree(tiny_cohort.folder, tmp_path / "cohort", ignore=shutil.ignore_patterns("prepared"))
    return Cohort.open(tmp_path / "cohort")


CASE = "TINY-00005-000"


@pytest.mark.parametrize(("change", "said"), [
    ("replace", rf"case {CASE}, file images/.*-seg\.nii\.gz, channel segmentation was replaced"),
    ("delete", rf"case {CASE}, file images/.*-seg\.nii\.gz, channel segmentation is missing"),
    ("edit", rf"case {CASE}, file cases\.parquet, channel idh was edited"),
    ("drop", rf"case {CASE} is gone from cases\.parquet"),
    ("table", r"cannot be read any more .*cases\.parquet"),
])  # fmt: skip
def test_what_changed_is_named_and_putting_it_back_is_enough(cohort: Cohort, change: str, said: str) -> None:
    digests = cohort.digests()
    require_unchanged(cohort, digests)
    image, table = cohort.path(CASE, "segmentation"), cohort.folder / "cases.parquet"
    assert image is not None
    before = {path: path.read_bytes() for path in (image, table)}
    rows = pd.read_parquet(table)
    if change == "replace":
        other = cohort.path("TINY-00006-000", "segmentation")
        assert other is not None
        shutil.copy(other, image)
    elif change == "delete":
        image.unlink()
    elif change == "edit":
        rows.loc[rows["case"] == CASE, "idh"] = 0
        rows.to_parquet(table)
    elif change == "drop":
        rows[rows["case"] != CASE].to_parquet(table)
    else:
        table.write_bytes(before[table][:200])
    with pytest.raises(RunError, match=said):
        require_unchanged(cohort, digests)
    for path, content in before.items():
        path.write_bytes(content)
    require_unchanged(cohort, digests)

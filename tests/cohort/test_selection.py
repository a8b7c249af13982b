from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.selection import filter_cohort, select_cases
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, WorkbenchError
from workbench.files import write_parquet


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("idh == 1", [1, 3, 5, 7, 9, 11]),
        ("idh == 1 and site != 'south'", [1, 5, 7, 11]),
        ("(grade == 4) | (age > 50)", [2, 5, 8, 11]),
        ("not flair.notna()", [1]),
        ("segmentation.isna()", [3]),
        ("labels == 'glioma' and age.between(44, 46)", [5, 6]),
        ("case.str.endswith('3-000')", [3]),
        ("grade in [2, 3] and sex == 'F'", [0, 4, 6, 10]),
        ("tert == 1 or mgmt == 0 or case == 'TINY-00002-000'", [2]),  # an unknown value fulfils no comparison
    ],
)
def test_queries(tiny_cohort: Cohort, query: str, rows: list[int]) -> None:
    assert select_cases(tiny_cohort, query)["case"].tolist() == tiny_cohort.cases["case"].iloc[rows].tolist()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("age >", "not understood"),
        ("", "not understood"),
        ("ages > 5", "names 'ages'; the columns are case, subject"),
        ("age + 1", "is no condition"),
        ("age > 'a'", "cannot be evaluated"),
        ("__import__('os').system('true')", "uses '.system'"),
        ("case == @case", "not understood"),
        ("case.to_csv('x')", "uses '.to_csv'"),
        ("len(case) > 1", "may not call functions"),
        ("[c for c in case]", "not ListComp"),
        ("age > 500", "no case of cohort tiny fulfils"),
    ],
)
def test_bad_queries(tiny_cohort: Cohort, tmp_path: Path, query: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        filter_cohort(tiny_cohort, query, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_a_part_is_a_cohort_over_the_same_images(tiny_cohort: Cohort, tmp_path: Path) -> None:
    part = filter_cohort(tiny_cohort, "site == 'south'", tmp_path / "a" / "part")
    assert len(part) == 4
    assert part.info.name == "part"
    assert part.info.phantom
    assert part.info.source == "tiny where site == 'south'"
    assert all(part.path(case, "t1") and part.path(case, "t1").is_file() for case in part.cases["case"])  # type: ignore[union-attr]
    with pytest.raises(WorkbenchError, match="already holds a cohort"):
        filter_cohort(tiny_cohort, "idh == 1", tmp_path / "a" / "part")
    again = filter_cohort(tiny_cohort, "idh == 1", tmp_path / "a" / "part", overwrite=True)
    assert len(again) == 6
    with pytest.raises(ParameterError, match="is the cohort itself"):
        filter_cohort(tiny_cohort, "idh == 1", tiny_cohort.folder, overwrite=True)


def test_truth_and_external_sites_follow(tiny_cohort: Cohort, tmp_path: Path) -> None:
    info = tiny_cohort.info.model_copy(update={"external_sites": ("south",), "image_root": str(tiny_cohort.folder)})
    whole = Cohort.create(tmp_path / "whole", info, tiny_cohort.cases)
    write_parquet(whole.folder / "truth.parquet", pd.DataFrame({"case": whole.cases["case"], "volume": range(12)}))
    north = filter_cohort(whole, "site == 'north'", tmp_path / "north")
    assert north.info.external_sites == ()
    assert north.truth is not None
    assert north.truth["case"].tolist() == north.cases["case"].tolist()
    assert filter_cohort(whole, "idh == 1", tmp_path / "mutant").info.external_sites == ("south",)

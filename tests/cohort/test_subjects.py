from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.subjects import add_subjects, read_subjects
from workbench.errors import InputError


def csv(folder: Path, text: str, name: str = "subjects.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


def cases(*names: str, subjects: tuple[str, ...] = ()) -> pd.DataFrame:
    return pd.DataFrame({"case": list(names), "subject": list(subjects or names)})


def test_spellings_and_nulls(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        " Patient_ID ,Site ,IDH,1p/19q,TERT status,MGMT status,WHO CNS Grade,Age at MRI,Gender\n"
        "007,A,wildtype,intact,WT,positive,IV,61,M\n"
        "008,B,IDH1 p.R132H,co-deletion,mutated,Unmethylated,2.0,40.5,female\n"
        "009,Not Available,mutated (NOS),relative co-deletion,unknown,indeterminate,Grade 3,-1,NA\n"
        "010,,Mutant,Co-Deleted,-1,Not Available,,053Y,F\n",
    )
    table, remarks = read_subjects(path)
    assert remarks == []
    assert table["subject"].tolist() == ["007", "008", "009", "010"]
    assert table["site"].tolist() == ["A", "B", None, None]
    assert table["idh"].tolist() == [0, 1, 1, 1]
    assert table["codel"].tolist() == [0, 1, None, 1]
    assert table["tert"].tolist() == [0, 1, None, None]
    assert table["mgmt"].tolist() == [1, 0, None, None]
    assert table["grade"].tolist() == [4, 2, 3, None]
    assert table["age"].tolist() == [61.0, 40.5, None, 53.0]
    assert table["sex"].tolist() == ["M", "F", None, "F"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_separators_and_byte_order_mark(tmp_path: Path, separator: str) -> None:
    path = csv(tmp_path, separator.join(["subject", "age"]) + "\n" + separator.join(["p1", "50"]) + "\n", encoding="utf-8-sig")
    assert read_subjects(path)[0].to_dict("records") == [{"subject": "p1", "age": 50.0}]


def test_a_value_nobody_understands_is_named_with_its_line(tmp_path: Path) -> None:
    path = csv(tmp_path, "subject,idh,age,grade\np1,wildtype,50,2\np2,maybe,old,5\n")
    with pytest.raises(InputError) as caught:
        read_subjects(path)
    assert [problem.channel for problem in caught.value.problems] == ["idh", "age", "grade"]
    assert "line 3: 'maybe'" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\np1,50\n", "no column names the case or the subject"),
        ("subject,sex,Gender\np1,F,F\n", "both mean 'sex'"),
        ("", "cannot be read as CSV"),
        ("subject,age\np1,50\np2,51,7,8\n", "cannot be read as CSV"),
    ],
)
def test_unusable_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_subjects(csv(tmp_path, text))


def test_missing_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    for path in (tmp_path / "none.csv", tmp_path / "table.csv"):
        with pytest.raises(InputError, match="cannot be read as CSV"):
            add_subjects(cases("p1"), path)


def test_rows_of_a_subject_reach_all_its_cases(tmp_path: Path) -> None:
    path = csv(tmp_path, "subject,idh\nG-1,mutant\n")
    table, remarks = add_subjects(cases("G-1-000", "G-1-001", "G-2-000", subjects=("G-1", "G-1", "G-2")), path)
    assert table["idh"].tolist() == [1, 1, None]
    assert remarks == ["1 of 2 have no row in subjects.csv: G-2"]


def test_a_case_column_may_name_the_subject(tmp_path: Path) -> None:
    path = csv(tmp_path, "case,subject,age\nscan_a,P1,50\nscan_b,P1,51\n")
    table, _ = add_subjects(cases("scan_a", "scan_b", "scan_c"), path)
    assert table["subject"].tolist() == ["P1", "P1", "scan_c"]
    assert table["age"].tolist()[:2] == [50.0, 51.0]


def test_a_column_named_id_may_hold_case_names(tmp_path: Path) -> None:
    path = csv(tmp_path, "ID,age\nU-1_11,50\nU-1_21,51\n")
    table, _ = add_subjects(cases("U-1_11", "U-1_21", subjects=("U-1", "U-1")), path)
    assert table["age"].tolist() == [50.0, 51.0]
    assert table["subject"].tolist() == ["U-1", "U-1"]


def test_loose_names_are_matched_by_number_and_told(tmp_path: Path) -> None:
    path = csv(tmp_path, "patient_id,age\n7,53\n19,47\n20,1\n")
    table, remarks = add_subjects(cases("patient07", "patient19"), path)
    assert table["age"].tolist() == [53.0, 47.0]
    assert "7 = patient07" in remarks[0]
    assert "1 of 3 rows of subjects.csv belong to no case: 20" in remarks[1]


def test_leading_zeros_may_differ(tmp_path: Path) -> None:
    path = csv(tmp_path, "ID,age\nUCSF-PDGM-004,50\n")
    assert add_subjects(cases("UCSF-PDGM-0004"), path)[0]["age"].tolist() == [50.0]


def test_an_ambiguous_number_matches_nobody(tmp_path: Path) -> None:
    path = csv(tmp_path, "subject,age\n7,53\n")
    with pytest.raises(InputError, match="no row fits a case"):
        add_subjects(cases("a07", "b7"), path)
    exact = csv(tmp_path, "subject,age\na07,60\n7,53\n", "exact.csv")  # a07 is taken, but 7 could have meant it
    assert add_subjects(cases("a07", "b7"), exact)[0]["age"].tolist() == [60.0, None]


def test_repeated_rows_equal_or_contradicting(tmp_path: Path) -> None:
    equal = csv(tmp_path, "subject,age\np1,50\np1,50\n")
    table, remarks = add_subjects(cases("p1"), equal)
    assert table["age"].tolist() == [50.0]
    assert "repeated" in remarks[0]
    contradicting = csv(tmp_path, "subject,age,sex\np1,50,F\np1,51,F\n", "bad.csv")
    with pytest.raises(InputError, match=r"line 2: 50\.0, line 3: 51\.0") as caught:
        add_subjects(cases("p1"), contradicting)
    assert [(p.case, p.channel) for p in caught.value.problems] == [("p1", "age")]


def test_misspelt_columns_are_told(tmp_path: Path) -> None:
    _, remarks = read_subjects(csv(tmp_path, "subject,idhh\np1,1\n"))
    assert remarks == ["columns of subjects.csv that were not used: idhh"]

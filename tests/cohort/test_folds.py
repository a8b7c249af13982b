from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.cohort.folds import external_subjects, make_folds, read_folds
from workbench.cohort.table import Cohort, CohortInfo, normalise_cases
from workbench.errors import InputError, ParameterError, WorkbenchError


def cohort_of(folder: Path, rows: list[dict[str, object]], external: tuple[str, ...] = ()) -> Cohort:
    info = CohortInfo(name="made up", modalities=("t1",), external_sites=external)
    table = pd.DataFrame([{"t1": None, **row} for row in rows])
    return Cohort(folder, info, normalise_cases(table, info))


def simple(folder: Path, subjects: int) -> Cohort:
    return cohort_of(folder, [{"case": f"c{i:03d}", "subject": f"s{i:03d}", "site": "ab"[i % 2]} for i in range(subjects)])


subject_rows = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["a", "b", "outside"]), st.sampled_from([0, 1, None]), st.sampled_from([2, 3, 4, None])
    ),
    min_size=2,
    max_size=24,
)


def rows_of(drawn: list[tuple]) -> list[dict[str, object]]:
    return [
        {"case": f"s{i:02d}-{k}", "subject": f"s{i:02d}", "site": site, "idh": idh, "grade": grade}
        for i, (cases, site, idh, grade) in enumerate(drawn)
        for k in range(cases)
    ]


@pytest.mark.filterwarnings("ignore:cohort made up")
@settings(max_examples=20, deadline=None)
@given(drawn=subject_rows, folds=st.integers(2, 6), seed=st.integers(0, 5), random=st.randoms())
def test_disjoint_complete_group_pure_even_and_deterministic(drawn: list[tuple], folds: int, seed: int, random) -> None:
    rows = rows_of(drawn)
    inner = {row["subject"] for row in rows if row["site"] != "outside"}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        cohort = cohort_of(Path(one), rows, ("outside",))
        if len(inner) < 2:
            with pytest.raises(InputError, match="at least 2"):
                make_folds(cohort, folds, seed)
            assert not (Path(one) / "folds.json").exists()
            return
        made = make_folds(cohort, folds, seed)
        shuffled = random.sample(rows, len(rows))
        assert make_folds(cohort_of(Path(two), shuffled, ("outside",)), folds, seed) == made
        assert read_folds(cohort) == made
    dealt = [subject for group in made.groups for subject in group]
    assert sorted(dealt) == sorted(inner)  # complete, and nobody twice
    sizes = [len(group) for group in made.groups]
    assert len(sizes) == min(folds, len(inner))
    assert max(sizes) - min(sizes) <= 1
    tested: list[str] = []
    for fold in range(len(made)):
        split = made.split(cohort, fold)
        assert list(split.index) == cohort.cases["case"].tolist()
        per_subject = split.groupby(cohort.cases["subject"].to_numpy()).nunique()
        assert (per_subject == 1).all()
        assert {"train", "test"} <= set(split)
        assert ("validation" in set(split)) == (len(made) > 2)
        outside = cohort.cases["site"] == "outside"
        assert (split[outside.to_numpy()] == "external").all()
        tested += split.index[split == "test"].tolist()
    assert sorted(tested) == sorted(cohort.cases["case"][cohort.cases["subject"].isin(inner)])


def test_a_patient_with_a_session_at_an_external_site_is_external_as_a_whole(tmp_path: Path) -> None:
    """Else the other session trains the network that the external one tests."""
    rows = [{"case": f"s{i}-0", "subject": f"s{i}", "site": "a"} for i in range(6)]
    rows += [{"case": "s0-1", "subject": "s0", "site": "outside"}, {"case": "s6-0", "subject": "s6", "site": "outside"}]
    cohort = cohort_of(tmp_path, rows, ("outside",))
    made = make_folds(cohort)
    assert made.external == ("s0", "s6")
    assert external_subjects(cohort) == {"s0", "s6"}
    assert sorted(subject for group in made.groups for subject in group) == ["s1", "s2", "s3", "s4", "s5"]
    for fold in range(5):
        split = made.split(cohort, fold)
        assert split[split == "external"].index.tolist() == ["s0-0", "s0-1", "s6-0"]


def test_site_and_markers_are_balanced(tmp_path: Path) -> None:
    rows = [
        {
            "case": f"s{i:03d}",
            "subject": f"s{i:03d}",
            "site": ("x", "y", "z")[i % 3],
            "idh": int(i % 10 < 4),
            "codel": int(i % 10 == 0),
        }
        for i in range(100)
    ]
    made = make_folds(cohort_of(tmp_path, rows))
    table = pd.DataFrame(rows).assign(fold=[made.fold_of(row["subject"]) for row in rows])
    for column, value, each in (("idh", 1, 8), ("codel", 1, 2), ("site", "x", 6.8)):
        counts = table[table[column] == value].groupby("fold").size()
        assert counts.sub(each).abs().max() <= 1, (column, counts.tolist())


def test_split_rule(tmp_path: Path) -> None:
    cohort = simple(tmp_path, 20)
    made = make_folds(cohort, 5)
    for fold in range(5):
        split = made.split(cohort, fold)
        of = {case: made.fold_of(case.replace("c", "s")) for case in split.index}
        assert all(of[case] == fold for case in split.index[split == "test"])
        assert all(of[case] == (fold + 1) % 5 for case in split.index[split == "validation"])
        assert (split == "train").sum() == 12
    with pytest.raises(ParameterError, match="0 to 4"):
        made.split(cohort, 5)
    with pytest.raises(ParameterError):
        made.split(cohort, -1)


def test_few_subjects(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="3 subjects for 5 folds: 3 folds"):
        assert len(make_folds(simple(tmp_path / "three", 3))) == 3
    two = simple(tmp_path / "two", 2)
    with pytest.warns(UserWarning, match="no validation"):
        made = make_folds(two)
    assert sorted(made.split(two, 0)) == ["test", "train"]
    with pytest.raises(InputError, match="1 subject"):
        make_folds(simple(tmp_path / "one", 1))
    with pytest.raises(ParameterError, match="at least 2"):
        make_folds(simple(tmp_path / "ten", 10), folds=1)
    with pytest.warns(UserWarning, match="made up: with two folds there is no validation set"):
        make_folds(simple(tmp_path / "ten", 10), folds=2)


def test_written_once(tmp_path: Path) -> None:
    cohort = simple(tmp_path, 20)
    made = make_folds(cohort)
    before = (tmp_path / "folds.json").read_bytes()
    assert make_folds(cohort) == made
    with pytest.raises(InputError, match=r"seed=0; asked for were folds=5, seed=1.*--overwrite"):
        make_folds(cohort, seed=1)
    assert (tmp_path / "folds.json").read_bytes() == before
    assert make_folds(cohort, seed=1, overwrite=True) != made


def test_folds_of_another_table_are_refused(tmp_path: Path) -> None:
    make_folds(simple(tmp_path, 10))
    with pytest.raises(InputError, match=r"in no fold: s010.*--overwrite"):
        read_folds(simple(tmp_path, 11))
    with pytest.raises(InputError, match="does not have: s009"):
        make_folds(simple(tmp_path, 9))
    with pytest.raises(InputError, match="in no fold: s010"):
        make_folds(simple(tmp_path, 10)).split(simple(tmp_path, 11), 0)


def test_external_sites_that_changed_are_noticed(tmp_path: Path) -> None:
    rows = [{"case": f"c{i}", "subject": f"s{i}", "site": "ab"[i % 2]} for i in range(10)]
    make_folds(cohort_of(tmp_path, rows))
    with pytest.raises(InputError, match="external sites"):
        read_folds(cohort_of(tmp_path, rows, ("b",)))


def test_a_patient_in_two_folds_is_named(tmp_path: Path) -> None:
    cohort = simple(tmp_path, 10)
    make_folds(cohort)
    value = json.loads((tmp_path / "folds.json").read_text())
    moved = value["folds"][0][0]
    value["folds"][3].append(moved)
    (tmp_path / "folds.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=f"patient {moved} is in fold 0 and fold 3"):
        read_folds(cohort)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"folds": [["s000"], []], "external": [], "requested": 5, "seed": 0}', '{"folds": 3}']
)
def test_malformed_folds(tmp_path: Path, text: str) -> None:
    cohort = simple(tmp_path, 10)
    (tmp_path / "folds.json").write_text(text)
    with pytest.raises(InputError, match="does not describe folds"):
        read_folds(cohort)


def test_no_folds_and_damaged_json(tmp_path: Path) -> None:
    cohort = simple(tmp_path, 10)
    with pytest.raises(WorkbenchError, match="workbench cohort fold"):
        read_folds(cohort)
    (tmp_path / "folds.json").write_text('{"folds": [')
    with pytest.raises(WorkbenchError, match="JSON"):
        read_folds(cohort)

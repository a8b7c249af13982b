from __future__ import annotations

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.views.cases.table import cohort_table, facts_html, fullest, run_table, worst_first, yes_no
from workbench.views.cases.view import open_case


def test_one_row_per_case_of_the_split_from_the_fullest_set_of_sequences(case_run, tiny_cohort):
    table = run_table(case_run.metrics(), case_run.markers(), "test")
    assert table["case"].is_unique
    assert len(table) == 8
    row = table.set_index("case").loc["TINY-00000-000"]
    long = case_run.metrics()
    full = long[(long["case"] == "TINY-00000-000") & (long["present"] == "t1+t1c+t2+flair")].set_index(["region", "metric"])[
        "value"
    ]
    assert row["Dice WT"] == full["WT", "dice"]
    assert row["HD95 ET (mm)"] == full["ET", "hd95"]
    assert row["p IDH mutant"] == 0.25
    assert row["IDH mutant"] == "no"
    assert table.set_index("case").loc["TINY-00001-000", "IDH mutant"] == "yes"
    assert list(table.columns[:3]) == ["case", "Dice WT", "Dice TC"]


def test_a_further_metric_can_be_shown():
    same = {"case": "a", "subject": "a", "site": "s", "split": "test", "present": "t1", "region": "WT", "value": 1.0}
    rows = [same | {"metric": metric} for metric in ("dice", "iou")]
    assert "IoU WT" in run_table(pd.DataFrame(rows), None, "test", "iou").columns
    assert "IoU WT" not in run_table(pd.DataFrame(rows), None, "test").columns


def test_dataset_and_lesion_are_shown_where_they_are_known(tiny_cohort):
    same = {"subject": "a", "site": "s", "split": "test", "present": "t1", "region": "lesion", "metric": "dice", "value": 1.0}
    rows = pd.DataFrame([same | {"case": "a", "lesion": "ms"}, same | {"case": "b", "lesion": None}])
    assert list(run_table(rows.assign(dataset=None), None, "test").columns) == [
        "case", "Dice lesion", "lesion", "subject", "site", "split",
    ]  # fmt: skip
    assert "lesion" not in run_table(rows.assign(lesion=None), None, "test").columns
    assert "lesion" not in cohort_table(tiny_cohort).columns
    named = Cohort(
        tiny_cohort.folder, tiny_cohort.info, tiny_cohort.cases.assign(lesion=["ms"] + [pd.NA] * (len(tiny_cohort) - 1))
    )
    assert list(cohort_table(named)["lesion"][:2]) == ["ms", "?"]
    facts = facts_html(open_case(named, "TINY-00000-000"))
    assert "<tr><th>Lesion</th><td>ms</td></tr>" in facts
    assert "Dataset" not in facts


def test_missing_tables():
    assert run_table(None, None, "test").empty
    assert list(run_table(None, None, "test").columns) == ["case", "subject", "site", "split"]


def test_worst_comes_first(case_run):
    table = run_table(case_run.metrics(), None, "test")
    assert worst_first(table, "dice", "WT") == [{"field": "Dice WT", "dir": "asc"}]
    assert worst_first(table, "hd95", "TC") == [{"field": "HD95 TC (mm)", "dir": "desc"}]
    assert worst_first(table, "dice", "lesion") == [{"field": "Dice WT", "dir": "asc"}]
    assert worst_first(table.drop(columns=[c for c in table if c.startswith("Dice")]), "dice", "WT") == []


def test_fullest_is_per_case():
    table = pd.DataFrame({"case": ["a", "a", "b"], "present": ["t1", "t1+t2", "t2"]})
    assert fullest(table).index.tolist() == [1, 2]


@pytest.mark.parametrize(("truth", "text"), [(1.0, "yes"), (0, "no"), (float("nan"), "?"), (pd.NA, "?")])
def test_truth_in_words(truth, text):
    assert yes_no(truth) == text


def test_cohort_without_a_run(tiny_cohort):
    table = cohort_table(tiny_cohort).set_index("case")
    assert table.loc["TINY-00001-000", "sequences"] == "T1, T1c, T2"
    assert table.loc["TINY-00003-000", "mask"] == "none"
    assert table.loc["TINY-00004-000", "mask"] == "WT"
    assert table.loc["TINY-00001-000", "IDH"] == "yes"
    assert table.loc["TINY-00001-000", "grade"] == "3"


def test_facts_name_the_phantom_and_both_answers(tiny_cohort, case_run):
    text = facts_html(open_case(tiny_cohort, "TINY-00001-000", case_run.folder), case_run.metrics(), case_run.markers())
    assert "no clinical evidence" in text
    assert "phantom cohort tiny" in text
    assert "not acquired: FLAIR" in text
    assert "p(mutant) = 0.25" in text
    assert "<td>mutant</td>" in text
    bare = facts_html(open_case(tiny_cohort, "TINY-00003-000"))
    assert "No mask and no prediction" in bare


def test_facts_of_a_case_hold_its_own_maps_in_numbers(
    tiny_cohort, case_run, attribution: pd.DataFrame, weights: pd.DataFrame
) -> None:
    view = open_case(tiny_cohort, "TINY-00000-000", case_run.folder)
    text = facts_html(view, None, None, attribution, weights)
    assert "<td>20.0% (4.0%)</td>" in text
    assert "Sequence, mean weight" in text
    assert "<td>0.70</td>" in text
    other = facts_html(open_case(tiny_cohort, "TINY-00001-000", case_run.folder), None, None, attribution, weights)
    assert "mean weight" not in other

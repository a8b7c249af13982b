"""Results by group: each group's mean over its own cases and subjects, seen and unseen sites apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.evaluation.groups import SEEN, UNSEEN, groups_of, markers_by_group, segmentation_by_group
from workbench.evaluation.intervals import mean_interval


def metrics() -> pd.DataFrame:
    """Two cases per subject; MS scores 0.5 and more, infarcts less, external ones worst; a validation case to be left out."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(24):
        lesion, split = ("ms", "stroke")[index // 2 % 2], "external" if index >= 16 else "test"
        value = rng.uniform(0.5, 0.9) - 0.3 * (lesion == "stroke") - 0.1 * (split == "external")
        rows.append((f"c{index}", f"s{index // 2}", split, lesion, "d1" if index < 8 else None, "t1+flair", value))
    rows.append(("v", "v", "validation", "glioma", "d3", "t1", 0.0))
    table = pd.DataFrame(rows, columns=["case", "subject", "split", "lesion", "dataset", "present", "value"])
    return table.assign(site="x", fold=0, region="lesion", metric="dice", n_truth=10, n_prediction=9)


def test_each_group_has_its_own_mean_interval_and_n() -> None:
    table = metrics()
    found = segmentation_by_group(table, {"x"}).set_index(["grouping", "group", "split"])
    for lesion in ("ms", "stroke"):
        for split in ("test", "external"):
            rows = table[(table["lesion"] == lesion) & (table["split"] == split)]
            wanted = mean_interval(rows["value"].to_numpy(), rows["subject"].to_numpy(), (0, 1))
            got = found.loc[("lesion", lesion, split)]
            assert (got["mean"], got["low"], got["high"]) == pytest.approx((wanted.value, wanted.low, wanted.high), nan_ok=True)
            assert (got["n"], got["n_subjects"]) == (len(rows), rows["subject"].nunique())
    assert found.loc[("lesion", "ms", "test"), "mean"] > found.loc[("lesion", "stroke", "test"), "mean"]
    assert found.loc[("sites", UNSEEN, "external"), "n"] == 8
    assert found.loc[("sites", SEEN, "test"), "n"] == 16
    assert set(found.loc["dataset"].index.get_level_values("group")) == {"d1", "unknown"}
    assert "validation" not in found.index.get_level_values("split")
    assert "glioma" not in found.index.get_level_values("group")


def test_a_tested_site_without_a_training_case_was_not_seen() -> None:
    """A site with one subject is dealt to one fold."""
    table = metrics()
    table.loc[table["subject"] == "s0", "site"] = "lone"
    found = segmentation_by_group(table, {"x"}).set_index(["grouping", "group", "split"])
    assert found.loc[("sites", UNSEEN, "test"), "n"] == 2
    assert found.loc[("sites", SEEN, "test"), "n"] == 14
    assert found.loc[("sites", UNSEEN, "external"), "n"] == 8, "an external site stays one, whatever its name"


def test_what_is_not_known_is_no_grouping() -> None:
    table = metrics().drop(columns="dataset").assign(lesion=None)
    assert groups_of(table, {"x"}) == {"sites": [SEEN, UNSEEN]}
    assert set(segmentation_by_group(table, {"x"})["grouping"]) == {"sites"}
    assert groups_of(table.iloc[:0], {"x"}) == {"sites": []}
    empty = segmentation_by_group(table.iloc[:0], {"x"})
    assert empty.empty
    assert list(empty.columns) == list(segmentation_by_group(table, {"x"}).columns)


def test_a_case_is_judged_with_all_its_sequences() -> None:
    table = metrics()
    fewer = table.assign(present="t1", value=0.0)
    both = pd.concat([table, fewer], ignore_index=True)
    pd.testing.assert_frame_equal(segmentation_by_group(both, {"x"}), segmentation_by_group(table, {"x"}))


def test_markers_by_group() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 80).astype(float)
    names = [f"m{i}" for i in range(80)]
    table = pd.DataFrame({"case": names, "subject": names, "truth": truth})
    table = table.assign(site="x", dataset=np.where(np.arange(80) < 40, "a", "b"), lesion="glioma", fold=0, split="test",
                         present="t1", marker="idh", logit=0.0, **{"class": "mutant"})  # fmt: skip
    table["probability"] = np.where(table["dataset"] == "a", np.where(truth == 1, 0.9, 0.1), 0.5)
    found = markers_by_group(table, {"x"})
    auc = found[found["metric"] == "auc"].set_index(["grouping", "group"])["value"]
    assert auc["dataset", "a"] == 1.0
    assert auc["dataset", "b"] == 0.5
    assert auc["lesion", "glioma"] > 0.6

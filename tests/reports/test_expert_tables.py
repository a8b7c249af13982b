"""What a notebook shows of a mixture of experts; how the experts are scored stands in tests/steps/test_expert_scores.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.models.registry import create_model
from workbench.reports.expert_tables import experiment_costs, expert_table
from workbench.steps.expert_scores import COLUMNS, EXPERTS_FILE


@pytest.fixture
def experiment(tmp_path: Path) -> Any:
    """A mixture of experts for t1 and flair on three test cases: t1 and flair, flair alone, and one without a mask."""
    rows = pd.DataFrame({
        "case": list("abc"), "subject": list("ABC"), "site": "s", "labels": "lesion", "dataset": ["x", "x", "y"],
        "t1": ["x", None, "x"], "flair": "x",
    })  # fmt: skip
    model = create_model("mome", modalities=("t1", "flair"), classes=2, width=4, levels=3)
    return SimpleNamespace(
        run=SimpleNamespace(folder=tmp_path), network=model, modalities=("t1", "flair"), patch=(8, 8, 8),
        parameters=SimpleNamespace(method="mome", resamples=100, batch_size=1),
        cohort=SimpleNamespace(info=SimpleNamespace(name="mixed", phantom=True), cases=rows),
    )  # fmt: skip


@pytest.fixture
def asked(experiment: Any) -> None:
    """The scores that lie in the run folder: alone an expert finds both voxels and two more, fused one of them."""
    scored = [("b", "B", "flair"), ("a", "A", "flair"), ("a", "A", "t1")]
    rows = [[case, subject, "s", "test", sequence, "lesion", 2 * 2 / 6, 2 * 1 / 3] for case, subject, sequence in scored]
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(experiment.run.folder / EXPERTS_FILE)


def test_the_table_has_a_paired_difference_with_its_interval(experiment: Any, asked: list[Any]) -> None:
    table = expert_table(experiment)
    assert isinstance(table, pd.DataFrame)
    assert list(table.index) == [("test", "t1", "lesion"), ("test", "flair", "lesion")]
    assert table["n"].tolist() == [1, 2]
    assert table.loc[("test", "flair", "lesion"), "fused - alone"] == "0.00 (no interval)", "of two cases"
    assert "phantom" in table.columns.name


def test_a_method_without_experts_says_so(experiment: Any) -> None:
    experiment.network = create_model("pooled_unet", modalities=("t1", "flair"), classes=2, width=4, levels=3)
    experiment.parameters.method = "pooled_unet"
    assert "pooled_unet has no experts" in expert_table(experiment).data


def test_without_a_scored_case_it_says_so(experiment: Any) -> None:
    pd.DataFrame(columns=COLUMNS).to_parquet(experiment.run.folder / EXPERTS_FILE)
    assert "mome has no test case with a mask" in expert_table(experiment).data


def test_costs_are_those_of_the_runs_own_plan(experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its width, levels, patch and batch, beside one network for each data set and sequence."""
    given: list[Any] = []

    def costs(*arguments: Any, **more: Any) -> pd.DataFrame:
        given.append((arguments, more))
        return pd.DataFrame({"parameters": [12345678.0]})

    monkeypatch.setattr("workbench.reports.expert_tables.cost_table", costs)
    monkeypatch.setattr("workbench.reports.expert_tables.task_networks", lambda cases, names: ["one", "two", "three"])
    assert experiment_costs(experiment).iloc[0, 0] == "1.23e+07"
    ((names, classes, networks), more) = given[0]
    assert (names, classes, networks) == (("t1", "flair"), 2, 3)
    assert more == {"options": {"width": 4, "levels": 3}, "side": 8, "batch": 1}

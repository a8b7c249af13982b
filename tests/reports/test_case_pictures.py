"""Which cases are shown: the worst and the best, and of few cases none as both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.reports import case_pictures as module
from workbench.reports.case_pictures import case_pictures, map_pictures, ranked_cases


def metrics(values: dict[str, list[float]], **more: Any) -> pd.DataFrame:
    """Dice of WT and ET per case; ET of case 'a' is empty in truth."""
    rows = [
        {"case": case, "split": "test", "metric": "dice", "region": region, "value": value,
         "n_truth": 0 if (case, region) == ("a", "ET") else 9}
        for case, pair in values.items() for region, value in zip(("WT", "ET"), pair, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**more)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are kept, and texts, in the order in which they are displayed."""
    seen: list[str] = []
    monkeypatch.setattr(
        module, "open_case", lambda cohort, case, folder: SimpleNamespace(case=case, maps=[case] if case != "a" else [])
    )
    monkeypatch.setattr(module, "figure_of", lambda view, metrics: metrics)
    monkeypatch.setattr(module, "map_figure", lambda view: None)
    monkeypatch.setattr(module, "picture", lambda run, name, figure: name)
    monkeypatch.setattr(module, "display", lambda what: seen.append(getattr(what, "data", what)))
    return seen


def setup_of(table: pd.DataFrame | None) -> Any:
    return SimpleNamespace(run=SimpleNamespace(metrics=lambda: table, folder=None), cohort=None)


def test_cases_are_ranked_by_the_regions_that_they_have() -> None:
    table = metrics({"a": [0.4, 1.0], "b": [0.6, 0.8], "c": [0.2, 0.4]})
    other = metrics({"d": [0.0, 0.0]}, split="validation"), metrics({"c": [9.0, 9.0]}, metric="hd95")
    ranks = ranked_cases(pd.concat([table, *other]), "test")
    assert ranks.to_dict() == pytest.approx({"c": 0.3, "a": 0.4, "b": 0.7})
    assert list(ranks.index) == ["c", "a", "b"], "worst first; an empty region that was left empty is no success"


def test_of_few_cases_none_is_worst_and_best(shown: list[str]) -> None:
    table = metrics({"a": [0.4, 1.0], "b": [0.6, 0.8], "c": [0.2, 0.4]})
    case_pictures(setup_of(table), worst=2, best=2, split="test")
    assert [name for name in shown if name.startswith("case_")] == ["case_worst_c", "case_best_a", "case_best_b"]
    assert shown[0] == "**worst**: mean Dice 0.30 over the regions that the case has"


def test_of_many_cases_as_many_as_asked_for(shown: list[str]) -> None:
    table = metrics({name: [number / 10, number / 10] for number, name in enumerate("bcdefg")})
    case_pictures(setup_of(table), worst=1, best=2, split="test")
    assert [name for name in shown if name.startswith("case_")] == ["case_worst_b", "case_best_f", "case_best_g"]


@pytest.mark.parametrize("table", [None, metrics({"b": [0.5, 0.5]}, split="validation")])
def test_where_there_is_none_it_says_so(table: pd.DataFrame | None, shown: list[str]) -> None:
    case_pictures(setup_of(table), worst=2, best=2, split="test")
    assert shown == ["*No test case has both truth and prediction.*"]


def test_maps_of_the_cases_that_have_some(shown: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(module, "explained_cases", lambda setup: ["a", "b"])
    setup: Any = SimpleNamespace(run=SimpleNamespace(folder=tmp_path), cohort=None)
    assert map_pictures(setup) is None, "no table of attributions was written"
    assert shown == ["maps_b"]

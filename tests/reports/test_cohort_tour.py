"""A cohort looked at in a notebook."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.reports import cohort_tour as module
from workbench.reports.cohort_tour import TITLES, Exploration


@pytest.fixture(scope="module")
def tour(tiny_cohort: Cohort) -> Exploration:
    return Exploration(tiny_cohort.folder)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(module, "display", lambda *what: seen.append(what))
    return seen


def test_problems_are_listed_errors_first_or_said_to_be_none(tour: Exploration, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, severity: str) -> None:
            self.severity = severity

        def as_dict(self) -> dict[str, str]:
            return {"severity": self.severity}

    monkeypatch.setattr(module, "check_cohort", lambda cohort: [Found("warning"), Found("error"), Found("warning")])
    assert tour.problems()["severity"].tolist() == ["error", "warning", "warning"]
    monkeypatch.setattr(module, "check_cohort", lambda cohort: [])
    assert "phantom cohort tiny: nothing is wrong with its 12 cases" in tour.problems().data


def test_each_table_stands_under_its_title(tour: Exploration, shown: list[Any]) -> None:
    tour.tables()
    assert [title.data for title, _ in shown] == [f"<h4>{title} - phantom cohort tiny</h4>" for title in TITLES.values()]
    markers = dict(zip(TITLES, (table for _, table in shown), strict=True))["markers"]
    assert isinstance(markers, pd.DataFrame)
    assert markers.loc["idh"].to_numpy().sum() == 12, "of each subject, at its site"
    assert set(markers.columns) == {"north", "south"}


def test_plots_are_a_picture_also_where_nothing_is_known(tour: Exploration, tiny_cohort: Cohort) -> None:
    assert tour.plots().data[:4] == b"\x89PNG"
    bare = Exploration(tiny_cohort.folder)
    bare.cohort = Cohort(tiny_cohort.folder, tiny_cohort.info, tiny_cohort.cases.assign(age=None, idh=None))
    bare._tables = {"volumes": pd.DataFrame()}
    assert bare.plots().data[:4] == b"\x89PNG"


def test_the_first_cases_are_shown_as_pictures(tour: Exploration, shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module, "open_case", lambda cohort, case: opened.append(case))
    monkeypatch.setattr(module, "figure_of", lambda view: None)
    monkeypatch.setattr(module, "still", lambda figure: "picture")
    tour.pictures(2)
    assert opened == ["TINY-00000-000", "TINY-00001-000"]
    assert shown == [("picture",)] * 2


def test_a_cohort_named_like_a_tag_is_shown_by_its_name(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(module, "display", lambda *what: shown.extend(what))
    tour = Exploration.__new__(Exploration)
    tour.cohort, tour.title = tiny_cohort, "<img src=x onerror=run()>"
    tour.tables()
    headings = [str(one.data) for one in shown if hasattr(one, "data")]
    assert headings
    assert all("&lt;img" in heading and "<img" not in heading for heading in headings)

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cases import CasesPage
from app.state import AppState
from app.store import Store
from workbench.cohort.table import Cohort
from workbench.records.run_folder import RunFolder

RUN = "tiny/0123456789ab"


@pytest.fixture(scope="module")
def runs(tiny_cohort: Cohort, make_case_run: Callable[..., RunFolder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_case_run(tiny_cohort, folder)
    return folder


@pytest.fixture
def page(runs):
    return CasesPage(AppState(page="cases", run=RUN), Store(runs))


def test_opens_the_worst_test_case(page):
    """Dice falls with the case's number in the fabricated run; case 11 is in validation."""
    assert page.state.case == page.ordered_cases()[0]
    table = page.table.value.set_index("case")
    assert table.loc[page.state.case, "Dice WT"] == table["Dice WT"].min()
    assert (table["split"] == "test").all()
    assert page.panel.view.case == page.state.case
    assert page.table.selection == [list(page.table.value["case"]).index(page.state.case)]
    assert not page.notice.visible


def test_a_link_opens_the_same_case_picture_and_position(runs):
    state = AppState()
    state.read_query(f"?page=cases&run={RUN}&case=TINY-00004-000&modality=flair&overlay=truth&position=-2,8,-5")
    page = CasesPage(state, Store(runs))
    assert page.panel.view.case == "TINY-00004-000"
    assert (page.panel.shown_modality, page.panel.shown_overlay) == ("flair", "truth")
    assert page.panel.viewer.position == [-2.0, 8.0, -5.0]


def test_what_is_done_on_the_page_stands_in_the_link(page):
    page.panel.viewer.position = [1.0, -2.5, 3.0]
    page.panel.choose_modality(2)
    page.panel.overlay_choice.value = "disagreement"
    page.panel.region_choice.value = "TC"
    query = page.state.query()
    for part in ("page=cases", f"run={RUN}", "position=1,-2.5,3", "modality=t1c", "overlay=disagreement", "region=TC"):
        assert part in query


def test_keys(page):
    cases = page.ordered_cases()
    page.press("PageDown")
    assert page.state.case == cases[1]
    assert page.panel.view.case == cases[1]
    page.press("ArrowUp")
    page.press("ArrowUp")
    assert page.state.case == cases[0]
    page.press("2")
    assert page.panel.shown_modality == page.panel.view.modalities[1]
    page.press("o")
    assert page.panel.shown_overlay == "none"
    page.press("o")
    assert page.panel.shown_overlay == "prediction"
    before = page.panel.viewer.opacity
    page.press("]")
    assert page.panel.viewer.opacity == pytest.approx(before + 0.1)
    page.press("l")
    assert page.panel.viewer.outline
    page.press("?")
    assert page.help.visible


def test_another_case_forgets_the_position(page):
    page.panel.viewer.position = [1.0, -2.0, 3.0]
    assert page.state.position == "1,-2,3"
    page.table.selection = [3]
    assert page.state.case == page.table.value["case"].iloc[3]
    assert page.state.position == ""
    assert page.panel.viewer.position == [round(v, 1) for v in page.panel.view.centre()]


def test_order_follows_the_tables_sorters(page):
    page.table.sorters = [{"field": "case", "dir": "desc"}]
    assert page.ordered_cases() == sorted(page.ordered_cases(), reverse=True)


def test_split(page):
    page.split.value = "validation"
    assert page.state.split == "validation"
    assert (page.table.value["split"] == "validation").all()
    assert page.state.case in set(page.table.value["case"])
    page.split.value = "external"
    assert "no cases in the split 'external'" in page.notice.object


def test_a_cohort_without_a_run(runs, tiny_cohort, tmp_path, monkeypatch):
    (tmp_path / "cohorts").mkdir()
    (tmp_path / "cohorts" / "tiny").symlink_to(tiny_cohort.folder)
    (tmp_path / "cohorts" / "no cohort").mkdir()
    monkeypatch.setenv("WORKBENCH_COHORTS", str(tmp_path / "cohorts"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_cohort.folder, tmp_path / "cohorts" / "copy")
    page = CasesPage(AppState(page="cases"), Store(runs))
    assert "Choose a run" in page.notice.object
    page.source.value = "cohort:copy"
    assert page.state.cohort == "copy"
    assert len(page.table.value) == 12
    assert page.panel.view.case == "TINY-00000-000"
    assert list(page.panel.view.overlay_names().values()) == ["none", "truth"]
    for name in ("../../etc", "\0", "x" * 5000, "/etc"):
        page.state.cohort = name
        assert "There is no cohort" in page.notice.object


def test_a_lost_cohort_leaves_the_table_and_says_so(tiny_cohort, runs, tmp_path):
    shutil.copytree(runs, tmp_path / "elsewhere" / "runs")
    page = CasesPage(AppState(page="cases", run=RUN), Store(tmp_path / "elsewhere" / "runs"))
    assert "was it moved?" in page.notice.object
    assert len(page.table.value) == 8
    assert page.panel.view is None


def test_unknown_run_and_case_are_said(runs):
    page = CasesPage(AppState(page="cases", run="tiny/gone"), Store(runs))
    assert "not there" in page.notice.object
    page = CasesPage(AppState(page="cases", run=RUN, case="NOBODY"), Store(runs))
    assert "no case 'NOBODY'" in page.notice.object
    page.step(1)
    assert page.panel.view is not None


def test_another_page_loads_nothing(runs):
    page = CasesPage(AppState(page="overview", run=RUN), Store(runs))
    assert page.panel.view is None
    assert not page.keyboard.active
    page.state.page = "cases"
    assert page.panel.view is not None
    assert page.keyboard.active


def test_an_unreadable_prediction_is_said(runs, tiny_cohort, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    spec = tmp_path / "runs" / RUN / "spec.json"
    spec.write_text(spec.read_text().replace('"path": "', '"path": "' + str(tiny_cohort.folder) + '", "was": "'))
    (tmp_path / "runs" / RUN / "predictions" / "TINY-00000-000.nii.gz").write_bytes(b"torn")
    page = CasesPage(AppState(page="cases", run=RUN, case="TINY-00000-000"), Store(tmp_path / "runs"))
    assert "channel prediction" in page.panel.problem
    assert page.panel.viewer.image  # the images are shown all the same
    page.panel.overlay = "truth"
    assert page.panel.problem == ""
    assert page.panel.shown_overlay == "truth"
    page.step(-1)
    assert page.panel.problem == ""


@pytest.mark.slow
def test_two_hundred_cases_later_nothing_is_kept(page):
    """Objects that are alive, after 50 and after 200 switches of one session."""

    def alive_after(switches: int) -> int:
        for _ in range(switches):
            before = page.state.case
            page.step(1 if page.ordered_cases()[-1] != before else -(len(page.ordered_cases()) - 1))
            assert page.state.case != before
        gc.collect()
        return len(gc.get_objects())

    early = alive_after(50)
    assert alive_after(150) < 1.03 * early
    assert not page.notice.visible

"""The Ablations page without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import holoviews as hv
import pandas as pd
import panel as pn
import pytest

from app.ablations import AblationsPage
from app.state import AppState
from app.store import Store
from workbench.evaluation.ablation import ablation_deltas
from workbench.files import write_json
from workbench.records.sweep_cells import comparable, sweep_cells
from workbench.records.sweep_plan import plan_path, read_plan

pn.extension("tabulator", design="bootstrap")


@pytest.fixture(scope="module")
def store(sweep_runs: Path) -> Store:
    return Store(sweep_runs)


@pytest.fixture(scope="module")
def page(store: Store) -> AblationsPage:
    return AblationsPage(AppState(page="ablations"), store)


def figures(page: AblationsPage) -> list:
    return [pane.object for pane in page.blocks.select(pn.pane.HoloViews)]


def labels(page: AblationsPage, block: int = 0) -> list[str]:
    return [text for _, text in figures(page)[block].opts.get("plot").kwargs["yticks"]]


def test_the_newest_sweep_is_shown_with_every_cell(page: AblationsPage) -> None:
    page.state.param.update(judged="", order="declared", against="", split="test")
    assert "attention: 20 of 24 runs finished; 1 running, 1 queued, 1 failed, 1 missing" in page.title.object
    assert "phantom cohort demo" in page.title.object
    assert page.matrix.object.count("✓ completed") == 20
    assert "▶ training 38 %" in page.matrix.object
    assert "the loss is not finite at step 160" in page.matrix.object
    assert len(figures(page)) == 2, "one block per method"
    assert labels(page) == ["no_attention", "single_branch", "no_dropout", "wider"]
    assert "resample subjects and seeds" in page.notes.object
    assert "all 79 tests" in page.notes.object
    root = page.store.folder
    whole = ablation_deltas(comparable(root, sweep_cells(root, read_plan(root, "attention")))[0])
    pd.testing.assert_frame_equal(page._last[2].table, whole.table, check_dtype=False)


def test_many_cells_are_signs_with_a_legend(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.views.ablation_tables.WIDE", 2)
    found = AblationsPage(AppState(page="ablations"), store).matrix.object
    wide = found.partition("mts_unet<")[0]
    assert "fold, seed" in wide
    assert wide.count("✓</a>") == 16
    assert wide.count("✓ completed") == 1, "in the legend"
    assert "▶ 38 %" in wide
    assert "✕ failed</span> 1" in wide


def test_outcome_order_and_reference_follow_the_state_and_back(page: AblationsPage) -> None:
    page.judged.value = "auc:idh:mutant"
    assert page.state.judged == "auc:idh:mutant"
    assert figures(page)[0].opts.get("plot").kwargs["title"] == "AUC, IDH mutation: difference to baseline"
    assert "DeLong" in page.notes.object
    page.order.value = "effect"
    assert labels(page)[-1] == "no_attention"
    page.state.judged = "hd95:ET"
    assert page.judged.value == "hd95:ET"
    assert "lower is better" in page.notes.object
    page.state.order = "declared"


def test_without_markers_no_curves_are_offered(small_sweep: Path) -> None:
    for path in small_sweep.rglob("markers.parquet"):
        path.unlink()
    blocks = AblationsPage(AppState(page="ablations"), Store(small_sweep)).blocks
    said = "".join(pane.object for pane in blocks.select(pn.pane.HTML))
    assert "no_attention" in said
    assert "page=curves" not in said


def test_cells_link_to_their_run_and_pairs_to_their_curves(page: AblationsPage, store: Store) -> None:
    plan = read_plan(store.folder, "attention")
    assert f'href="?page=overview&amp;run={plan.cells[0].run}"' in page.matrix.object
    missing = next(c.run for c in plan.cells if not (store.folder / c.run).exists())
    assert f"run={missing}" not in page.matrix.object
    text = "".join(pane.object for pane in page.blocks.select(pn.pane.HTML))
    query = text.split('href="?')[1].split('"')[0].replace("&amp;", "&")
    assert parse_qs(query) == {"page": ["curves"], "runs": [plan.cells[0].run, plan.cells[4].run]}


def test_nothing_is_drawn_before_the_page_is_looked_at_nor_twice(store: Store) -> None:
    state = AppState(page="overview")
    page = AblationsPage(state, store)
    assert len(page.blocks) == 0
    state.page = "ablations"
    first = figures(page)[0]
    page.refresh()
    assert figures(page)[0] is first


def test_a_link_to_what_is_not_there_falls_back_and_says_so(store: Store) -> None:
    state = AppState(page="ablations", sweep="gone", judged="dice:moon", split="validation", against="nothing", order="up")
    page = AblationsPage(state, store)
    assert page.sweep.value == "attention"
    assert "There is no sweep" in page.notes.object
    assert (page.judged.value, page.split.value, page.against.value, page.order.value) == (
        "dice:WT", "test", "baseline", "declared")  # fmt: skip


def test_no_sweep_says_how_to_make_one(tmp_path: Path) -> None:
    page = AblationsPage(AppState(page="ablations"), Store(tmp_path))
    assert "workbench sweep FILE" in page.title.object
    assert not page.sweep.visible
    assert len(page.blocks) == 0


@pytest.fixture
def planned(store: Store, tmp_path: Path) -> Path:
    write_json(plan_path(tmp_path, "attention"), read_plan(store.folder, "attention").model_dump(mode="json"))
    return tmp_path


def test_a_sweep_of_which_nothing_is_finished_shows_its_cells(planned: Path) -> None:
    page = AblationsPage(AppState(page="ablations"), Store(planned))
    assert "0 of 24 runs finished; 24 missing" in page.title.object
    assert page.matrix.object.count("– missing") == 24
    assert "Nothing can be compared yet" in page.blocks[0].object
    assert page.sweep.value == "attention"


def test_a_damaged_plan_is_named(planned: Path) -> None:
    plan_path(planned, "attention").write_text(json.dumps({"name": 3}))
    page = AblationsPage(AppState(page="ablations"), Store(planned))
    assert "is not the plan of a sweep" in page.title.object


def test_a_refused_switch_is_shown_as_such(small_sweep: Path) -> None:
    run = read_plan(small_sweep, "attention").cells[2].run
    page = AblationsPage(AppState(page="ablations", against="no_attention"), Store(small_sweep))
    assert labels(page) == ["baseline"]
    table = pd.read_parquet(small_sweep / run / "metrics.parquet")
    kept = table["case"] != table.loc[table["split"] == "test", "case"].iloc[0]
    table[kept].to_parquet(small_sweep / run / "metrics.parquet")
    page = AblationsPage(AppState(page="ablations"), Store(small_sweep))
    assert "Refused: mts_unet, no_attention: 1 cases were judged in the first run only" in page.notes.object
    assert "Nothing can be compared" in page.blocks[0].object


def test_a_torn_table_is_named_and_the_other_cells_are_compared(small_sweep: Path) -> None:
    run = read_plan(small_sweep, "attention").cells[2].run
    (small_sweep / run / "markers.parquet").write_bytes(b"torn")
    page = AblationsPage(AppState(page="ablations"), Store(small_sweep))
    assert "cannot be read as a table" in page.notes.object
    said = [text for part in figures(page)[0] if isinstance(part, hv.Labels) for text in part.dframe()["said"]]
    assert "1/2" in said


def test_conditions_of_a_sweep_that_is_no_ablation_are_compared_with_the_one_chosen(small_sweep: Path) -> None:
    plan = read_plan(small_sweep, "attention")
    other = plan.model_copy(update={"name": "plain", "ablation": False})
    write_json(plan_path(small_sweep, "plain"), other.model_dump(mode="json"))
    page = AblationsPage(AppState(page="ablations", sweep="plain", against="no_attention"), Store(small_sweep))
    assert labels(page) == ["baseline"]
    assert "switch minus no_attention" in page.notes.object

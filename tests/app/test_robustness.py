"""The Robustness page without a browser."""

from __future__ import annotations

import html
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import panel as pn
import pytest

from app.robustness import RobustnessPage, can_be_judged, modality_order, same_unit
from app.state import AppState
from app.store import Store


def ticks(pane: pn.pane.HoloViews, axis: str) -> list[str]:
    return [text for _, text in pane.object.opts.get("plot").kwargs[axis]]


def test_two_runs_stand_beside_each_other(store: Store, done: dict[int, str]) -> None:
    page = RobustnessPage(AppState(page="robustness", runs=[done[1], done[2]]), store)
    assert ticks(page.heatmap, "xticks") == ["unet", "mts_unet"]
    rows = ticks(page.heatmap, "yticks")
    assert len(rows) == 15
    assert (rows[0], rows[-1]) == ("T1", "T1 + T1c + T2 + FLAIR"), "fewest sequences first"
    assert page.number.object is not None
    assert page.added.object is not None
    assert "Unequal effort" in page.notes.object


def test_one_run_shows_all_it_is_judged_by(store: Store, done: dict[int, str]) -> None:
    state = AppState(page="robustness", runs=[done[2]])
    page = RobustnessPage(state, store)
    assert ticks(page.heatmap, "xticks")[:2] == ["Dice, WT", "Dice, TC"]
    assert "AUC, IDH mutation" in ticks(page.heatmap, "xticks")
    first = page.heatmap.object
    state.judged = "hd95:ET"
    assert all(text.startswith("HD95") for text in ticks(page.heatmap, "xticks"))
    assert page.heatmap.object is not first
    state.judged = "auc:idh:mutant"
    assert page.judged.value == "auc:idh:mutant"
    assert "probability of the true class" in page.number.object.opts.get("plot").kwargs["ylabel"]


def test_what_was_not_judged_is_named_and_how_to_do_it(store: Store, done: dict[int, str]) -> None:
    page = RobustnessPage(AppState(page="robustness", runs=[done[3], "demo/gone"]), store)
    assert page.heatmap.object is None
    assert "workbench robustness" in page.notes.object
    assert "demo/gone" in page.notes.object
    assert "No run was judged" in page.notes.object


def test_a_split_without_rows_is_said(store: Store, done: dict[int, str]) -> None:
    page = RobustnessPage(AppState(page="robustness", runs=[done[1]], split="external"), store)
    assert "Nothing of the external split" in page.notes.object
    assert page.added.object is None


def test_a_link_with_an_unknown_judgement_falls_back(store: Store, done: dict[int, str]) -> None:
    page = RobustnessPage(AppState(page="robustness", runs=[done[1]], judged="dice:moon", split="validation"), store)
    assert page.judged.value == "dice:WT"
    assert page.split.value == "test"


def test_nothing_is_drawn_before_the_page_is_looked_at_nor_twice(store: Store, done: dict[int, str]) -> None:
    state = AppState(page="overview", runs=[done[1]])
    page = RobustnessPage(state, store)
    assert page.heatmap.object is None
    state.page = "robustness"
    first = page.heatmap.object
    assert first is not None
    page.refresh()
    assert page.heatmap.object is first


@pytest.fixture
def copied(store: Store, done: dict[int, str], tmp_path: Path) -> Callable[[], tuple[Store, Path]]:
    """Makes a runs folder of two judged runs; the second one's folder is the one to damage."""

    def make() -> tuple[Store, Path]:
        for seed in (1, 2):
            shutil.copytree(store.folder / done[seed], tmp_path / done[seed])
        return Store(tmp_path), tmp_path / done[2]

    return make


@pytest.mark.parametrize("name", ["subset_metrics.parquet", "subset_markers.parquet"])
def test_a_run_with_another_table_is_named_and_the_others_are_drawn(
    copied: Callable[[], tuple[Store, Path]], done: dict[int, str], name: str
) -> None:
    store, broken = copied()
    table = pd.read_parquet(broken / name)
    table.drop(columns="present").to_parquet(broken / name, index=False)
    page = RobustnessPage(AppState(page="robustness", runs=[done[1], done[2]]), store)
    assert "'present' is missing" in html.unescape(page.notes.object)
    assert "workbench robustness" in page.notes.object
    assert page.heatmap.object is not None


def test_runs_that_were_judged_on_other_cases_say_so(copied: Callable[[], tuple[Store, Path]], done: dict[int, str]) -> None:
    store, fewer = copied()
    state = AppState(page="robustness", runs=[done[1], done[2]])
    assert "same cases" not in RobustnessPage(state, store).notes.object
    for name in ("subset_metrics.parquet", "subset_markers.parquet"):
        table = pd.read_parquet(fewer / name)
        table[table["case"].isin(sorted(table["case"].unique())[:6])].to_parquet(fewer / name, index=False)
    assert (
        "Not judged on the same cases (unet 24, mts_unet 6, 6 of them" in RobustnessPage(state, Store(store.folder)).notes.object
    )


@pytest.mark.parametrize("content", [b"junk", None])
def test_a_damaged_table_of_features_is_named(
    copied: Callable[[], tuple[Store, Path]], done: dict[int, str], content: bytes | None
) -> None:
    store, broken = copied()
    if content is None:
        pd.DataFrame({"a": [1]}).to_parquet(broken / "features.parquet")
    else:
        (broken / "features.parquet").write_bytes(content)
    page = RobustnessPage(AppState(page="robustness", runs=[done[2]]), store)
    assert "the table of features cannot be drawn" in page.notes.object
    assert page.heatmap.object is not None


def test_small_things() -> None:
    assert modality_order(pd.Series(["flair", "t1", "t1+t2+flair"])) == ["t1", "t2", "flair"]
    assert same_unit("dice:WT", "auc:idh:mutant")
    assert not same_unit("dice:WT", "hd95:WT")
    assert can_be_judged("unet")
    assert not can_be_judged("pretrain_swin")
    assert not can_be_judged("radiomics")

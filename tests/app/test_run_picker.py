"""Which runs a page compares."""

from __future__ import annotations

from app.run_picker import RunPicker, cohorts, gone, unequal_cohorts
from app.state import AppState
from app.store import Store
from workbench.records.index import RunRow


def row(cohort: str, *, phantom: bool = False, fingerprint: str = "") -> RunRow:
    return RunRow(f"e/{cohort}", "e", "completed", cohort=cohort, phantom=phantom, fingerprint=fingerprint or cohort)


def test_completed_runs_are_offered_and_those_of_the_state_shown(store: Store, done: dict[int, str]) -> None:
    picker = RunPicker(AppState(runs=[done[2], "demo/gone"]), store)
    picker.follow()
    assert set(picker.widget.options.values()) == set(done.values())
    assert picker.widget.value == [done[2]]
    assert picker.state.runs == [done[2], "demo/gone"], "what cannot be shown stays in the link"
    assert [row.run for row in picker.rows()] == [done[2]]
    assert f"mts_unet · {done[2].partition('/')[2][:6]} (demo)" in picker.widget.options


def test_what_is_picked_stands_in_the_state_and_none_means_the_latest(store: Store, done: dict[int, str]) -> None:
    picker = RunPicker(AppState(), store)
    picker.follow()
    assert sorted(row.method for row in picker.rows()) == ["mts_unet", "unet"]
    picker.widget.value = [done[3], done[1]]
    assert picker.state.runs == [done[3], done[1]]
    assert [row.run for row in picker.rows()] == [done[3], done[1]]


def test_gone_runs_are_named(store: Store, done: dict[int, str]) -> None:
    assert gone(AppState(runs=[done[1]]), store) == []
    assert gone(AppState(runs=["a/b", done[1], "c/d"]), store) == ["Not in the runs folder (any more): a/b, c/d."]


def test_runs_of_different_cohorts_are_no_comparison() -> None:
    one, other = row("demo", phantom=True), row("EGD")
    assert unequal_cohorts([one, one]) == []
    assert unequal_cohorts([one, other], "curves") == [
        "These runs were made from different cohorts: their curves are not comparable."
    ]
    assert len(unequal_cohorts([row("EGD", fingerprint="a"), row("EGD", fingerprint="b")])) == 1, "the same name, other cases"
    assert cohorts([one, other, one]) == "phantom cohort demo and EGD"

"""State and address: what goes out comes back, and a stale link never dies."""

from __future__ import annotations

import param
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.state import PAGES, SPLITS, AppState, Binding, parse_position

TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


class Location(param.Parameterized):
    search = param.String("")


@given(TEXT, st.lists(TEXT.filter(bool), unique=True, max_size=3), TEXT, st.sampled_from(SPLITS), st.sampled_from(list(PAGES)))
def test_round_trip(case: str, runs: list[str], marker: str, split: str, page: str) -> None:
    state = AppState(case=case, runs=runs, marker=marker, split=split, page=page, threshold=0.25)
    other = AppState()
    other.read_query(state.query())
    assert other.message == ""
    for name in ("case", "runs", "marker", "split", "page", "threshold"):
        assert getattr(other, name) == getattr(state, name), name


@pytest.mark.parametrize("case", ["0001", "12e4", "1.0", "true", "[1]", "nan", "a b&c=d"])
def test_a_case_name_stays_text(case: str) -> None:
    other = AppState()
    other.read_query(AppState(case=case).query())
    assert other.case == case


def test_defaults_make_a_short_address() -> None:
    assert AppState().query() == ""
    assert AppState(page="curves").query() == "?page=curves"
    assert AppState(runs=["e/a", "e/b"]).query() == "?runs=e/a&runs=e/b"


@pytest.mark.parametrize(
    ("search", "word"),
    [("?page=nowhere", "nowhere"), ("?threshold=high", "threshold"), ("?threshold=7", "7"), ("?position=1,2", "position"),
     ("?split=tset", "tset")],
)  # fmt: skip
def test_a_stale_link_says_so_and_keeps_the_rest(search: str, word: str) -> None:
    state = AppState()
    state.read_query(search + "&case=A1&unknown=1")
    assert word in state.message
    assert state.case == "A1"
    assert state.page in PAGES
    assert "message" not in state.query()


def test_address_follows_state_and_state_follows_address() -> None:
    location, state = Location(search="?page=cases&case=007"), AppState()
    state.bind(location)
    assert (state.page, state.case) == ("cases", "007")
    state.param.update(page="curves", position="1,-2.5,3")
    assert location.search == "?page=curves&case=007&position=1,-2.5,3"
    assert state.position == "1,-2.5,3"
    location.search = "?page=overview"  # the browser's back button
    assert (state.page, state.case, state.position) == ("overview", "", "")


def test_no_location_outside_a_server() -> None:
    AppState().bind(None)


def test_positions() -> None:
    assert parse_position(" 1, 2.5,-3 ") == (1.0, 2.5, -3.0)
    with pytest.raises(ValueError, match="mm"):
        parse_position("1,2,x")


class Widget(param.Parameterized):
    value = param.Parameter(None)


def test_widgets_write_what_is_chosen_unless_they_follow() -> None:
    state, marker, runs = AppState(marker="idh"), Widget(), Widget()
    binding = Binding(state, marker=marker, runs=runs)
    with binding.following():
        marker.value, runs.value = "codel", ["e/a"]
    assert (state.marker, state.runs) == ("idh", [])
    marker.value, runs.value = "tert", ["e/b"]
    assert (state.marker, state.runs) == ("tert", ["e/b"])
    assert state.runs is not runs.value
    marker.value = None
    assert state.marker == "tert", "nothing chosen is no choice"
    with pytest.raises(ZeroDivisionError), binding.following():
        marker.value = 1 / 0
    marker.value = "mgmt"
    assert state.marker == "mgmt"

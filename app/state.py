"""The one state of a session, and its two-way binding to the address: a link opens what its sender saw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import param


class Page(NamedTuple):
    """A page: its title in the navigation, and 'module:class' of what shows it, imported when it is first looked at."""

    title: str
    viewer: str


PAGES = {
    "overview": Page("Overview", "app.overview:OverviewPage"),
    "cases": Page("Cases", "app.cases:CasesPage"),
    "curves": Page("Curves", "app.curves:CurvesPage"),
    "robustness": Page("Robustness", "app.robustness:RobustnessPage"),
    "ablations": Page("Ablations", "app.ablations:AblationsPage"),
}
"""Key in the address -> page, in the order of the navigation."""
SPLITS = ("test", "validation", "external", "train")
THEMES = ("light", "dark")


class AppState(param.Parameterized):
    """What the user is looking at. Identifiers only, never objects: every field can stand in a link."""

    page = param.String("overview", doc="key of PAGES")
    runs = param.List([], item_type=str, doc="runs selected for comparison, paths relative to the runs folder")
    run = param.String("", doc="the run under inspection, path relative to the runs folder")
    cohort = param.String("", doc="a cohort looked at without a run: name of its folder among the cohorts")
    case = param.String("", doc="the case under inspection")
    split = param.String("test", doc="one of SPLITS")
    marker = param.String("", doc="marker, e.g. idh; with its class after a colon where it has several: 'grade:4'")
    region = param.String("WT", doc="segmentation region")
    metric = param.String("dice", doc="segmentation metric")
    judged = param.String("", doc="what robustness is judged by, e.g. 'dice:WT' or 'auc:idh:mutant'")
    sweep = param.String("", doc="name of the sweep whose ablation is shown")
    against = param.String("", doc="condition of the sweep that the others are compared with; empty: its baseline")
    order = param.String("declared", doc="of the switches: declared or effect")
    modality = param.String("", doc="modality shown under the overlay")
    overlay = param.String("", doc="what is drawn over the image: truth, prediction, disagreement, map:<name>, none")
    position = param.String("", doc="crosshair 'x,y,z' in mm, RAS+")
    threshold = param.Number(0.5, bounds=(0.0, 1.0), doc="probability from which a case is called positive")
    theme = param.String("light", doc="one of THEMES")

    message = param.String("", doc="what could not be taken from the link; not in the address")

    def query(self) -> str:
        """The part of the address after and with '?': every field that is not at its default."""
        values: list[tuple[str, str]] = []
        for name in _linked():
            value = getattr(self, name)
            if value == type(self).param[name].default:
                continue
            values += [(name, item) for item in value] if isinstance(value, list) else [(name, _text(value))]
        return "?" + urlencode(values, safe="/,:", quote_via=quote) if values else ""

    def read_query(self, search: str) -> None:
        """Take the fields from an address; those it does not name go to their defaults. What cannot be used is said in `message`.

        (Panel's own `location.sync` turns a case named '0001' into the number 1 and drops all fields when one is wrong.)
        """
        found: dict[str, list[str]] = {}
        for name, text in parse_qsl(search.removeprefix("?")):
            found.setdefault(name, []).append(text)
        values: dict[str, Any] = {name: _default(name) for name in _linked()}
        wrong = []
        for name in _linked():
            if name in found:
                try:
                    values[name] = _parse(name, found[name])
                except ValueError as error:
                    wrong.append(f"{name}: {error}")
        self.param.update(**values, message="The link could not be followed in full: " + "; ".join(wrong) if wrong else "")

    def bind(self, location: Any) -> None:
        """Read the address now, follow it, and write every change back to it. `location`: `pn.state.location`, or None."""
        if location is None:
            return
        self.read_query(location.search or "")

        def write(*_: object) -> None:
            if (location.search or "") != self.query():
                location.search = self.query()

        def read(*_: object) -> None:
            if (location.search or "") != self.query():
                self.read_query(location.search or "")

        self.param.watch(write, _linked())
        location.param.watch(read, "search")


class Binding:
    """Widgets that write fields of the state, and are set from the state without writing back.

    Args:
        state: the session's state.
        widgets: field -> the widget whose value it takes; where nothing is chosen (None), the field stays.
    """

    def __init__(self, state: AppState, **widgets: Any) -> None:
        self.state = state
        self._silent = False
        for name, widget in widgets.items():
            widget.param.watch(lambda event, name=name: self.write(name, event.new), "value")

    def write(self, name: str, value: Any) -> None:
        """Set a field to what a widget holds."""
        if not self._silent and value is not None:
            setattr(self.state, name, list(value) if isinstance(value, list) else value)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Widgets that are set within this block do not write."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False


def parse_position(text: str) -> tuple[float, float, float]:
    """Parse 'x,y,z'.

    Raises:
        ValueError: it is not three finite numbers.
    """
    number = r"\s*(-?\d+(?:\.\d+)?)\s*"
    match = re.fullmatch(f"{number},{number},{number}", text)
    if not match:
        raise ValueError(f"'{text}' is not a position 'x,y,z' in mm")
    x, y, z = (float(part) for part in match.groups())
    return x, y, z


def _linked() -> list[str]:
    return [name for name in AppState.param if name not in ("name", "message")]


def _default(name: str) -> Any:
    default = AppState.param[name].default
    return list(default) if isinstance(default, list) else default


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parse(name: str, texts: list[str]) -> Any:
    allowed = {"page": tuple(PAGES), "split": SPLITS, "theme": THEMES}.get(name)
    text = texts[-1]
    if name == "runs":
        return list(dict.fromkeys(texts))
    if name == "threshold":
        value = float(text)
        if not 0 <= value <= 1:
            raise ValueError(f"{text} is not between 0 and 1")
        return value
    if allowed and text not in allowed:
        raise ValueError(f"'{text}' is none of {', '.join(allowed)}")
    if name == "position":
        parse_position(text)
    return text

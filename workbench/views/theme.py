"""How figures look: colour-blind-safe colours, light and dark, readable sizes, and the cohort's name on everything.

Figures are HoloViews objects with Bokeh options; `finish` gives each the same frame. Colours: Okabe and Ito (2008), 'Color
universal design', without their yellow on white and their blue on black, where these cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import holoviews as hv
import holoviews.plotting.bokeh  # registers the backend, so that options can be set without hv.extension

from workbench.moved import moved_from


@dataclass(frozen=True)
class Theme:
    """Colours of one theme."""

    name: str
    page: str
    panel: str
    text: str
    muted: str
    line: str
    colours: tuple[str, ...]


THEMES: dict[str, Theme] = {
    "light": Theme(
        "light", "#ffffff", "#ffffff", "#1d2329", "#5a6570", "#d5dae0",
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
    ),
    "dark": Theme(
        "dark", "#15191e", "#1b2026", "#e3e8ed", "#a3aeb9", "#39424c",
        ("#56B4E9", "#E69F00", "#00B588", "#CC79A7", "#F0E442", "#F0772B", "#ffffff"),
    ),
}  # fmt: skip

FONT = "system-ui, sans-serif"

DASHES = ("solid", "dashed", "dotdash", "dotted")
"""Second cue beside the colour, so that lines can be told apart in print and without colour vision."""
SHAPES = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex", "star")

STATE_SIGNS = {
    "queued": "◷",
    "running": "▶",
    "completed": "✓",
    "failed": "✕",
    "cancelled": "■",
    "interrupted": "‖",
    "unreadable": "?",
}
"""Sign that stands beside the name of a run's state, so that the colour is not the only cue."""

_STATE_COLOURS = {
    "light": {"running": "#0072B2", "completed": "#00704f", "interrupted": "#8a5a00"}
    | dict.fromkeys(("failed", "unreadable"), "#b3401c"),
    "dark": {"running": "#56B4E9", "completed": "#2fd0a2", "interrupted": "#f0b429"}
    | dict.fromkeys(("failed", "unreadable"), "#ff9566"),
}  # fmt: skip


def theme(name: str) -> Theme:
    """The theme of this name; an unknown one is the light theme."""
    return THEMES.get(name, THEMES["light"])


def state_colour(state: str, name: str = "light") -> str:
    """Text colour of a run's state."""
    return _STATE_COLOURS[theme(name).name].get(state, theme(name).muted)


def colour(index: int, name: str = "light") -> str:
    """Colour of the run at this place in the comparison."""
    colours = theme(name).colours
    return colours[index % len(colours)]


def places(titles: Iterable[str], order: Sequence[str] = ()) -> dict[str, int]:
    """Title -> its place, for `colour`, `dash` and `shape`.

    Args:
        titles: of the runs that a figure shows.
        order: of all runs that are compared; a run keeps its colour on a figure that not all of them are on.
    """
    every = list(dict.fromkeys([*order, *titles]))
    return {title: every.index(title) for title in titles}


def dash(index: int) -> str:
    """Line pattern of the run at this place: solid for the first round of colours, dashed for the second, and so on."""
    return DASHES[(index // len(THEMES["light"].colours)) % len(DASHES)]


def shape(index: int) -> str:
    """Marker shape of the run at this place."""
    return SHAPES[index % len(SHAPES)]


def finish(
    element: Any,
    *,
    title: str,
    subtitle: str = "",
    name: str = "light",
    width: int = 380,
    height: int = 380,
    legend: str | None = "bottom",
    **options: Any,
) -> Any:
    """Give a HoloViews element or overlay its frame: title, subtitle (cohort, split, n), sizes, colours of the theme.

    Args:
        element: what to finish; an `hv.Overlay` for anything with a legend.
        title: what is shown.
        subtitle: of which cohort, split and how many cases; written under the title.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
        height: of the inner frame, pixels.
        legend: 'bottom' puts it below the plot, 'right' beside it, None leaves it out.
        options: further options of the outermost element, e.g. xlim, xticks.
    """
    look = theme(name)
    common: dict[str, Any] = {
        "frame_width": width,
        "frame_height": height,
        "title": title.replace("{", "{{").replace("}", "}}"),  # HoloViews formats titles
        "hooks": [_frame_hook(look, subtitle, legend)],
        "fontsize": {"title": 14, "labels": 13, "xticks": 12, "yticks": 12},
        "toolbar": "above",
        "shared_axes": False,  # equal names of axes (value, step) must not link figures
        **options,
    }
    if isinstance(element, hv.Overlay):
        common["show_legend"] = legend is not None
        common["legend_position"] = legend or "right"
    return element.opts(**common, backend="bokeh")


def _frame_hook(look: Theme, subtitle: str, legend: str | None) -> Any:
    def hook(plot: Any, _element: Any) -> None:
        figure = plot.state
        figure.background_fill_color = look.panel
        figure.border_fill_color = look.page
        figure.outline_line_color = look.line
        figure.toolbar.logo = None
        figure.toolbar.autohide = True
        figure.title.text_color = look.text
        figure.title.text_font_style = "bold"
        figure.title.text_font = FONT
        for axis in [*figure.xaxis, *figure.yaxis]:
            axis.axis_label_text_color = look.text
            axis.axis_label_text_font_style = "normal"
            axis.axis_label_text_font = axis.major_label_text_font = FONT
            axis.major_label_text_color = look.text
            axis.axis_line_color = look.muted
            axis.major_tick_line_color = look.muted
            axis.minor_tick_line_color = None
        for grid in [*figure.xgrid, *figure.ygrid]:
            grid.grid_line_color = look.line
            grid.grid_line_alpha = 0.6
        _subtitle(figure, look, subtitle)
        for box in figure.legend:
            box.background_fill_color = look.page
            box.background_fill_alpha = 0.0 if legend == "bottom" else 0.8
            box.border_line_color = None
            box.label_text_color = look.text
            box.label_text_font_size = "12px"
            box.orientation = "vertical"
            box.spacing = 2
            box.padding = 4
            box.margin = 2
            box.label_text_font = FONT
            box.click_policy = "hide"

    return hook


def _subtitle(figure: Any, look: Theme, text: str) -> None:
    """A second title line; made once, changed in place when the plot is drawn anew."""
    from bokeh.models.annotations import Title

    found = [item for item in figure.above if isinstance(item, Title) and "subtitle" in item.tags]
    if found:
        found[0].text = text
    elif text:
        line = Title(text=text, tags=["subtitle"], text_font=FONT, text_font_size="12px", text_font_style="normal")
        line.text_color = look.muted
        figure.add_layout(line, "above")


def reference_line(points: Sequence[tuple[float, float]], name: str = "light", label: str = "") -> hv.Curve:
    """A muted dotted line: chance, perfect calibration, no difference."""
    return hv.Curve(list(points), "x", "y", label=label).opts(
        color=theme(name).muted, line_dash="dotted", line_width=1.5, backend="bokeh"
    )


if not TYPE_CHECKING:  # for one release
    __getattr__ = moved_from(__name__)

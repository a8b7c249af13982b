"""How a training went: its loss terms and its validation score over optimiser steps."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from workbench.text import visible
from workbench.views.theme import colour, dash, finish, shape, theme

SHOWN_POINTS = 600
"""Points drawn per term; a longer record is averaged over stretches of steps."""

_NOT_A_LOSS = ("learning_rate",)


def training_curves(
    events: pd.DataFrame, *, title: str = "Training", subtitle: str = "", name: str = "light", width: int = 480, height: int = 260
) -> dict[str, hv.Overlay]:
    """The recorded scalars as figures.

    Args:
        events: columns name, step, value, as `RunFolder.events()` gives them: 'train/<term>' and 'validation/<score>'.
        title: run and method.
        subtitle: cohort and whatever else the reader must know.
        name: 'light' or 'dark'.
        width: of the inner frame, pixels.
        height: of the inner frame, pixels.

    Returns:
        'loss': the training terms; 'score': the validation score with its best step marked. Only what was recorded.
    """
    losses = _series(events, "train/", _NOT_A_LOSS)
    scores = _series(events, "validation/", ())
    figures: dict[str, hv.Overlay] = {}
    sizes: dict[str, Any] = {"name": name, "width": width, "height": height, "subtitle": subtitle}
    end = float(events["step"].max()) if len(events) else 1.0
    sizes["xlim"] = (0.0, end * 1.04)
    if losses:
        lines = [_line(series, term, index, name) for index, (term, series) in enumerate(losses.items())]
        figures["loss"] = finish(
            hv.Overlay(lines),
            title=f"{title}: loss terms",
            xlabel="optimiser step",
            ylabel="loss",
            **sizes,
        )
    if scores:
        lines = [part for index, (term, series) in enumerate(scores.items()) for part in _score(series, term, index, name)]
        figures["score"] = finish(
            hv.Overlay(lines), title=f"{title}: validation", xlabel="optimiser step", ylabel="score (higher is better)", **sizes
        )
    return figures


def _series(events: pd.DataFrame, prefix: str, without: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    found = {}
    for name, rows in events[events["name"].str.startswith(prefix)].groupby("name", sort=False):
        term = visible(str(name).removeprefix(prefix))
        if term not in without:
            found[term] = thin(rows.sort_values("step"))
    return found


def thin(rows: pd.DataFrame, points: int = SHOWN_POINTS) -> pd.DataFrame:
    """At most `points` rows of step and value: means over equal stretches of a longer record."""
    if len(rows) <= points:
        return rows[["step", "value"]].reset_index(drop=True)
    stretch = np.arange(len(rows)) * points // len(rows)
    return rows[["step", "value"]].groupby(stretch).mean().reset_index(drop=True)


def _line(series: pd.DataFrame, label: str, index: int, name: str) -> hv.Curve:
    return hv.Curve(series, ("step", "optimiser step"), "value", label=label).opts(
        color=colour(index, name), line_dash=dash(index), line_width=2, tools=["hover"], backend="bokeh"
    )


def _score(series: pd.DataFrame, label: str, index: int, name: str) -> list[hv.Element]:
    line = _line(series, label, index, name)
    if series["value"].isna().all():
        return [line]
    best = series.loc[[series["value"].idxmax()]]
    text = f"best {best['value'].iloc[0]:.3f} at step {int(best['step'].iloc[0])}"
    mark = hv.Scatter(best, ("step", "optimiser step"), "value", label=text).opts(
        color=colour(index, name), line_color=theme(name).text, marker=shape(3), size=11, backend="bokeh"
    )
    return [line, mark]

"""What a method makes of its sequences, as two linked pictures of the same points: by sequence, and by lesion.

Both scatters draw from one data source in the browser: what is selected in one (box or lasso) is selected in the other, in the
dashboard, in JupyterLab and in a saved page alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.models.annotations import Legend, LegendItem
from bokeh.models.glyphs import Scatter
from matplotlib.figure import Figure

from workbench.cohort.table import cohort_title
from workbench.contracts import MODALITY_TITLES
from workbench.evaluation.embedding import TITLES, Form, embed, silhouette
from workbench.evaluation.intervals import Interval
from workbench.models.catalogue import CARDS
from workbench.records.run_folder import FEATURES_FILE
from workbench.views.estimates import estimate_text
from workbench.views.theme import SHAPES, finish, theme

ALL = "all sequences"
_GROUPS = {"lesion": "lesion", "dataset": "data set", "site": "site"}
_MATPLOTLIB = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "inverted_triangle": "v", "hex": "h", "star": "*"}
_TOOLS = ["box_select", "lasso_select", "tap"]


@dataclass(frozen=True)
class FeaturePoints:
    """The points of both pictures and what stands beside them."""

    table: pd.DataFrame
    """x, y, case, subject, site, split, sequence, group: one row per case and shown set."""
    form: Form
    group: str
    """What `group` is: 'lesion', 'data set' or 'site'."""
    by_sequence: Interval
    """Silhouette by sequence, of the rows that show one."""
    by_group: Interval
    """Silhouette by group, of the rows that show all that the case has."""

    @property
    def sequences(self) -> list[str]:
        """In the order of the legend: known ones, then others, then all together."""
        found = set(self.table["sequence"])
        known = [title for title in MODALITY_TITLES.values() if title in found]
        return known + sorted(found - {*known, ALL}) + [ALL] * (ALL in found)

    @property
    def groups(self) -> list[str]:
        """In the order of the legend."""
        return sorted(set(self.table["group"]))

    @property
    def counts(self) -> str:
        """'n = 60 of 12 cases'."""
        return f"n = {len(self.table)} of {self.table['case'].nunique()} cases"


def feature_points(features: pd.DataFrame, *, form: Form = "tsne", seed: int = 0) -> FeaturePoints:
    """Place the rows of `features.parquet`.

    Args:
        features: columns case, subject, site, split, present, f0 ... fD; dataset and lesion where they are known.
        form: see `evaluation.embedding.embed`.
        seed: of the embedding.
    """
    names = [name for name in features.columns if name[:1] == "f" and name[1:].isdigit()]
    values = features[names].to_numpy(float)
    places, made = embed(values, form=form, seed=seed)
    column = group_column(features)
    together = (features.groupby("case")["present"].transform(lambda sets: sets.str.count(r"\+").max())) > 0
    several = features["present"].str.contains("+", regex=False)
    table = features[["case", "subject", "site", "split"]].astype(str)
    table = table.assign(
        x=places[:, 0],
        y=places[:, 1],
        sequence=[
            ALL if many else MODALITY_TITLES.get(name, name) for name, many in zip(features["present"], several, strict=True)
        ],
        group=features[column].fillna("unknown").astype(str).to_numpy(),
    )
    single, whole = ~several.to_numpy(bool), (several | ~together).to_numpy(bool)
    people = table["subject"].to_numpy(str)
    return FeaturePoints(
        table,
        made,
        _GROUPS[column],
        silhouette(values[single], table["sequence"].to_numpy(str)[single], people[single]),
        silhouette(values[whole], table["group"].to_numpy(str)[whole], people[whole]),
    )


def group_column(features: pd.DataFrame) -> str:
    """What the second picture is coloured by: the first of lesion, dataset and site that has at least two values."""
    for column in ("lesion", "dataset"):
        if column in features and features[column].nunique() > 1:
            return column
    return "site"


def feature_scatters(
    points: FeaturePoints, *, title: str, subtitle: str = "", name: str = "light", width: int = 400
) -> hv.Layout:
    """The two linked scatters.

    Args:
        points: of `feature_points`.
        title: method.
        subtitle: cohort, and that it is a phantom where it is one.
        name: 'light' or 'dark'.
        width: and height of each inner frame, pixels.
    """
    table = points.table.copy()
    sides = {
        "sequence": ("sequence", points.sequences, points.by_sequence),
        "group": (points.group, points.groups, points.by_group),
    }
    for column, (_, order, _) in sides.items():
        table[f"{column}_colour"] = table[column].map(dict(zip(order, _colours(order, name), strict=True)))
        table[f"{column}_shape"] = table[column].map(dict(zip(order, _shapes(order), strict=True)))
    hidden = [f"{column}_{look}" for column in sides for look in ("colour", "shape")]
    shown = ["case", "site", "split", "sequence", "group"]
    hover = [("case", "@case"), ("sequence", "@sequence"), (points.group, "@group"), ("site", "@site"), ("split", "@split")]
    plots = []
    for column, (called, order, score) in sides.items():
        scatter = hv.Points(table, ["x", "y"], [*shown, *hidden]).opts(
            size=9, tools=[*_TOOLS, "hover"], hover_tooltips=hover, active_tools=["box_select"], backend="bokeh"
        )
        scatter = finish(
            scatter, title=f"{title} by {called}", subtitle=f"{subtitle}; {points.counts}\n{silhouette_text(score, called)}",
            name=name, width=width, height=width, xlabel=f"{TITLES[points.form]} 1", ylabel=f"{TITLES[points.form]} 2",
        )  # fmt: skip
        frame = hv.Store.lookup_options("bokeh", scatter, "plot").kwargs["hooks"]
        plots.append(scatter.opts(hooks=[_look(column, table, order), *frame, _show_tools], backend="bokeh"))
    return hv.Layout(plots).opts(shared_datasource=True, shared_axes=False, toolbar=None, merge_tools=False, backend="bokeh")


def _look(column: str, table: pd.DataFrame, order: Sequence[str]) -> Any:
    """Colours and shapes of one picture are columns of the shared source; a style of HoloViews would go for both."""

    def hook(plot: Any, _element: Any) -> None:
        figure, renderer = plot.state, plot.handles["glyph_renderer"]
        figure.output_backend = "canvas"  # Bokeh 3.9's WebGL gives a part of the points, the selected ones, wrong shapes
        for glyph, alpha in ((renderer.glyph, 0.85), (renderer.selection_glyph, 1.0), (renderer.nonselection_glyph, 0.1)):
            if isinstance(glyph, Scatter):
                glyph.update(
                    fill_color={"field": f"{column}_colour"}, line_color={"field": f"{column}_colour"},
                    marker={"field": f"{column}_shape"}, fill_alpha=alpha, line_alpha=alpha, line_width=0.5,
                )  # fmt: skip
        if not figure.legend:
            first = table.reset_index(drop=True).groupby(column).head(1)
            places = {str(row[column]): int(index) for index, row in first.iterrows()}  # type: ignore[call-overload]
            items = [LegendItem(label=label, renderers=[renderer], index=places[label]) for label in order]
            figure.add_layout(Legend(items=items, ncols=3), "below")
        for box in figure.legend:
            box.click_policy = "none"

    return hook


def _show_tools(plot: Any, _element: Any) -> None:
    """Box or lasso can be chosen; a toolbar that appeared under the pointer would shift the picture and lose the first box."""
    plot.state.toolbar_location = "right"
    plot.state.toolbar.autohide = False


def feature_still(points: FeaturePoints, *, title: str) -> Figure:
    """The same two pictures for paper and executed notebooks."""
    figure = Figure(figsize=(9.4, 5.2), layout="constrained", dpi=110)
    sides = (
        ("sequence", "sequence", points.sequences, points.by_sequence),
        ("group", points.group, points.groups, points.by_group),
    )
    for ax, (column, called, order, score) in zip(figure.subplots(1, 2), sides, strict=True):
        for label, tint, shape in zip(order, _colours(order, "light"), _shapes(order), strict=True):
            part = points.table[points.table[column] == label]
            ax.scatter(part["x"], part["y"], s=22, color=tint, marker=_MATPLOTLIB[shape], alpha=0.85, linewidths=0, label=label)
        ax.set(xlabel=f"{TITLES[points.form]} 1", ylabel=f"{TITLES[points.form]} 2", xticks=[], yticks=[])
        ax.set_title(f"by {called}\n{silhouette_text(score, called)}", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{title}; {points.counts}", fontsize=10)
    return figure


def feature_still_of(run_folder: Path, *, title: str) -> Figure | None:
    """`feature_still` of a run; None where it has no features."""
    file = run_folder / FEATURES_FILE
    return feature_still(_placed(file, file.stat().st_mtime_ns), title=title) if file.is_file() else None


def silhouette_text(score: Interval, called: str) -> str:
    """'silhouette by lesion 0.21 (0.10 to 0.30), n 40'."""
    if not score.estimable or np.isnan(score.value):
        return f"silhouette by {called}: not estimable"
    return f"silhouette by {called} {estimate_text(score.value, score.low, score.high, subjects=score.n_subjects)}, n {score.n}"


def feature_title(method: str) -> str:
    """The method's short name, as the title of the figures; what its card adds in brackets is left out."""
    return f"{CARDS[method].title.partition(' (')[0] if method in CARDS else method} features"


def feature_figure(run_folder: str | Path, *, name: str = "light", width: int = 400) -> hv.Layout | None:
    """The linked plot of a run, from its folder alone; None where it has no `features.parquet`."""
    folder = Path(run_folder)
    file = folder / FEATURES_FILE
    if not file.is_file():
        return None
    spec = json.loads((folder / "spec.json").read_text())
    points = _placed(file, file.stat().st_mtime_ns)
    subtitle = cohort_title(spec["cohort"]["name"], bool(spec["cohort"].get("phantom")))
    return feature_scatters(points, title=feature_title(spec["method"]), subtitle=subtitle, name=name, width=width)


@lru_cache(maxsize=8)
def _placed(file: Path, modified: int) -> FeaturePoints:
    """Placed once: t-SNE of a few hundred points takes about a second."""
    return feature_points(pd.read_parquet(file))


def _colours(order: Sequence[str], name: str) -> list[str]:
    colours = theme(name).colours[:6]  # the last one is the text's, which all sequences together have
    return [colours[index % len(colours)] if label != ALL else theme(name).text for index, label in enumerate(order)]


def _shapes(order: Sequence[str]) -> list[str]:
    """A second cue beside six colours: with seven shapes each of 42 groups has its own pair."""
    return [SHAPES[index % len(SHAPES)] for index in range(len(order))]

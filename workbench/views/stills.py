"""Pictures of cases for notebooks and reports: Matplotlib, radiological, in mm, labelled, with the cohort's name on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workbench.cohort.table import Cohort, cohort_title
from workbench.contracts import MODALITY_TITLES
from workbench.errors import WorkbenchError
from workbench.labels import LABEL_SETS, region_mask
from workbench.views.case_images import DisplayVolume, LabelColour, Volume, colours_of, largest_slice
from workbench.views.case_view import CaseView, open_case
from workbench.views.planes import AXIAL, EDGES, picture, picture_shape_mm

_CONTOURS = {"WT": 2, "TC": 1, "ET": 3, "RC": 4, "lesion": 1}
"""Region whose outer edge is drawn -> the label whose colour it gets: oedema's for the whole tumour, the core's for the core."""


def case_figure(
    images: Mapping[str, DisplayVolume],
    truth: Volume | None = None,
    prediction: Volume | None = None,
    *,
    case: str = "",
    cohort: str = "",
    phantom: bool = False,
    label_set: str = "glioma",
    metrics: Mapping[str, float] | None = None,
    axis: int = AXIAL,
    index: int | None = None,
) -> Figure:
    """One slice of a case: a column per modality; rows: the image, the truth's contours, the prediction's contours.

    Radiological convention (the patient's left on the right), L and R on every picture, a scale bar in mm.

    Args:
        images: modality -> image. Each may lie on its own grid: the slice nearest in mm is taken.
        truth: the annotators' canonical labels, or None: no row.
        prediction: the predicted canonical labels, or None: no row.
        case: the case's name, for the title.
        cohort: the cohort's name, for the title.
        phantom: whether the cohort is synthetic; then the title says so.
        label_set: what the annotators could draw: which contours there are.
        metrics: name -> value, written into the title, e.g. {"Dice WT": 0.91}.
        axis: the plane: 0 sagittal, 1 coronal, 2 axial.
        index: slice of the first image; default: the largest slice of the truth's or else the prediction's lesion.
    """
    if not images:
        raise WorkbenchError(f"case {case}: there is no image to draw")
    first = next(iter(images.values())).volume
    masks = {"truth": truth, "prediction": prediction}
    drawn = {name: labels.on(first.grid) for name, labels in masks.items() if labels is not None}
    if index is None:
        index = next((largest_slice(v.array > 0, axis) for v in drawn.values() if v.array.any()), first.array.shape[axis] // 2)
    rows: list[tuple[str, Volume | None]] = [("image", None), *drawn.items()]
    figure = Figure(figsize=(2.6 * max(len(images), 2), 2.75 * len(rows) + 0.9), facecolor="white", layout="constrained")
    axes = figure.subplots(len(rows), len(images), squeeze=False)
    for column, (modality, display) in enumerate(images.items()):
        slice_at = _same_slice(first, display.volume, axis, index)
        for row, (name, labels) in enumerate(rows):
            ax = axes[row, column]
            _draw_slice(ax, display, axis, slice_at)
            if labels is not None:
                _draw_contours(ax, labels.on(display.volume.grid), label_set, axis, slice_at)
            if row == 0:
                ax.set_title(MODALITY_TITLES.get(modality, modality), fontsize=11)
            if column == 0:
                ax.set_ylabel(name, fontsize=11)
    _legend(figure, label_set, bool(drawn))
    figure.suptitle(_title(case, cohort, phantom, metrics), fontsize=11)
    return figure


def figure_of(
    view: CaseView, *, modalities: Sequence[str] = (), metrics: Mapping[str, float] | None = None, axis: int = AXIAL
) -> Figure:
    """`case_figure` of a case as `open_case` gives it.

    Args:
        view: the case.
        modalities: which to draw, in order; empty = all that the case has.
        metrics: name -> value, for the title.
        axis: the plane.
    """
    chosen = [name for name in (modalities or view.modalities) if name in view.modalities]
    info = view.cohort.info
    return case_figure(
        {name: view.image(name) for name in chosen},
        view.truth,
        view.prediction,
        case=view.case,
        cohort=info.name,
        phantom=info.phantom,
        label_set=view.label_set,
        metrics=metrics,
        axis=axis,
    )


def case_grid(
    cohort: Cohort,
    scores: Mapping[str, float],
    run_folder: Path | None = None,
    *,
    name: str = "Dice WT",
    modality: str = "",
    each: int = 3,
    higher_is_better: bool = True,
) -> Figure:
    """The worst and the best cases side by side: upper row worst, lower row best, truth solid and prediction dashed.

    Args:
        cohort: where the cases are.
        scores: case -> value of the metric; NaN is left out.
        run_folder: a run folder with predictions, or None.
        name: what the metric is called.
        modality: image under the contours; '' = FLAIR, else contrast-enhanced T1, else the first.
        each: how many worst and how many best.
        higher_is_better: False for distances.
    """
    ranked = sorted((c for c, v in scores.items() if np.isfinite(v)), key=lambda c: scores[c], reverse=not higher_is_better)
    if not ranked:
        raise WorkbenchError(f"cohort {cohort.info.name}: there is no case with a value of {name}")
    each = min(each, max(1, len(ranked) // 2))
    groups = {"worst": ranked[:each], "best": ranked[::-1][:each]} if len(ranked) > 1 else {"only": ranked}
    figure = Figure(figsize=(max(3.0 * each, 5.0), 3.2 * len(groups) + 0.9), facecolor="white", layout="constrained")
    axes = figure.subplots(len(groups), each, squeeze=False)
    label_set = ""
    for row, (group, cases) in enumerate(groups.items()):
        for column, case in enumerate(cases):
            view = open_case(cohort, case, run_folder)
            label_set = label_set or view.label_set
            ax = axes[row, column]
            _draw_case(ax, view, modality)
            ax.set_title(f"{case}\n{name} {scores[case]:.2f}", fontsize=9)
            if column == 0:
                ax.set_ylabel(group, fontsize=11)
    _legend(figure, label_set, True, styles=("truth", "prediction"))
    figure.suptitle(f"{cohort_title(cohort.info.name, cohort.info.phantom)}: {name}, n = {len(ranked)} cases", fontsize=11)
    return figure


def _draw_case(ax: Any, view: CaseView, modality: str) -> None:
    wishes = [modality, "flair", "t1c", *view.modalities]
    display = view.image(next(m for m in wishes if m in view.modalities))
    grid = display.volume.grid
    masks = [labels.on(grid) for labels in (view.truth, view.prediction) if labels is not None]
    index = next((largest_slice(m.array > 0, AXIAL) for m in masks if m.array.any()), grid.shape[AXIAL] // 2)
    _draw_slice(ax, display, AXIAL, index)
    for labels, style in ((view.truth, "solid"), (view.prediction, "dashed")):
        if labels is not None:
            _draw_contours(ax, labels.on(grid), view.label_set, AXIAL, index, style)


def _same_slice(first: Volume, other: Volume, axis: int, index: int) -> int:
    """The slice of another volume that lies nearest in mm to slice `index` of the first."""
    middle = [(n - 1) / 2 for n in first.array.shape]
    middle[axis] = index
    return other.voxel(first.position((middle[0], middle[1], middle[2])))[axis]


def _draw_slice(ax: Any, display: DisplayVolume, axis: int, index: int) -> None:
    volume = display.volume
    width, height = picture_shape_mm(volume.array.shape, volume.spacing, axis)
    grey = display.levels()[picture(volume.array, axis, index)]
    ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0), interpolation="bilinear")
    ax.set(xticks=[], yticks=[], facecolor="black")
    for side in ax.spines.values():
        side.set_visible(False)
    left, right, top, bottom = EDGES[axis]
    style = {"color": "#ffd959", "fontsize": 9, "ha": "center", "va": "center", "fontweight": "bold"}
    for letter, x, y in ((left, 0.04, 0.5), (right, 0.96, 0.5), (top, 0.5, 0.96), (bottom, 0.5, 0.04)):
        ax.text(x, y, letter, transform=ax.transAxes, **style)
    bar = 50 if width > 120 else 20
    ax.plot([0.05 * width, 0.05 * width + bar], [0.95 * height] * 2, color="white", linewidth=2, solid_capstyle="butt")
    ax.text(0.05 * width, 0.93 * height, f"{bar} mm", color="white", fontsize=7, va="bottom")


def _draw_contours(ax: Any, labels: Volume, label_set: str, axis: int, index: int, style: str = "solid") -> None:
    cut = picture(labels.array, axis, index)
    width, height = picture_shape_mm(labels.array.shape, labels.spacing, axis)
    rows, columns = cut.shape
    xs, ys = (np.arange(columns) + 0.5) * width / columns, (np.arange(rows) + 0.5) * height / rows
    for region, colour in contour_colours(label_set).items():
        mask = region_mask(cut, region)
        if mask.any():
            ax.contour(xs, ys, mask.astype(float), levels=[0.5], colors=[colour.hexadecimal], linewidths=1.3, linestyles=style)


def contour_colours(label_set: str) -> dict[str, LabelColour]:
    """Region -> colour of its outer edge, for the regions that can be drawn of a label set."""
    colours = {colour.value: colour for colour in colours_of(label_set)}
    regions = [r for r in LABEL_SETS.get(label_set, LABEL_SETS["glioma"]) if r in _CONTOURS]
    if label_set == "WT":
        return {"NCR": colours[1]}  # label 1 alone; as region NCR is label 1
    return {region: colours[_CONTOURS[region]] for region in regions if _CONTOURS[region] in colours}


def _legend(figure: Figure, label_set: str, drawn: bool, styles: Sequence[str] = ()) -> None:
    if not drawn:
        return
    names = {"NCR": "WT"} if label_set == "WT" else {}
    handles = [
        Line2D([], [], color=colour.hexadecimal, linewidth=2, label=names.get(region, region))
        for region, colour in contour_colours(label_set).items()
    ]
    for name, line in zip(styles, ("solid", "dashed"), strict=False):
        handles.append(Line2D([], [], color="#555555", linestyle=line, label=name))  # type: ignore[arg-type]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def _title(case: str, cohort: str, phantom: bool, metrics: Mapping[str, float] | None) -> str:
    parts = [part for part in (cohort_title(cohort, phantom) if cohort or phantom else "", case) if part]
    values = ", ".join(f"{name} {value:.2f}" for name, value in (metrics or {}).items())
    return " · ".join(parts) + (f"\n{values}" if values else "")

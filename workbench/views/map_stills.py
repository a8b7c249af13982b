"""Stills of a case's explanation maps: the image, and each map over it, with a scale."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.cohort.table import cohort_title
from workbench.views.case_images import Volume, largest_slice
from workbench.views.case_view import MAP, CaseView, Overlay
from workbench.views.map_names import map_title
from workbench.views.planes import MAP_COLOURS, picture, picture_shape_mm

AXIAL = 2
COLUMNS = 5


def map_figure(view: CaseView, *, modality: str = "") -> Figure:
    """One axial slice through the middle of the lesion: the image, then each map of the case over it, five pictures to a row.

    The white line is the tumour as annotated (else as predicted). Values below a tenth of a map's range are not drawn, as in
    the dashboard. The weights of the sequences share one scale. Radiological convention, patient's left on the right.

    Args:
        view: the case, with maps.
        modality: image underneath; '' = FLAIR, else contrast-enhanced T1, else the first.
    """
    name = next(m for m in (modality, "flair", "t1c", *view.modalities) if m in view.modalities)
    display = view.image(name)
    grid = display.volume.grid
    masks = [labels.on(grid) for labels in (view.truth, view.prediction) if labels is not None]
    tumour = next((mask for mask in masks if mask.array.any()), None)
    index = largest_slice(tumour.array > 0, AXIAL) if tumour is not None else grid.shape[AXIAL] // 2
    grey = display.levels()[picture(display.volume.array, AXIAL, index)]
    width, height = picture_shape_mm(display.volume.array.shape, display.volume.spacing, AXIAL)
    extent = (0.0, width, height, 0.0)
    columns = min(COLUMNS, 1 + len(view.maps))
    rows = -(-(1 + len(view.maps)) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.3 * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    overlays = {key: view.overlay(MAP + key) for key in view.maps}
    weights = [overlay.range[1] for key, overlay in overlays.items() if overlay is not None and key.startswith("weight_")]
    for ax, key in zip(axes, ("", *view.maps), strict=False):
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
        ax.set_title(map_title(key) if key else name.upper(), fontsize=9)
        _letters(ax)
        if tumour is not None:
            drawn = picture(tumour.array > 0, AXIAL, index).astype(float)
            if drawn.any():
                ax.contour(drawn, levels=[0.5], colors="white", linewidths=0.7, extent=extent, origin="upper")
        overlay = overlays.get(key)
        if overlay is not None:
            if overlay.range[1] <= 1e-6:
                ax.set_title(f"{map_title(key)}: zero everywhere", fontsize=9)
                continue
            top = max(weights) if key.startswith("weight_") else None
            _draw(figure, ax, overlay, grid_of=display.volume, index=index, extent=extent, top=top)
    for ax in axes[1 + len(view.maps) :]:
        ax.axis("off")
    info = view.cohort.info
    figure.suptitle(f"{cohort_title(info.name, info.phantom)}, case {view.case}", fontsize=10)
    return figure


def _letters(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    ax.text(0.04, 0.5, "R", color="#ffd959", transform=ax.transAxes, va="center", fontweight="bold")
    ax.text(0.96, 0.5, "L", color="#ffd959", transform=ax.transAxes, va="center", ha="right", fontweight="bold")


def _draw(
    figure: Figure,
    ax: Axes,
    overlay: Overlay,
    *,
    grid_of: Volume,
    index: int,
    extent: tuple[float, float, float, float],
    top: float | None,
) -> None:
    """One map in colours from its floor to `top` (None = its own largest value), with its scale below."""
    values = overlay.low + overlay.step * overlay.volume.on(grid_of.grid).array.astype(np.float32)
    low, high = overlay.range
    high = high if top is None else top
    shown_values = np.ma.masked_less(picture(values, AXIAL, index), low)
    shown = ax.imshow(shown_values, cmap=MAP_COLOURS, vmin=low, vmax=high, extent=extent, alpha=0.6)
    figure.colorbar(shown, ax=ax, orientation="horizontal", fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)

"""Stills of a case's explanation maps: the image, and each map over it, with a scale."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from workbench.views.case_images import largest_slice
from workbench.views.case_view import MAP, CaseView
from workbench.views.planes import picture, picture_shape_mm
from workbench.views.theme import cohort_title

AXIAL = 2


def map_figure(view: CaseView, *, modality: str = "") -> Figure:
    """One axial slice through the middle of the lesion: the image, then each map of the case over it.

    Radiological convention, patient's left on the right of the picture.

    Args:
        view: the case, with maps.
        modality: image underneath; '' = FLAIR, else contrast-enhanced T1, else the first.
    """
    name = next(m for m in (modality, "flair", "t1c", *view.modalities) if m in view.modalities)
    display = view.image(name)
    grid = display.volume.grid
    masks = [labels.on(grid).array for labels in (view.truth, view.prediction) if labels is not None]
    index = next((largest_slice(mask, AXIAL) for mask in (m > 0 for m in masks) if mask.any()), grid.shape[AXIAL] // 2)
    grey = display.levels()[picture(display.volume.array, AXIAL, index)]
    width, height = picture_shape_mm(display.volume.array.shape, display.volume.spacing, AXIAL)
    extent = (0, width, height, 0)
    figure = Figure(figsize=(2.6 * (1 + len(view.maps)), 3.3), layout="constrained", dpi=110)
    axes = figure.subplots(1, 1 + len(view.maps), squeeze=False)[0]
    for ax, key in zip(axes, ("", *view.maps), strict=True):
        ax.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent)
        ax.set_title(key.replace("_", " ") or name.upper(), fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.text(0.04, 0.5, "R", color="#ffd959", transform=ax.transAxes, va="center", fontweight="bold")
        ax.text(0.96, 0.5, "L", color="#ffd959", transform=ax.transAxes, va="center", ha="right", fontweight="bold")
        overlay = view.overlay(MAP + key) if key else None
        if overlay is not None:
            values = overlay.low + overlay.step * overlay.volume.on(grid).array.astype(np.float32)
            low, high = overlay.range
            high = high if high > 1e-6 else 1.0  # a map that is zero everywhere keeps a readable scale
            shown = ax.imshow(picture(values, AXIAL, index), cmap="inferno", vmin=low, vmax=high, extent=extent, alpha=0.55)
            figure.colorbar(shown, ax=ax, orientation="horizontal", fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)
    info = view.cohort.info
    figure.suptitle(f"{cohort_title(info.name, info.phantom)}, case {view.case}", fontsize=10)
    return figure

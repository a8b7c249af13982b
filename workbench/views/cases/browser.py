"""Leafing through a cohort in JupyterLab: pick case, sequence, slices, overlay, opacity and window with ipywidgets.

The picture is a PNG made on the kernel's side (a few milliseconds): no JavaScript of our own, and it works where nobody
looks, under Papermill and nbval.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from workbench.cohort.table import Cohort
from workbench.contracts import MODALITY_TITLES
from workbench.errors import WorkbenchError
from workbench.records.run_folder import ATTRIBUTION_FILE, WEIGHTS_FILE
from workbench.views.cases.images import DisplayVolume
from workbench.views.cases.legend import legend_html
from workbench.views.cases.map_tables import read_map_table
from workbench.views.cases.planes import (
    AXIAL,
    CORONAL,
    EDGES,
    SAGITTAL,
    blend,
    colour_table,
    map_table,
    outline,
    picture,
    picture_shape_mm,
)
from workbench.views.cases.table import facts_html
from workbench.views.cases.view import DISAGREEMENT, NONE, CaseView, Overlay, open_case
from workbench.views.markup import Html

_ORDER = (AXIAL, CORONAL, SAGITTAL)
_NAMES = {AXIAL: "Axial", CORONAL: "Coronal", SAGITTAL: "Sagittal"}
_STYLE = Html(
    "<style>.facts{display:flex;flex-wrap:wrap;gap:8px 40px}.facts th{text-align:left;font-weight:normal;opacity:.7}</style>"
)


def three_planes(
    display: DisplayVolume,
    voxel: tuple[int, int, int],
    overlay: Overlay | None = None,
    *,
    opacity: float = 0.5,
    outlined: bool = False,
    window: tuple[float, float] | None = None,
    scale: float = 2.0,
) -> np.ndarray:
    """Axial, coronal and sagittal slices through a voxel side by side, radiological and lettered: (rows, columns, 3) uint8.

    Args:
        display: the image.
        voxel: of the image.
        overlay: laid over it, on any grid.
        opacity: of the overlay.
        outlined: draw labels as outlines.
        window: image values drawn black and white; None = the image's own.
        scale: pixels per mm.
    """
    volume = display.volume
    over = None if overlay is None else overlay.volume.on(volume.grid)
    table = np.zeros((256, 4), np.uint8)
    if overlay is not None:
        table = map_table() if overlay.is_map else colour_table(overlay.colours)
    levels = display.levels(window)
    panels = []
    for axis in _ORDER:
        grey = levels[picture(volume.array, axis, voxel[axis])]
        laid = None if over is None else picture(over.array, axis, voxel[axis])
        if laid is not None and outlined and overlay is not None and not overlay.is_map:
            laid = outline(laid)
        width, height = picture_shape_mm(volume.array.shape, volume.spacing, axis)
        panel = Image.fromarray(blend(grey, laid, table, opacity))
        panels.append(_letter(panel.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR), axis))
    gap = 6
    sheet = Image.new("RGB", (sum(p.width for p in panels) + gap * 2, max(p.height for p in panels)))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (sheet.height - panel.height) // 2))
        left += panel.width + gap
    return np.asarray(sheet)


def _letter(panel: Image.Image, axis: int) -> Image.Image:
    draw = ImageDraw.Draw(panel)
    font = ImageFont.load_default(15)
    left, right, top, bottom = EDGES[axis]
    middle_x, middle_y = panel.width // 2, panel.height // 2
    places = {
        left: (10, middle_y),
        right: (panel.width - 10, middle_y),
        top: (middle_x, 10),
        bottom: (middle_x, panel.height - 10),
    }
    for letter, place in places.items():
        draw.text(place, letter, fill=(255, 217, 89), font=font, anchor="mm")
    return panel


class CaseBrowser(widgets.VBox):
    """The widget that `browse` returns. Its controls are attributes, so that a notebook can set them."""

    def __init__(self, cohort: Cohort, run_folder: Path | None = None, case: str = "") -> None:
        self.cohort = cohort
        self.run_folder = run_folder
        self.view: CaseView | None = None
        names = [str(name) for name in cohort.cases["case"]]
        if not names:
            raise WorkbenchError(f"cohort {cohort.info.name} has no cases")
        wide = {"layout": widgets.Layout(width="320px"), "style": {"description_width": "70px"}}
        self.case = widgets.Dropdown(description="Case", options=names, value=case or names[0], **wide)
        self.modality = widgets.ToggleButtons(options=[], style={"button_width": "70px"})
        self.overlay = widgets.Dropdown(description="Overlay", options={"No overlay": NONE}, **wide)
        self.region = widgets.Dropdown(description="Region", options=["WT"], **wide)
        self.opacity = widgets.FloatSlider(description="Opacity", value=0.5, min=0, max=1, step=0.05, **wide)
        self.outline = widgets.Checkbox(description="Outline", indent=False)
        self.window = widgets.FloatRangeSlider(description="Window", min=0, max=1, value=(0, 1), readout_format=".3g", **wide)
        self.slices = {axis: widgets.IntSlider(description=_NAMES[axis], **wide) for axis in _ORDER}
        self.image = widgets.Image(format="png")
        self.facts = widgets.HTML()
        self.message = widgets.HTML()
        self._quiet = False
        for control in (self.overlay, self.region, self.opacity, self.outline, self.window, *self.slices.values()):
            control.observe(self._draw, "value")
        self.modality.observe(self._take_modality, "value")
        self.case.observe(self._take_case, "value")
        chosen = widgets.VBox([self.case, self.overlay, self.region, self.opacity])
        looked = widgets.VBox([*self.slices.values(), self.window])
        super().__init__(
            [widgets.HBox([chosen, looked]), widgets.HBox([self.modality, self.outline]), self.message, self.image, self.facts]
        )
        self._take_case()

    def _take_case(self, _: Any = None) -> None:
        self._quiet = True
        try:
            view = self.view = open_case(self.cohort, self.case.value, self.run_folder)
            wish, overlay = self.modality.value, self.overlay.value
            self.modality.options = {MODALITY_TITLES.get(m, m): m for m in view.modalities}
            self.modality.value = wish if wish in view.modalities else view.modalities[0]
            found = view.overlay_names()
            self.overlay.options = found
            self.overlay.value = (
                overlay if overlay in found.values() and overlay != NONE else [*found.values()][min(1, len(found) - 1)]
            )
            self.region.options = view.regions
            self._fit(view.centre())
            self.facts.value = _STYLE + facts_html(view, None, None, *self._map_tables())
        except (WorkbenchError, IndexError) as error:
            self.view = None
            self.image.value, self.facts.value = b"", ""
            self.message.value = Html("<b>This case cannot be shown:</b> {}").format(error)
            return
        finally:
            self._quiet = False
        self._draw()

    def _map_tables(self) -> list[pd.DataFrame]:
        folder = self.run_folder
        return [] if folder is None else [read_map_table(folder / name) for name in (ATTRIBUTION_FILE, WEIGHTS_FILE)]

    def _take_modality(self, _: Any = None) -> None:
        if self._quiet or self.view is None:
            return
        before = self._position()
        self._quiet = True
        try:
            self._fit(before)
        except WorkbenchError as error:
            self.message.value = Html("<b>This sequence cannot be shown:</b> {}").format(error)
            return
        finally:
            self._quiet = False
        self._draw()

    def _fit(self, position: tuple[float, float, float]) -> None:
        """Set the ranges of the sliders for the chosen sequence, and the slices to a position in mm."""
        assert self.view is not None
        display = self._display = self.view.image(self.modality.value)
        voxel = display.volume.voxel(position)
        for axis, slider in self.slices.items():
            slider.max = display.volume.array.shape[axis] - 1
            slider.value = voxel[axis]
        low, high = display.low, display.low + 255 * display.step
        self.window.min, self.window.max = min(self.window.min, low), max(self.window.max, high)
        self.window.value = display.window
        self.window.min, self.window.max, self.window.step = low, high, (high - low) / 200

    def _position(self) -> tuple[float, float, float]:
        return self._display.volume.position(self._voxel())

    def _voxel(self) -> tuple[int, int, int]:
        return self.slices[SAGITTAL].value, self.slices[CORONAL].value, self.slices[AXIAL].value

    def _draw(self, _: Any = None) -> None:
        if self._quiet or self.view is None:
            return
        self.region.layout.display = None if self.overlay.value == DISAGREEMENT else "none"
        try:
            overlay = self.view.overlay(self.overlay.value, self.region.value)
        except WorkbenchError as error:
            self.message.value = Html("<b>The overlay cannot be shown:</b> {}").format(error)
            return
        sheet = three_planes(
            self._display, self._voxel(), overlay,
            opacity=self.opacity.value, outlined=self.outline.value, window=self.window.value,
        )  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG", compress_level=1)
        self.image.value = buffer.getvalue()
        x, y, z = self._position()
        legend = legend_html(overlay, self.view.overlay_names(), self.overlay.value)
        self.message.value = Html("R {:.1f} A {:.1f} S {:.1f} mm {}").format(x, y, z, legend)


def browse(cohort: Cohort, run_folder: str | Path | None = None, case: str = "") -> CaseBrowser:
    """A browser over a cohort's cases, and over a run's predictions of them.

    Args:
        cohort: the cohort.
        run_folder: a run folder with predictions and maps, or None: the cohort alone.
        case: the case shown first; '' = the first.

    Raises:
        WorkbenchError: the cohort has no cases.
    """
    return CaseBrowser(cohort, None if run_folder is None else Path(run_folder), case)

"""Three linked planes in HoloViews: what stands in for the volume viewer where the browser or the installation has none.

Each plane sends one slice of grey levels (uint8) and one of colours. A tap on a plane moves the crosshair in all three.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import param

from workbench.views.cases.images import DisplayVolume, Volume
from workbench.views.cases.planes import EDGES, PLANES, colour_table, map_table, outline, picture_axes
from workbench.views.cases.view import Overlay
from workbench.views.panes import TextPane

_AXIS_NAMES = ("R", "A", "S")
_HEIGHT = 340


class OrthoView(pn.viewable.Viewer):
    """An image and at most one overlay in an axial, a coronal and a sagittal plane, radiological, in mm.

    Set `display` and `overlay` together (`param.update`): they make the plots anew. All else only changes what they show.
    """

    display: Any = param.ClassSelector(class_=DisplayVolume, allow_None=True, doc="the image")
    overlay: Any = param.ClassSelector(class_=Overlay, allow_None=True, doc="labels or a map, on any RAS+ grid")
    window = param.List(default=[0.0, 1.0], doc="image values shown black and white")
    opacity = param.Number(default=0.5, bounds=(0, 1), doc="opacity of the overlay")
    outline = param.Boolean(default=False, doc="draw labels as outlines")
    position = param.List(default=[0.0, 0.0, 0.0], doc="crosshair in mm, RAS+; follows taps")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        hv.extension("bokeh", logo=False)
        self._box = pn.FlexBox(sizing_mode="stretch_width", gap="8px")
        self._over: Volume | None = None
        self._rebuild()
        self.param.watch(self._rebuild, ["display", "overlay"])

    def __panel__(self) -> Any:
        return self._box

    def _rebuild(self, *_: Any) -> None:
        if self.display is None:
            self._box[:] = [TextPane("No image to show.")]
            return
        self._over = None if self.overlay is None else self.overlay.volume.on(self.display.volume.grid)
        self._box[:] = [pn.pane.HoloViews(self._plane(name, axis), linked_axes=False, margin=0) for name, axis in PLANES.items()]

    def _coordinates(self, axis: int) -> np.ndarray:
        """Centres of the voxels along an array axis, in mm (exact for grids that are not oblique)."""
        grid = self.display.volume.grid
        return grid.affine[axis, 3] + grid.spacing[axis] * np.arange(grid.shape[axis])

    def _plane(self, name: str, axis: int) -> Any:
        columns, rows = picture_axes(axis)
        xs, ys = self._coordinates(columns), self._coordinates(rows)
        kdims = [
            hv.Dimension(f"{name}_{_AXIS_NAMES[columns]}", label=f"{_AXIS_NAMES[columns]} (mm)"),
            hv.Dimension(f"{name}_{_AXIS_NAMES[rows]}", label=f"{_AXIS_NAMES[rows]} (mm)"),
        ]

        def base(position: Any, window: list[float]) -> hv.Image:
            grey = self.slice_of(axis)
            return hv.Image((xs, ys, grey.T), kdims, f"{name}_grey")

        def colours(position: list[float], opacity: float, outline: bool) -> hv.RGB:
            rgba = self.colours_of(axis)
            return hv.RGB((xs, ys, *np.moveaxis(rgba.transpose(1, 0, 2), -1, 0)), kdims, list("RGBA"))

        def crosshair(position: list[float]) -> Any:
            voxel = self.display.volume.voxel(position)
            style = {"color": "#35d5f0", "line_width": 1, "alpha": 0.8}
            return hv.VLine(xs[voxel[columns]]).opts(**style) * hv.HLine(ys[voxel[rows]]).opts(**style)

        image = hv.DynamicMap(base, streams=[hv.streams.Params(self, ["position", "window"])])
        tap = hv.streams.Tap(source=image)
        tap.add_subscriber(lambda x, y: self.go_to(axis, x, y))
        over = hv.DynamicMap(colours, streams=[hv.streams.Params(self, ["position", "opacity", "outline"])])
        cross = hv.DynamicMap(crosshair, streams=[hv.streams.Params(self, ["position"])])
        width = round(_HEIGHT * (xs[-1] - xs[0]) / (ys[-1] - ys[0]))
        image = image.opts(
            hv.opts.Image(
                cmap="gray", clim=(0, 255), colorbar=False, frame_height=_HEIGHT, frame_width=width, title=name.capitalize(),
                invert_xaxis=_AXIS_NAMES[columns] == "R", tools=["tap"], default_tools=["wheel_zoom", "pan", "reset"],
                bgcolor="black", toolbar=None,
            )
        )  # fmt: skip
        return image * over * cross * self._letters(axis, xs, ys, kdims)

    def _letters(self, axis: int, xs: np.ndarray, ys: np.ndarray, kdims: list) -> Any:
        left, right, top, bottom = EDGES[axis]
        columns, _ = picture_axes(axis)
        x_left, x_right = (xs[-1], xs[0]) if _AXIS_NAMES[columns] == "R" else (xs[0], xs[-1])
        inset_x, inset_y = 0.04 * (x_right - x_left), 0.04 * (ys[-1] - ys[0])
        middle_x, middle_y = (xs[0] + xs[-1]) / 2, (ys[0] + ys[-1]) / 2
        points = [
            (x_left + inset_x, middle_y, left), (x_right - inset_x, middle_y, right),
            (middle_x, ys[-1] - inset_y, top), (middle_x, ys[0] + inset_y, bottom),
        ]  # fmt: skip
        letters = hv.Labels(points, kdims, f"{kdims[0].name}_letter")
        return letters.opts(text_color="#ffd959", text_font_size="12pt", text_font_style="bold")

    def slice_of(self, axis: int) -> np.ndarray:
        """Grey levels of the slice through the crosshair, uint8, in array order (not flipped)."""
        index = self.display.volume.voxel(tuple(self.position))[axis]
        cut = np.take(self.display.volume.array, index, axis=axis)
        return self.display.levels(tuple(self.window))[cut]

    def colours_of(self, axis: int) -> np.ndarray:
        """Colours (.., .., 4) uint8 of the overlay's slice through the crosshair, in array order."""
        index = self.display.volume.voxel(tuple(self.position))[axis]
        if self._over is None:
            shape = [n for a, n in enumerate(self.display.volume.array.shape) if a != axis]
            return np.zeros((*shape, 4), np.uint8)
        cut = np.take(self._over.array, index, axis=axis)
        if self.overlay.is_map:
            rgba = map_table()[cut]
        else:
            rgba = colour_table(self.overlay.colours)[outline(cut) if self.outline else cut]
        rgba[..., 3] = np.round(rgba[..., 3] * self.opacity)
        return rgba

    def go_to(self, axis: int, x: float | None, y: float | None) -> None:
        """Move the crosshair to a point of the plane across `axis`, in mm along the plane's axes."""
        if x is None or y is None or self.display is None:
            return
        columns, rows = picture_axes(axis)
        voxel: list[float] = list(self.display.volume.voxel(tuple(self.position)))
        for along, value in ((columns, x), (rows, y)):
            centres = self._coordinates(along)
            voxel[along] = float(np.clip((value - centres[0]) / (centres[1] - centres[0]), 0, len(centres) - 1))
        self.position = [round(v, 1) for v in self.display.volume.position((voxel[0], voxel[1], voxel[2]))]

"""The volume viewer of the dashboard: NiiVue (WebGL2) in a Panel component, with the ten settings that we need.

The library's one JavaScript file is served by our own server (`app/static`, see `views.cases.viewer_bundle`); the component asks
no other host. Images travel as gzip NIfTI over the page's own connection: uint8, two to three megabytes each. Window,
opacity, outline and layout change in the browser, without sending a volume again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import param
from panel.custom import JSComponent

HERE = Path(__file__).parent
LAYOUTS: dict[str, str] = {
    "Three planes + 3-D": "multiplanar",
    "Axial": "axial",
    "Coronal": "coronal",
    "Sagittal": "sagittal",
    "3-D": "render",
}
"""Title -> value of `NiiVueViewer.layout`."""


class NiiVueViewer(JSComponent):
    """One image and at most one overlay in three linked planes and 3-D.

    Radiological convention: the patient's left is on the right of the picture, and both sides carry their letter. Left
    button moves the crosshair, wheel changes the slice, right button (or Ctrl) drags the window, Shift or the middle button
    pans and zooms.
    """

    image = param.Bytes(default=b"", doc="gzip NIfTI of the image, uint8 with a slope, so that values keep their unit")
    image_name = param.String(default="", doc="name of the image in the readout under the picture")
    overlay = param.Bytes(default=b"", doc="gzip NIfTI of labels or of a continuous map, on any grid; empty = none")
    overlay_name = param.String(default="", doc="name of a continuous map in the readout")
    labels = param.List(default=[], doc="colour table {value, name, red, green, blue, alpha}; empty = a continuous map")
    colormap = param.String(default="plasma", doc="colour map of a continuous overlay, a NiiVue name")
    map_range = param.List(default=[0.0, 1.0], doc="values of a continuous overlay at the ends of its colour map")
    window = param.List(default=[0.0, 1.0], doc="image values shown black and white; follows the right mouse button")
    opacity = param.Number(default=0.5, bounds=(0, 1), doc="opacity of the overlay")
    outline = param.Boolean(default=False, doc="draw labels as outlines")
    position = param.List(default=[0.0, 0.0, 0.0], doc="crosshair in mm, RAS+; follows the mouse")
    layout: Any = param.Selector(default="multiplanar", objects=list(LAYOUTS.values()), doc="planes shown")
    radiological = param.Boolean(default=True, doc="the patient's left on the right of the picture")
    orientation_cube = param.Boolean(default=True, doc="a small cube with the directions beside the 3-D view")
    background = param.String(default="#000000", doc="colour behind the image, hexadecimal")
    empty_text = param.String(default="No image to show.", doc="said under the picture while there is no image")

    script_url = param.String(default="static/niivue.umd.js", doc="the library's file: relative to the page, or absolute")
    status = param.String(default="starting", doc="'starting', 'ready', or 'failed: ' and the reason; set by the browser")
    shown = param.Integer(default=0, doc="counts the times the browser has shown new volumes; for tests and for a busy sign")

    _esm = HERE / "niivue.js"
    _stylesheets: ClassVar[list[str]] = [(HERE / "niivue.css").read_text(encoding="utf-8")]

"""A figure in a notebook: a picture on white, and the text that stands for it."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image as Picture

from workbench.reports.stills import still


def test_a_still_is_a_png_on_white_with_its_text() -> None:
    figure = Figure(figsize=(2, 1), facecolor="black")
    shown = still(figure, alt="nothing drawn")
    assert shown.alt == "nothing drawn"
    pixels = np.asarray(Picture.open(BytesIO(shown.data)).convert("RGB"))
    assert pixels.shape[0] * 2 == pixels.shape[1]
    assert (pixels == 255).all()

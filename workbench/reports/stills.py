"""A figure as a notebook shows it."""

from __future__ import annotations

from io import BytesIO

from IPython.display import Image
from matplotlib.figure import Figure


def still(figure: Figure, alt: str | None = None) -> Image:
    """The picture of a figure on white, with the text that stands for it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", facecolor="white")
    return Image(buffer.getvalue(), alt=alt)

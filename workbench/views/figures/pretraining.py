"""Pictures of self-supervision: what a network was shown, what it gave back, what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from workbench.contracts import MODALITY_TITLES


def reconstruction_figure(pictures: Mapping[str, np.ndarray], modalities: Sequence[str], *, title: str) -> Figure:
    """The middle axial slice: a row per picture, a column per sequence, the same grey scale down a column.

    Radiological convention: the patient's left is on the right.

    Args:
        pictures: row title -> (M, X, Y, Z), axes RAS+; the last one sets the grey scale.
        modalities: names of the M sequences.
        title: case and cohort.
    """
    wanted = list(pictures.values())[-1]
    figure = Figure(figsize=(2.2 * len(modalities) + 0.6, 2.2 * len(pictures) + 0.6), facecolor="white", layout="constrained")
    axes = figure.subplots(len(pictures), len(modalities), squeeze=False)
    middle = wanted.shape[3] // 2
    for column, name in enumerate(modalities):
        inside = wanted[column][wanted[column] != 0]
        low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
        for row, (label, values) in enumerate(pictures.items()):
            ax = axes[row, column]
            # x runs to the patient's right in the array's reverse: the left of the picture is the patient's right
            ax.imshow(values[column, ::-1, :, middle].T, cmap="gray", vmin=low, vmax=high, origin="lower")
            ax.set(xticks=[], yticks=[])
            ax.text(0.02, 0.5, "R", transform=ax.transAxes, color="white", fontsize=8, va="center")
            ax.text(0.98, 0.5, "L", transform=ax.transAxes, color="white", fontsize=8, va="center", ha="right")
            if row == 0:
                absent = "" if inside.size else " (absent)"
                ax.set_title(MODALITY_TITLES.get(name, name) + absent, fontsize=10)
            if column == 0:
                ax.set_ylabel(label, fontsize=10)
    figure.suptitle(title, fontsize=10)
    return figure

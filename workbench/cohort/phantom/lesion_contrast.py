"""What each sequence shows of the parts of a lesion that is no glioma; signals as in `contrast`, set by eye (own choice).

Infarcts change with their age: DWI is bright from the first hours, FLAIR and T2 follow within the day (half of it at 4.5 h,
Thomalla 2011), and the ADC returns towards normal after some days (Schlaug 1997).
"""

from __future__ import annotations

import math

import numpy as np

from workbench.cohort.phantom.lesion_options import LesionOptions

LESION: dict[str, dict[str, float]] = {
    "plaque": {"t1": 0.66, "t1c": 0.67, "t2": 0.80, "flair": 0.94, "dwi": 0.55, "adc": 0.52},
    "black_hole": {"t1": 0.38, "t1c": 0.39, "t2": 0.92, "flair": 0.78, "dwi": 0.40, "adc": 0.72},
    "active": {"t1": 0.62, "t1c": 1.25, "t2": 0.84, "flair": 1.00, "dwi": 0.66, "adc": 0.46},
    "hyperintensity": {"t1": 0.68, "t1c": 0.68, "t2": 0.76, "flair": 0.92, "dwi": 0.46, "adc": 0.50},
    "infarct": {"t1": 0.50, "t1c": 0.51, "t2": 0.78, "flair": 0.90, "dwi": 1.25, "adc": 0.21},
    "oedema": {"t1": 0.60, "t1c": 0.61, "t2": 0.78, "flair": 0.90, "dwi": 0.42, "adc": 0.66},
    "enhancing": {"t1": 0.56, "t1c": 1.30, "t2": 0.62, "flair": 0.78, "dwi": 0.58, "adc": 0.46},
    "necrosis": {"t1": 0.32, "t1c": 0.33, "t2": 0.93, "flair": 0.50, "dwi": 0.24, "adc": 0.95},
}
"""Part -> sequence -> signal of a voxel that it fills. Parts are painted in the order in which they were drawn."""

_GRAIN = 0.03


def infarct_visibility(modality: str, hours: float, options: LesionOptions) -> float:
    """Share of its full signal change that an infarct of this age shows, 0 to 1."""
    if modality == "dwi":
        return min(1.0, 0.75 + 0.05 * hours)
    if modality == "adc":
        return float(np.interp(hours, (72, 240), (1.0, 0.2)))
    return 1 / (1 + math.exp(-(hours - options.stroke_flair_hours) / 1.5))


def paint(
    signal: np.ndarray, parts: dict[str, np.ndarray], modality: str, grain: np.ndarray, visibility: float = 1.0
) -> np.ndarray:
    """The signal (X, Y, Z) with the lesions in it.

    Args:
        parts: part -> fractions (X, Y, Z).
        grain: unit-variance texture, which lesions have more of than healthy tissue.
        visibility: share of the signal change that shows.
    """
    for name, fraction in parts.items():
        signal = signal + visibility * fraction * (LESION[name][modality] + _GRAIN * grain - signal)
    return signal

"""From tissue to signal: what each sequence shows of healthy brain and of a tumour, before any scanner.

Signals are relative; white matter in T1 is 0.85. CSF is dark on T1 and FLAIR and bright on T2; cortex is darker than white matter
on T1 and brighter on T2 and FLAIR. Values were set by eye against clinical 3 T examples; only their order matters. On ADC maps 1
is 2.0e-3 mm^2/s: grey 0.8, white 0.7, CSF 2.9 (1e-3 mm^2/s). On maps of the blood volume 1 is five times that of white matter:
grey 2.2, white 1, next to none in CSF and necrosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.cohort.phantom.classes import Subject

GREY, WHITE, FLUID = range(3)

HEALTHY = {
    "t1": (0.60, 0.85, 0.20), "t1c": (0.62, 0.84, 0.20), "t2": (0.50, 0.37, 1.00), "flair": (0.62, 0.50, 0.12),
    "dwi": (0.52, 0.44, 0.10), "adc": (0.40, 0.36, 1.45), "cbv": (0.44, 0.20, 0.02),
}  # fmt: skip
"""Modality -> signal of grey matter, white matter, CSF."""

VESSELS = {"t1": 0.0, "t1c": 0.75, "t2": -0.25, "flair": 0.03, "dwi": 0.0, "adc": 0.0, "cbv": 1.0}

OEDEMA = {
    "t1": (0.53, 0.60), "t1c": (0.55, 0.61), "t2": (0.72, 0.76), "flair": (0.86, 0.90), "adc": (0.70, 0.72), "cbv": (0.26, 0.16),
}  # fmt: skip
"""Signal of fully infiltrated grey and white matter."""

LEVEL = {"adc": 1.3, "cbv": 2.0}
"""The solid tumour's level (`Subject.adc`, `Subject.cbv`) at which the next four tables hold; those maps follow it."""
SOLID = {"t1": 0.50, "t1c": 0.52, "t2": 0.76, "flair": 0.84, "adc": 0.65, "cbv": 0.40}
ENHANCING = {"t1": 0.56, "t1c": 1.30, "t2": 0.60, "flair": 0.78, "adc": 0.60, "cbv": 0.46}
FAINT = {"t1": 0.54, "t1c": 1.02, "t2": 0.66, "flair": 0.80, "adc": 0.62, "cbv": 0.43}
"""Patchy enhancement."""
MISMATCH = {"t1": 0.38, "t1c": 0.40, "t2": 0.97, "flair": 0.36, "adc": 0.74, "cbv": 0.34}
NECROSIS = {"t1": 0.32, "t1c": 0.33, "t2": 0.93, "flair": 0.40, "adc": 0.95, "cbv": 0.05}
CALCIFIED = {"t1": 0.22, "t1c": 0.24, "t2": 0.15, "flair": 0.20, "adc": 0.30, "cbv": 0.10}
MOTTLE = {"t1": -0.05, "t1c": -0.05, "t2": 0.13, "flair": 0.08, "adc": 0.05, "cbv": 0.04}
"""Modality -> change of signal per standard deviation of a heterogeneous tumour's texture."""
CAVITY = {"t1": 0.21, "t1c": 0.21, "t2": 1.00, "flair": 0.14, "adc": 1.40, "cbv": 0.02}
"""The resection cavity holds fluid much like CSF."""
CAVITY_RIM = {"t1c": 1.05}
GRAIN = {"t1": 0.02, "t1c": 0.02, "t2": 0.03, "flair": 0.03, "adc": 0.03, "cbv": 0.03}


@dataclass(frozen=True)
class Scene:
    """Everything visible of a subject, on the output grid; all (X, Y, Z) float32."""

    grey: np.ndarray
    white: np.ndarray
    fluid: np.ndarray
    brain: np.ndarray
    vessels: np.ndarray
    texture: np.ndarray
    """Unit-variance field of the healthy tissue's unevenness."""
    concentration: np.ndarray
    core: np.ndarray
    enhancing: np.ndarray
    necrosis: np.ndarray
    interior: np.ndarray
    specks: np.ndarray
    mottle: np.ndarray
    grain: np.ndarray
    extra: dict[str, np.ndarray]
    cavity: np.ndarray | None = None
    gliosis: np.ndarray | None = None
    rim: np.ndarray | None = None


def infiltration(concentration: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """Share of the oedema signal: rises around the detection threshold of T2 and FLAIR, in tissue only."""
    return np.clip((concentration - 0.06) / 0.24, 0, 1) * np.clip(tissue * 1.4 - 0.2, 0, 1)


def healthy(grey: np.ndarray, white: np.ndarray, vessels: np.ndarray, texture: np.ndarray, modality: str) -> np.ndarray:
    """The noise-free signal of a head without lesions (X, Y, Z); CSF-like outside the brain."""
    of_grey, of_white, of_fluid = HEALTHY[modality]
    signal = grey * of_grey + white * of_white + (1 - grey - white) * of_fluid
    signal *= 1 + 0.02 * texture
    signal += VESSELS[modality] * vessels
    return signal


def render(scene: Scene, modality: str, subject: Subject) -> np.ndarray:
    """The noise-free signal of one sequence (X, Y, Z); CSF-like outside the brain, so that later blurring makes no dark seam."""
    signal = healthy(scene.grey, scene.white, scene.vessels, scene.texture, modality)
    tissue = scene.grey + scene.white
    seen = infiltration(scene.concentration, tissue)
    if subject.enhancement == "ring":  # vasogenic oedema spares the cortex
        cortex = scene.grey / np.maximum(tissue, 1e-3)
        seen = seen * np.maximum(1 - 0.55 * cortex, scene.core)
    if scene.gliosis is not None:
        seen = np.maximum(seen, scene.gliosis * np.clip(tissue * 1.4 - 0.2, 0, 1))
    swollen_grey, swollen_white = OEDEMA[modality]
    share = scene.white / np.maximum(tissue, 1e-3)
    signal += seen * (swollen_grey + (swollen_white - swollen_grey) * share - signal)
    own = {"adc": subject.adc, "cbv": subject.cbv}.get(modality)
    level = 1.0 if own is None else own / LEVEL[modality]
    for fraction, value in (
        (scene.core * np.clip(tissue * 1.4 - 0.2, 0, 1) * 0.85, SOLID[modality] * level),
        (scene.interior, MISMATCH[modality] * level),
        (scene.necrosis, NECROSIS[modality]),
        (scene.enhancing, (ENHANCING if subject.enhancement == "ring" else FAINT)[modality] * level),
        (scene.specks, CALCIFIED[modality]),
    ):
        signal += np.clip(fraction, 0, 1) * (value - signal)
    uneven = GRAIN[modality] * (1 - 0.8 * scene.interior) * scene.grain + MOTTLE[modality] * scene.mottle
    signal = signal + uneven * seen
    if scene.rim is not None and modality in CAVITY_RIM:
        signal += np.clip(scene.rim, 0, 1) * (CAVITY_RIM[modality] - signal)
    if scene.cavity is not None:
        signal += np.clip(scene.cavity, 0, 1) * (CAVITY[modality] - signal)
    return signal

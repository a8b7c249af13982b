"""What the markers can be read from.

`normal`: the signs of `classes`. `permuted` and `site_permuted`: the same images, the markers dealt out anew among all cases or
within each site. The other four modes have one carrier, set by IDH alone, and every other sign, place, volume, age and site is
independent of the markers:

- `mismatch`: inside the tumour T2 minus FLAIR is high in carriers and low in the others; their mean is drawn per case, so that
  neither sequence tells much alone.
- `t1c_texture`: the grain of T1c inside the tumour is fine in carriers, coarse in the others, mean and variance being equal.
- `regional`: carriers are brighter on FLAIR in the oedema and on T1c in the core, the others darker; T1c in the oedema and
  FLAIR in the core are shifted as much, by the toss of a coin.
- `focus`: every tumour holds one small focus, bright in carriers and dark in the others, on all sequences.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.classes import Subject
from workbench.cohort.phantom.deformation import smooth_noise
from workbench.cohort.phantom.options import PhantomOptions
from workbench.seeding import stream

MARKER_COLUMNS = ("idh", "codel", "tert", "grade")


def carrier_maps(
    rng: np.random.Generator,
    box: Box,
    concentration: np.ndarray,
    core: np.ndarray,
    subject: Subject,
    signal: str,
    options: PhantomOptions,
) -> dict[str, np.ndarray]:
    """Signal changes (X, Y, Z) on the growth grid, keyed by where `apply_carrier` uses them; empty in modes without a carrier."""
    if subject.carrier is None:
        return {}
    h = box.spacing
    whole = concentration > options.detect_t2
    sign = 1.0 if subject.carrier else -1.0
    coins = rng.choice([-1.0, 1.0], 2)
    level = float(rng.uniform(*options.difference_base))
    depth = ndimage.distance_transform_edt(whole).astype(np.float32) * h
    inside = np.clip(depth / 3.0, 0, 1)
    if signal == "mismatch":
        half = sign * options.difference_effect / 2
        return {"inside": inside, "t2": inside * np.float32(level + half), "flair": inside * np.float32(level - half)}
    if signal == "t1c_texture":
        scale = options.texture_scales[0 if subject.carrier else 1]
        grain = smooth_noise(rng, box.shape, scale / h)
        grain = (grain - grain[whole].mean()) / max(float(grain[whole].std()), 1e-6)
        return {"t1c": grain * inside * np.float32(options.texture_effect)}
    if signal == "regional":
        effect = np.float32(options.regional_effect)
        oedema = np.clip(inside - core, 0, 1)
        return {
            "flair": effect * (sign * oedema + coins[0] * core).astype(np.float32),
            "t1c": effect * (sign * core + coins[1] * oedema).astype(np.float32),
        }
    places = np.argwhere(depth > min(options.focus_radius * 0.7, 0.8 * float(depth.max())))
    centre = places[rng.integers(len(places))]
    distance = np.sqrt(sum((points - o - h * c) ** 2 for points, o, c in zip(box.points(), box.origin, centre, strict=True)))
    ball = np.clip((options.focus_radius - distance) / 1.5 + 0.5, 0, 1).astype(np.float32)
    return {"focus": ball * np.float32(sign * options.focus_effect)}


def apply_carrier(image: np.ndarray, extra: dict[str, np.ndarray], modality: str) -> np.ndarray:
    """The noise-free image of one sequence with what the mode's carrier changes in it."""
    if "inside" in extra:
        return image + (extra[modality] - extra["inside"] * image) if modality in extra else image
    for name in (modality, "focus"):
        if name in extra:
            image = image + extra[name]
    return image


def deal_markers(truth: pd.DataFrame, seed: int, signal: str) -> pd.DataFrame:
    """The marker columns as the cohort's table shows them: dealt out anew, whole rows together, in the permuted modes."""
    markers = truth[list(MARKER_COLUMNS)].copy()
    if signal not in ("permuted", "site_permuted"):
        return markers
    groups = (
        [np.arange(len(truth))]
        if signal == "permuted"
        else [np.flatnonzero(truth["site"] == s) for s in sorted(truth["site"].unique())]
    )
    for number, rows in enumerate(groups):
        order = rows[stream(seed, "phantom", "permute", number).permutation(len(rows))]
        markers.iloc[rows] = markers.iloc[order].to_numpy()
    return markers

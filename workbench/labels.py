"""Segmentation labels, the conventions in which cohorts write them, and the regions derived from them.

Canonical labels: 0 background, 1 necrotic or non-enhancing tumour core (NCR/NETC), 2 oedema and infiltration (ED/SNFH),
3 enhancing tumour (ET), 4 resection cavity (RC). In lesion cohorts and in cohorts with whole-tumour masks only, 1 is the
lesion or the whole tumour; the case's label set says which. A convention is declared per cohort, never guessed from the
values: label 4 is ET in BraTS 2021 and RC in BraTS 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import InputError, ParameterError, Problem

BACKGROUND, NCR, ED, ET, RC = range(5)
LABEL_NAMES = {NCR: "NCR", ED: "ED", ET: "ET", RC: "RC"}

REGIONS: dict[str, tuple[int, ...]] = {
    "WT": (NCR, ED, ET),
    "TC": (NCR, ET),
    "ET": (ET,),
    "ED": (ED,),
    "NCR": (NCR,),
    "RC": (RC,),
    "lesion": (1,),
}
"""Region name -> canonical labels whose union it is. WT and TC exclude the cavity, as in BraTS 2024."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "glioma": ("WT", "TC", "ET", "ED", "NCR"),
    "glioma_post": ("WT", "TC", "ET", "ED", "NCR", "RC"),
    "WT": ("WT",),
    "lesion": ("lesion",),
}
"""Label set of a case (what its annotators could draw) -> the regions that can be judged on it."""

LABEL_SET_CLASSES: dict[str, int] = {"glioma": 4, "glioma_post": 5, "WT": 2, "lesion": 2}
"""Label set -> number of classes including background that a segmenter for it needs."""


@dataclass(frozen=True)
class LabelConvention:
    """How one source writes its masks: source value -> canonical label, and what its annotators could draw."""

    name: str
    mapping: dict[int, int]
    label_set: str
    source: str


_CONVENTIONS = (
    LabelConvention("canonical", {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}, "glioma_post", "this workbench"),
    LabelConvention("brats2015", {0: 0, 1: 1, 2: 2, 3: 1, 4: 3}, "glioma", "BraTS 2013-2015: 3 non-enhancing, 4 ET"),
    LabelConvention("brats2021", {0: 0, 1: 1, 2: 2, 4: 3}, "glioma", "BraTS 2017-2021: 1 NCR, 2 ED, 4 ET"),
    LabelConvention("brats2023", {0: 0, 1: 1, 2: 2, 3: 3}, "glioma", "BraTS 2023 GLI: 1 NCR, 2 ED, 3 ET"),
    LabelConvention("brats2024", {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}, "glioma_post", "BraTS 2024 GLI: 1 NETC, 2 SNFH, 3 ET, 4 RC"),
    LabelConvention("msd", {0: 0, 1: 2, 2: 1, 3: 3}, "glioma", "MSD Task01: 1 oedema, 2 non-enhancing, 3 enhancing"),
    LabelConvention("whole_tumour", {0: 0, 1: 1}, "WT", "binary whole-tumour mask, e.g. EGD"),
    LabelConvention("lesion", {0: 0, 1: 1}, "lesion", "binary lesion mask: MS, WMH, stroke, metastasis"),
)
CONVENTIONS: dict[str, LabelConvention] = {convention.name: convention for convention in _CONVENTIONS}


def convention(name: str) -> LabelConvention:
    """Look a label convention up by name.

    Raises:
        ParameterError: no such convention; the message lists those there are.
    """
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise ParameterError(f"label convention '{name}' is unknown; there are: {', '.join(CONVENTIONS)}") from None


def to_canonical(values: np.ndarray, name: str, *, case: str = "", file: str = "") -> np.ndarray:
    """Convert a mask (X, Y, Z) of any numeric type from convention `name` to canonical labels, uint8.

    Raises:
        InputError: values that are not whole numbers or that the convention does not define; the message lists them.
    """
    chosen = convention(name)
    values = np.asarray(values)
    found = np.unique(values)
    unknown = [float(v) for v in found if not (np.isfinite(v) and float(v).is_integer() and int(v) in chosen.mapping)]
    if unknown:
        listed = ", ".join(f"{v:g}" for v in unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        raise InputError(
            Problem(
                case=case,
                file=file,
                channel="segmentation",
                message=f"the mask holds {listed}, but convention '{name}' defines only "
                f"{', '.join(str(v) for v in sorted(chosen.mapping))} ({chosen.source})",
                remedy="declare the convention the mask was drawn in, or correct the mask",
            )
        )
    table = np.zeros(256, np.uint8)
    for source, target in chosen.mapping.items():
        table[source] = target
    return table[values.astype(np.uint8)]


def as_drawn(labels: np.ndarray, label_set: str) -> np.ndarray:
    """Canonical labels as read with a label set: with one of a single class (lesion, WT) the whole tumour is 1, all else 0.

    A cohort of many sources can thus read detailed glioma masks as one lesion class; a resection cavity is background then.
    """
    return region_mask(labels, "WT").astype(np.uint8) if LABEL_SET_CLASSES.get(label_set) == 2 else labels


def region_mask(labels: np.ndarray, region: str) -> np.ndarray:
    """Boolean mask of a region in canonical labels, same shape."""
    return np.isin(labels, REGIONS[region])


def regions_of(label_set: str) -> tuple[str, ...]:
    """The regions that can be judged on a case with this label set; none where it is empty (no mask)."""
    return LABEL_SETS[label_set] if label_set else ()


def judged_regions(label_set: str, classes: int) -> list[str]:
    """The regions that both a case's annotators could draw and a segmenter of so many classes (background included) tells apart.

    A segmenter of two classes knows one: its label 1 is the lesion or the whole tumour, whatever else 1 stands for.
    """
    return [name for name in regions_of(label_set) if name in ("WT", "lesion") or (classes > 2 and max(REGIONS[name]) < classes)]

"""Named collections of images that several cohorts and sets of weights are drawn from, and which of them share subjects.

A cohort says which it is made of (`CohortInfo.collections`), weights say which they have seen: a test on the same people is then
told apart. Sources: the BraTS 2021 to TCIA crosswalk, the BraTS 2017-to-2023 name mapping, the MSD's data description.
"""

from __future__ import annotations

from collections.abc import Iterable

from workbench.errors import ParameterError

COLLECTIONS: dict[str, str] = {
    "ukb": "UK Biobank",
    "brats2021": "BraTS 2021 (and earlier)",
    "brats2023": "BraTS 2023 adult glioma",
    "brats2024": "BraTS 2024 post-treatment glioma",
    "tcga-gbm": "TCGA-GBM",
    "tcga-lgg": "TCGA-LGG",
    "ucsf-pdgm": "UCSF-PDGM",
    "upenn-gbm": "UPENN-GBM",
    "ivygap": "Ivy GAP",
    "egd": "Erasmus Glioma Database",
    "rhuh-gbm": "RHUH-GBM",
    "msd-brain": "Medical Segmentation Decathlon, brain tumours",
    "atlas": "ATLAS stroke lesions",
    "isles2022": "ISLES 2022 stroke lesions",
    "wmh2017": "WMH 2017 white-matter hyperintensities",
    "msseg": "MSSEG multiple sclerosis lesions",
    "oasis": "OASIS",
    "adni": "ADNI",
    "ppmi": "PPMI",
    "private": "images of one's own, in no public collection",
    "other": "another public collection",
}
"""Name -> title. `workbench cohort import --collection NAME` takes these."""

_BRATS_2021_PARTS = ("tcga-gbm", "tcga-lgg", "ucsf-pdgm", "upenn-gbm", "ivygap", "msd-brain")
SHARED: frozenset[frozenset[str]] = frozenset(
    frozenset((brats, name))
    for brats in ("brats2021", "brats2023")
    for name in (*_BRATS_2021_PARTS, "brats2021", "brats2023")
    if name != brats
)
"""Pairs known to share subjects: BraTS 2021 holds cases of TCGA, UCSF-PDGM, UPENN-GBM and Ivy GAP (the MSD's tumours are those of
BraTS 2016 and 2017), and BraTS 2023 is the same subjects under new names."""
MAY_SHARE: frozenset[frozenset[str]] = frozenset(frozenset((name, "brats2024")) for name in ("brats2021", "brats2023"))
"""Pairs from the same hospitals of which nobody has published whether they share subjects."""


def check_collections(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ParameterError: an unknown name; the message lists those there are.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if name not in COLLECTIONS:
            raise ParameterError(f"collection '{name}' is unknown; there are {', '.join(COLLECTIONS)}")
    return names


def sharing(seen: Iterable[str], tested: Iterable[str], pairs: frozenset[frozenset[str]] = SHARED) -> list[tuple[str, str]]:
    """The (seen, tested) pairs that are the same collection or listed in `pairs`; 'private' and 'other' are never the same."""
    unnamed = {"private", "other"}
    return [
        (a, b) for a in seen for b in tested if a not in unnamed and b not in unnamed and (a == b or frozenset((a, b)) in pairs)
    ]

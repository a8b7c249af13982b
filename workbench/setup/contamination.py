"""Whether a test is clean: had the weights that a run started from seen the people it is tested on? No torch.

Two ways to know: the named collections that the weights saw against those that the cohort is made of, and, for weights pretrained
in this workbench, the subjects themselves. What cannot be known is said to be unknown, never clean. Weights that saw UK Biobank
alone are the clean arm for every cohort that is not UK Biobank's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from workbench.cohort.collections import COLLECTIONS, MAY_SHARE, sharing
from workbench.cohort.table import CohortInfo
from workbench.models.seen import Seen, subject_digest

_VOLUNTEERS = {"ukb"}
"""Collections that nobody imports unawares: a cohort that does not name them does not hold them."""


@dataclass(frozen=True)
class Contamination:
    """The verdict on one test, with its reason."""

    verdict: Literal["clean", "contaminated", "unknown"]
    sentence: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"verdict": self.verdict, "sentence": self.sentence}


def judge(seen: Seen, info: CohortInfo, subjects: Iterable[str], merged: Mapping[str, str] | None = None) -> Contamination:
    """Judge a test on `subjects` of a cohort.

    Args:
        seen: what the weights were trained on before this run.
        info: the cohort tested on.
        subjects: the test subjects, by name. A name counts as the same person in every cohort: a false alarm is the lesser harm.
        merged: their names in merged cohorts, see `cohort.merge.names_in_merges`.
    """
    names = sorted(set(subjects))
    digests = {name: {subject_digest(name), subject_digest((merged or {}).get(name, name))} for name in names}
    for cohort in seen.cohorts:
        shared = [name for name in names if digests[name] & set(cohort.subjects)]
        if shared:
            return Contamination(
                "contaminated",
                f"Contaminated: {len(shared)} of {len(names)} test subjects were among those that the weights were trained on "
                f"or chosen by (cohort {cohort.name}): these results are no test on unseen people.",
            )
    # within one collection subjects have one name, and the names have just been compared: a split of it into training and test
    # subjects is clean. Under another collection the same people have other names.
    mixed = [cohort.collections for cohort in seen.cohorts if set(cohort.collections) != set(info.collections)]
    own = [name for cohort in seen.cohorts for name in cohort.collections if name not in info.collections]
    collections = tuple(dict.fromkeys([*seen.collections, *own]))
    if info.phantom:
        return Contamination("clean", "Clean: the weights have seen none of these phantom subjects.")
    renamed = [pair for names_there in mixed for pair in sharing(names_there, info.collections) if pair[0] != pair[1]]
    if pairs := [*sharing(collections, info.collections), *renamed]:
        first, second = pairs[0]
        there = COLLECTIONS[second]
        reason = "which this cohort is made of" if first == second else f"which shares subjects with this cohort's {there}"
        return Contamination(
            "contaminated",
            f"Contaminated: the weights have seen {COLLECTIONS[first]}, {reason}: these results are no test on unseen people.",
        )
    return _unknown(seen, info, collections) or Contamination(
        "clean",
        f"Clean: the weights have seen {_titles(collections) or 'no brain MRI collection that is named'}, none of it "
        "in this cohort.",
    )


def _unknown(seen: Seen, info: CohortInfo, collections: tuple[str, ...]) -> Contamination | None:
    """The verdict where it cannot be known, with what would make it known."""
    if not seen.known:
        return Contamination("unknown", "Contamination unknown: nobody has published what these weights have seen.")
    risky = [name for name in collections if name not in _VOLUNTEERS]
    if risky and not info.collections:
        return Contamination(
            "unknown",
            f"Contamination unknown: the weights have seen {_titles(risky)}, and cohort {info.name} does not say "
            "which collections it is made of (import it with --collection NAME; 'private' for images of your own).",
        )
    unnamed = [cohort.name for cohort in seen.cohorts if not (cohort.phantom or cohort.collections or cohort.name == info.name)]
    if unnamed:
        return Contamination(
            "unknown",
            f"Contamination unknown: the weights were trained on cohort {unnamed[0]}, which does not say which collections it is "
            "made of; subject names have nothing in common with this one (import it with --collection NAME; 'private' for images "
            "of your own).",
        )
    possible = sharing(seen.possible, info.collections) or sharing(collections, info.collections, MAY_SHARE)
    if possible:
        first, second = possible[0]
        return Contamination(
            "unknown",
            f"Contamination unknown: the weights may have seen subjects of {COLLECTIONS[second]} ({COLLECTIONS[first]}).",
        )
    return None


def _titles(names: Iterable[str]) -> str:
    return ", ".join(COLLECTIONS.get(name, name) for name in names)

"""What weights have been trained on: it travels inside checkpoints, so that a test on the same people can be told. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field


class SeenCohort(BaseModel):
    """One cohort of this workbench that weights were trained on."""

    model_config = ConfigDict(frozen=True)

    name: str
    fingerprint: str
    collections: tuple[str, ...] = ()
    phantom: bool = False
    subjects: tuple[str, ...] = Field((), description="digests of the training subjects, sorted; see `subject_digest`")


class Seen(BaseModel):
    """Everything that weights were trained on, pretraining before pretraining included."""

    model_config = ConfigDict(frozen=True)

    collections: tuple[str, ...] = Field((), description="named collections whose images were seen, keys of cohort.COLLECTIONS")
    possible: tuple[str, ...] = Field((), description="collections that the file may have seen: its layout does not tell")
    cohorts: tuple[SeenCohort, ...] = ()
    known: bool = Field(True, description="False: nobody has said what these weights were trained on")

    def __or__(self, other: Seen) -> Seen:
        """What either has seen."""
        return Seen(
            collections=tuple(dict.fromkeys([*self.collections, *other.collections])),
            possible=tuple(dict.fromkeys([*self.possible, *other.possible])),
            cohorts=tuple(dict.fromkeys([*self.cohorts, *other.cohorts])),
            known=self.known and other.known,
        )


def subject_digest(subject: str) -> str:
    """16 hex digits that stand for a subject in a checkpoint: weights are passed on, and a list of patients must not be."""
    return hashlib.blake2b(subject.encode(), digest_size=8).hexdigest()


def seen_cohort(
    name: str, fingerprint: str, collections: Iterable[str], subjects: Iterable[str], phantom: bool = False
) -> SeenCohort:
    """One cohort and the subjects of it that were trained on, by name."""
    return SeenCohort(
        name=name,
        fingerprint=fingerprint,
        collections=tuple(collections),
        phantom=phantom,
        subjects=tuple(sorted({subject_digest(subject) for subject in subjects})),
    )

"""Whether self-supervised features have collapsed: all cases alike, or all tokens in a few directions. NumPy only.

A vector of part of a case's sequences that lies near the vector of all of them is a sign of robustness, or of vectors that are
all the same: mean similarity within a subject says nothing without the one between subjects, and without the number of
directions that features use. The limits of the verdict are the workbench's own choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

ALIKE = 0.99
"""Mean cosine similarity between subjects from which on their vectors count as equal."""
MARGIN = 0.01
"""By how much a subject must be more like itself than like others."""
FEW_DIRECTIONS = 0.05
"""Share of the directions there could be, below which features count as collapsed."""


@dataclass(frozen=True)
class Collapse:
    """The monitors of one set of features."""

    effective_rank: float
    """Of all tokens, see `effective_rank`."""
    directions: int
    """The largest that the rank could be."""
    between_subjects: float
    """Mean cosine similarity of the vectors of different subjects; NaN with one subject."""
    within_subjects: float
    """Mean cosine similarity of a case's vector from one sequence to its vector from all; NaN where no case has two sequences."""
    off_diagonal: float
    """Sum of the squared covariances between features, per feature: what the covariance term of the loss is."""
    subjects: int

    @property
    def verdict(self) -> str:
        """'collapsed', 'doubtful', 'not collapsed' or 'unknown'."""
        if not np.isfinite(self.effective_rank) or not np.isfinite(self.between_subjects):
            return "unknown"
        if self.effective_rank < max(2.0, FEW_DIRECTIONS * self.directions) or self.between_subjects >= ALIKE:
            return "collapsed"
        if np.isfinite(self.within_subjects) and self.within_subjects - self.between_subjects < MARGIN:
            return "doubtful"
        return "not collapsed"

    @property
    def sentence(self) -> str:
        """The verdict with its reason."""
        rank = f"the tokens use {self.effective_rank:.1f} of {self.directions} directions"
        between = f"different subjects have similarity {self.between_subjects:.3f}"
        if self.verdict == "unknown":
            return "Unknown: it takes features of two subjects to tell."
        if self.between_subjects >= ALIKE:
            within = f" (and a part of a subject's sequences {self.within_subjects:.3f} to all of them)"
            part = within if np.isfinite(self.within_subjects) else ""
            return f"Collapsed: {between}{part}: the vectors hardly say whose they are."
        if self.verdict == "collapsed":
            return f"Collapsed: {rank} only."
        if self.verdict == "doubtful":
            return (
                f"Doubtful: one sequence of a subject is no nearer to all of them ({self.within_subjects:.3f}) than another "
                f"subject is ({self.between_subjects:.3f}): that similarity is no sign of robustness. Otherwise {rank}."
            )
        one = f", one sequence to all of a subject {self.within_subjects:.3f}" if np.isfinite(self.within_subjects) else ""
        return f"No sign of collapse: {rank}; {between}{one}."

    def as_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def judge_collapse(
    tokens: np.ndarray, whole: np.ndarray, parts: np.ndarray, part_of: Sequence[int], subjects: Sequence[str]
) -> Collapse:
    """The monitors.

    Args:
        tokens: (N, D) features of tokens of several cases.
        whole: (cases, D) a vector per case, of all its sequences.
        parts: (parts, D) vectors of single sequences, of cases that have two or more.
        part_of: per part, its case's row in `whole`.
        subjects: per case, whose it is.
    """
    units = _units(whole)
    others = np.asarray(subjects)[:, None] != np.asarray(subjects)[None]
    between = float((units @ units.T)[others].mean()) if others.any() else float("nan")
    within = float((_units(parts) * units[list(part_of)]).sum(1).mean()) if len(part_of) else float("nan")
    return Collapse(
        effective_rank=effective_rank(tokens),
        directions=int(min(len(tokens) - 1, tokens.shape[1])),
        between_subjects=between,
        within_subjects=within,
        off_diagonal=off_diagonal_covariance(tokens),
        subjects=len(set(subjects)),
    )


def effective_rank(features: np.ndarray) -> float:
    """exp of the entropy of the singular values' shares (Roy and Vetterli, EUSIPCO 2007), of centred features (N, D).

    Between 1 (one direction) and min(N - 1, D); 0 where nothing varies, NaN where a value is not finite.
    """
    centred = np.asarray(features, dtype=np.float64)
    if not np.isfinite(centred).all() or len(centred) < 2:
        return float("nan")
    centred = centred - centred.mean(0)
    values = np.linalg.svd(centred, compute_uv=False)
    if values[0] <= 1e-9 * max(1.0, float(np.abs(features).max())):
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def off_diagonal_covariance(features: np.ndarray) -> float:
    """(1 / D) x sum over i != j of Cov_ij^2 of features (N, D)."""
    covariance = np.cov(np.asarray(features, dtype=np.float64), rowvar=False)
    return float((np.square(covariance).sum() - np.square(np.diag(covariance)).sum()) / len(covariance))


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)

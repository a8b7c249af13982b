"""A number with its interval as people read it, in one form everywhere. Imports neither pandas nor a plotting library."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

from workbench.contracts import MIN_SUBJECTS, ROUGH_BELOW

ROUGH_NOTE = (
    f"95 % intervals are by subject; with fewer than {MIN_SUBJECTS} there is none, with fewer than {ROUGH_BELOW} it is rough: "
    "it may hold the truth in 85 % only."
)
"""The legend of what `estimate_text` marks."""


def estimate_text(
    value: float,
    low: float | None = None,
    high: float | None = None,
    digits: int = 2,
    *,
    subjects: int | None = None,
    show: Callable[[float], str] | None = None,
) -> str:
    """A number with its 95 % interval: '0.87 (0.84 to 0.90)', '0.87 (0.71 to 0.95, rough)', '0.87 (no interval)'; 'not estimable'
    where there is no number.

    Args:
        value: the number.
        low: its lower bound; None or NaN: not known.
        high: its upper bound.
        digits: decimals.
        subjects: behind the number: of fewer than `MIN_SUBJECTS` no interval is shown, below `ROUGH_BELOW` it is marked. None: an
            interval that is not known is left out without a word.
        show: how one number is written, in place of `digits`.
    """
    if not isfinite(value):
        return "not estimable"
    written = show or (lambda number: f"{number:.{digits}f}")
    known = low is not None and high is not None and isfinite(low) and isfinite(high)
    if not known or (subjects is not None and subjects < MIN_SUBJECTS):
        return written(value) if subjects is None else f"{written(value)} (no interval)"
    assert low is not None
    assert high is not None
    rough = ", rough" if subjects is not None and subjects < ROUGH_BELOW else ""
    return f"{written(value)} ({written(low)} to {written(high)}{rough})"


def few_subjects(count: int) -> str:
    """A remark where so few subjects give a rough interval, or none; else empty."""
    if count < MIN_SUBJECTS:
        return f"no interval: {count} subject{'s' * (count != 1)}, {MIN_SUBJECTS} are needed"
    return f"rough interval: {count} subjects" if count < ROUGH_BELOW else ""


def share_text(share: float, n: int) -> str:
    """A share as what it counts: '4 of 5'; a dash where there is nothing to count."""
    return f"{round(share * n)} of {n}" if n and isfinite(share) else "–"

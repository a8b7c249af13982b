"""What a run says about the weights it started from: `pretrained.json`, and the caution that goes with its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.files import read_json

PRETRAINED_FILE = "pretrained.json"
MARKS = {"contaminated": "⚠ contaminated test", "unknown": "⚠ contamination unknown", "clean": ""}
"""Verdict -> what stands beside a run's name."""


@dataclass(frozen=True)
class PretrainedRecord:
    """The weights a run started from, and whether its test is clean of them."""

    file: str = ""
    title: str = ""
    verdict: str = ""
    """'clean', 'contaminated', 'unknown'; empty: the run started from random weights, or has not started."""
    sentence: str = ""
    """The verdict in words."""
    document: dict[str, Any] | None = None
    """All of `pretrained.json`."""

    @property
    def mark(self) -> str:
        """A few words for lists; empty where there is nothing to be careful about."""
        return MARKS.get(self.verdict, "")

    @property
    def caution(self) -> str:
        """The sentence where the test is not known to be clean, else empty."""
        return self.sentence if self.mark else ""

    def as_dict(self) -> dict[str, str] | None:
        """For JSON; None for a run from random weights."""
        keys = ("file", "title", "verdict", "sentence")
        return {key: getattr(self, key) for key in keys} if self.verdict else None


def read_pretrained_record(folder: str | Path) -> PretrainedRecord:
    """The record of a run folder; an empty one where the run started from random weights, or the file is damaged."""
    path = Path(folder) / PRETRAINED_FILE
    if not path.is_file():
        return PretrainedRecord()
    try:
        document = read_json(path)
        verdict = document["contamination"]
        return PretrainedRecord(
            str(document["coverage"]["file"]),
            str(document["coverage"]["title"]),
            str(verdict["verdict"]),
            str(verdict["sentence"]),
            document,
        )
    except (WorkbenchError, KeyError, TypeError):
        sentence = f"{PRETRAINED_FILE} is damaged: what the weights have seen is unknown."
        return PretrainedRecord(verdict="unknown", sentence=sentence)

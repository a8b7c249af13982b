"""Errors that a user is meant to read: each says what was wrong, where, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal


class WorkbenchError(Exception):
    """An error in what the user gave, not in the program: the command line prints it without a traceback and exits 1."""


class ParameterError(WorkbenchError):
    """A parameter is unknown, ill-typed or outside its range; the message names it."""


class RunError(WorkbenchError):
    """A run folder is missing, damaged, claimed by another process, or in a state that forbids what was asked."""


class RunHeldError(RunError):
    """Another living process runs the run: it will end by itself."""


class StopRequest(WorkbenchError):  # noqa: N818 - nothing went wrong
    """Somebody asked the run to stop: what is done so far is kept, and the run can be taken up again."""


def listed(names: Sequence[object], limit: int = 5) -> str:
    """For messages: the first names, and how many more there are."""
    return ", ".join(map(str, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One finding about one case; what `workbench cohort check` lists.

    `case`, `file` and `channel` are empty strings where they do not apply.
    """

    severity: Literal["error", "warning"] = "error"
    case: str = ""
    file: str = ""
    channel: str = ""
    message: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        """One line: place, message, remedy."""
        place = ", ".join(
            f"{name} {value}" for name, value in (("case", self.case), ("file", self.file), ("channel", self.channel)) if value
        )
        text = f"{place}: {self.message}" if place else self.message
        return f"{text} ({self.remedy})" if self.remedy else text

    def as_dict(self) -> dict[str, str]:
        """A plain dictionary, for JSON."""
        return asdict(self)


class InputError(WorkbenchError):
    """Input data cannot be used. Carries the `Problem`s found, so that callers can list them all."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

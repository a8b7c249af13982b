"""`headline.json`: a run's few headline numbers of its test cases, kept so that a thousand runs can be listed at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from workbench.errors import RunError, WorkbenchError
from workbench.files import read_json
from workbench.text import visible

HEADLINE_FILE = "headline.json"


class HeadlineNumber(TypedDict):
    """A number with its 95 % interval, its cases and subjects; null where it cannot be estimated.

    Without `n_subjects` it was written by an older version, whose Dice and HD95 are means over all cases, also those that do not
    have the region.
    """

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)  # type: ignore[misc]
    value: float | None
    low: float | None
    high: float | None
    n: Annotated[int, Field(ge=0)]
    n_subjects: NotRequired[Annotated[int, Field(ge=0)]]


_SCHEMA = TypeAdapter(dict[str, HeadlineNumber])


def read_headline(folder: str | Path) -> dict[str, HeadlineNumber]:
    """The headline of a run: 'dice WT' -> value, low, high, n; empty where it is not evaluated.

    Raises:
        RunError: the file is damaged.
    """
    path = Path(folder) / HEADLINE_FILE
    if not path.exists():
        return {}
    try:
        found = _SCHEMA.validate_python(read_json(path, most=2**20))
    except (WorkbenchError, ValidationError) as error:
        raise RunError(f"{path} does not hold a run's headline numbers: {error}") from error
    return {visible(name): number for name, number in found.items()}

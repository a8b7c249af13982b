"""What all commands share: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.errors import ParameterError

PLAIN: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
"""Settings of every group of commands."""

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output and nothing else")]
Runs = Annotated[Path, typer.Option("--runs", help="folder of all runs")]
Penalty = Annotated[
    str,
    typer.Option(help="what a distance counts as where only truth or prediction has the region: grid_diagonal, brats or exclude"),
]
CohortFolder = Annotated[Path, typer.Argument(help="cohort folder", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(help="run folder", show_default=False)]


def print_value(value: Any) -> None:
    """Print a result: text as it is, anything else as JSON."""
    if isinstance(value, str):
        typer.echo(value)
    else:
        typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def say(text: str) -> None:
    """Tell the user something that is not the result."""
    typer.echo(text, err=True)


def as_pairs(items: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary.

    Raises:
        ParameterError: one is no pair, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise ParameterError(f"{option} {item}: expected NAME=VALUE")
        if name.strip() in pairs:
            raise ParameterError(f"{option} {name.strip()} is given twice")
        pairs[name.strip()] = value.strip()
    return pairs


def size_text(count: int) -> str:
    """Bytes with a unit that suits them: '812 B', '3.4 MB'."""
    value, unit = float(count), "B"
    for bigger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, bigger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def about(seconds: float) -> str:
    """An estimated time, no finer than an estimate is: '40 s', '12 min', '5.5 h', '9 days'."""
    for unit, length, most, digits in (("s", 1, 120, 0), ("min", 60, 120, 0), ("h", 3600, 48, 1)):
        if round(seconds / length, digits) < most:
            return f"{max(seconds / length, 1):.{digits}f} {unit}"
    return f"{seconds / 86400:.0f} days"

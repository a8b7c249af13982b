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

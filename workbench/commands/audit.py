"""Known vulnerabilities of the installed packages, asked of an advisory source that speaks PyPI's JSON."""

from __future__ import annotations

import importlib.metadata
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from typing import Any

from workbench.errors import ParameterError
from workbench.text import visible

OWN_NAME = "brain-mri-workbench"
SECONDS = 10
MOST_BYTES = 32 * 2**20


@dataclass
class Audit:
    """What was asked and what came back: `checked` and `unchecked` hold NAME==VERSION, `problem` why asking ended early."""

    source: str
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    vulnerabilities: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""

    @property
    def exit_code(self) -> int:
        """1: vulnerabilities are known; 3: none among those checked, but not all were; 0: all were checked, none is known."""
        return 1 if self.vulnerabilities else 3 if self.unchecked or not self.checked else 0

    def as_dict(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """All of it, for people. Text of the source is printed without characters that steer a terminal."""
        total = len(self.checked) + len(self.unchecked)
        if not self.checked:
            if not self.problem:
                return [f"{visible(self.source)} knows none of the {total} packages: nothing was checked"]
            asked = visible(f"{self.source} ({self.problem})")
            return [f"no advisory source could be reached: nothing was checked; asked was {asked}"]
        found = [
            visible(f"{known['package']}: {known['id']} {known['summary']} -> fixed in {known['fixed_in'] or 'no version'}")
            for known in self.vulnerabilities
        ]
        found.append(
            f"{len(self.checked)} of {total} packages checked at {visible(self.source)}: {len(found)} known vulnerabilities"
        )
        if self.unchecked:
            found.append(f"not checked: {', '.join(self.unchecked)}" + (f" ({visible(self.problem)})" if self.problem else ""))
        return found


def installed() -> list[tuple[str, str]]:
    """Name and public version of each installed package but this one; a local build (+cpu) counts as its public version."""
    found = {
        (name, dist.version.partition("+")[0])
        for dist in importlib.metadata.distributions()
        if (name := str(dist.metadata["Name"]).lower().replace("_", "-")) != OWN_NAME
    }
    return sorted(found)


def audit(source: str, packages: list[tuple[str, str]] | None = None) -> Audit:
    """Ask the source about each package. It is not asked again once it cannot be reached: the rest stays unchecked.

    Args:
        source: address that PyPI's JSON lies under (SOURCE/NAME/VERSION/json).
        packages: names and versions; default: the installed ones.

    Raises:
        ParameterError: the source is no http or https address.
    """
    if urllib.parse.urlsplit(source).scheme not in ("http", "https"):
        raise ParameterError(f"'{source}' is no http or https address of an advisory source")
    result = Audit(source)
    for name, version in installed() if packages is None else packages:
        package = f"{name}=={version}"
        try:
            known = None if result.problem else _ask(source, name, version)
        except (OSError, HTTPException, ValueError) as error:
            known, result.problem = None, str(getattr(error, "reason", error)) or type(error).__name__
        if known is None:
            result.unchecked.append(package)
            continue
        result.checked.append(package)
        result.vulnerabilities += [{"package": package} | entry for entry in known]
    return result


def _ask(source: str, name: str, version: str) -> list[dict[str, Any]] | None:
    """The advisories; None where the source does not know this package or version.

    Raises:
        OSError, HTTPException: it cannot be reached.
        ValueError: the answer is no list of advisories.
    """
    address = f"{source.rstrip('/')}/{urllib.parse.quote(name, safe='')}/{urllib.parse.quote(version, safe='')}/json"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            content = json.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    known = content.get("vulnerabilities") if isinstance(content, dict) else None
    if not isinstance(known, list) or not all(isinstance(entry, dict) for entry in known):
        raise ValueError("the answer holds no advisories")
    return [
        {
            "id": str(entry.get("id", "")),
            "summary": str(entry.get("summary") or entry.get("details") or "")[:200],
            "fixed_in": ", ".join(map(str, entry.get("fixed_in") or [])),
        }
        for entry in known
        if not entry.get("withdrawn")
    ]

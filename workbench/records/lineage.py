"""The chain behind one file of a run: from the file back to weights, training cases, prepared arrays, cohort and earlier runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from workbench.errors import RunError, WorkbenchError
from workbench.files import read_json, value_digest
from workbench.records.artefact_kinds import Kind, kind_of
from workbench.records.artefacts_file import ARTEFACTS_FILE, read_artefacts

_ROOT_KINDS = {"split": ("cohort",), "prepared": ("cohort",)}
"""Root -> what it is made from in turn."""


def lineage(folder: str | Path, file: str | Path) -> dict[str, Any]:
    """What a file of a finished run was made from, back to where the data came from.

    Args:
        folder: the run folder.
        file: the file, relative to the run folder or as a path to it.

    Returns:
        A node: `what` (one line), `digest`, `facts` (name -> value), and `made_from`, a list of nodes. A node that occurs again
        has `repeated` instead of what it was made from.

    Raises:
        RunError: the run has no record of its files, or no such file.
    """
    folder = Path(folder)
    document = read_artefacts(folder)
    name = _name(folder, file)
    if name not in document["files"]:
        near = [known for known in document["files"] if Path(known).name == Path(name).name]
        hint = f"; there is {', '.join(near[:3])}" if near else ""
        raise RunError(f"run {folder} has no record of a file {name}{hint}")
    return _Reader(folder, document).file(name)


def lineage_lines(node: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """A chain as indented lines."""
    arrow = "" if depth == 0 else "  " * (depth - 1) + "<- "
    facts = ", ".join(f"{key} {value}" for key, value in node["facts"].items())
    again = "  (see above)" if node.get("repeated") else ""
    digest = f"  {node['digest']}" if node["digest"] and not again else ""
    yield f"{arrow}{node['what']}{f': {facts}' if facts and not again else ''}{digest}{again}"
    for child in node["made_from"]:
        yield from lineage_lines(child, depth + 1)


def find_maker(runs: Path, digest: str) -> tuple[str, str] | None:
    """The finished run under a runs folder that made the file of this digest, and the file; None where none did."""
    for path in sorted(runs.glob(f"*/*/{ARTEFACTS_FILE}")):
        try:
            text = path.read_bytes()
            if digest.encode() not in text:
                continue
            files = read_json(path)["files"]
        except (OSError, KeyError, TypeError, WorkbenchError):
            continue
        for name, entry in files.items():
            if entry["digest"] == digest:
                return path.parent.relative_to(runs).as_posix(), name
    return None


class _Reader:
    """Builds nodes from one run's document; each is described once."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder, self.inputs, self.files = folder, document["inputs"], document["files"]
        self.versions = document.get("code_versions", [])
        self.seen: set[str] = set()

    def file(self, name: str) -> dict[str, Any]:
        entry = self.files[name]
        version = entry.get("code_version") or (self.versions[-1] if self.versions else "")
        facts = {"step": entry["step"], "bytes": entry["bytes"]} | ({"code": version} if version else {})
        for key in ("added", "removed"):
            facts |= {key: entry[key]} if key in entry else {}
        checkpoint = self.inputs.get("checkpoint", {})
        if checkpoint.get("path") == name and checkpoint.get("step") is not None:
            facts["training step"] = checkpoint["step"]
        return self.node(name, f"{name} ({entry['kind']})", entry["digest"], facts, kind_of(name).made_from)

    def source(self, name: str) -> dict[str, Any] | None:
        """The node of a root, a file or a pattern of files; None where the run has none."""
        if name == "checkpoint":
            path = self.inputs.get("checkpoint", {}).get("path")
            return self.file(path) if path in self.files else None
        if name in self.inputs:
            return self.root(name)
        found = [known for known in self.files if fnmatchcase(known, name) and kind_of(known).pattern == name]
        if not found:
            return None
        if len(found) == 1:
            return self.file(found[0])
        digest = value_digest({known: self.files[known]["digest"] for known in found}, 32)
        kind: Kind = kind_of(found[0])
        return self.node(name, f"{name} ({len(found)} files, {kind.title})", digest, {"step": kind.step}, kind.made_from)

    def root(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = self.inputs[name]
        made_from = _ROOT_KINDS.get(name, ())
        if name == "cohort":
            facts: dict[str, Any] = {"cases": len(value["cases"])} if "cases" in value else {}
            facts |= {"phantom": "yes"} if value.get("phantom") else {}
            facts |= {"note": value["note"]} if "note" in value else {}
            return self.node(name, f"cohort {value['name']}", str(value["fingerprint"]), facts, made_from)
        if name == "split":
            counts = Counter(value.get("cases", {}).values())
            facts = {key: value[key] for key in ("fold", "seed", "note") if value.get(key) is not None} | dict(counts)
            return self.node(name, "split of the cases", value.get("digest", ""), facts, made_from)
        if name == "prepared":
            facts = {"spacing": f"{value['spacing']} mm"} | ({"modalities": value["modalities"]} if value["modalities"] else {})
            return self.node(name, "prepared arrays", "", facts, made_from)
        if name in ("pretrained", "embeddings"):
            maker = find_maker(self.folder.resolve().parents[1], value["digest"])
            facts = {"file": value["file"]} if value.get("file") else {}
            facts |= {"made by run": f"{maker[0]}, {maker[1]}"} if maker else {"made by": "no run under this runs folder"}
            title = "pretrained weights" if name == "pretrained" else "text vectors of the sequences' names"
            return self.node(name, title, value["digest"], facts, made_from)
        if name == "masks":
            return self.node(name, "masks of another run", "", {"run": value["run"]}, made_from)
        if not value["runs"]:
            return self.node(name, "predictions made elsewhere, imported", value.get("digest", ""), {}, made_from)
        facts = {"kind": value.get("kind", ""), "runs": ", ".join(value["runs"])}
        return self.node(name, "parent runs", "", facts, made_from)

    def node(self, key: str, what: str, digest: str, facts: dict[str, Any], made_from: tuple[str, ...]) -> dict[str, Any]:
        node: dict[str, Any] = {"what": what, "digest": digest, "facts": facts, "made_from": []}
        if key in self.seen:
            return {**node, "repeated": True}
        self.seen.add(key)
        node["made_from"] = [child for name in made_from if (child := self.source(name)) is not None]
        if not node["made_from"] and key not in self.inputs and "parents" in self.inputs:
            node["made_from"] = [self.root("parents")]  # a pooled run has no weights of its own, an imported one none at all
        return node


def _name(folder: Path, file: str | Path) -> str:
    path = Path(file)
    for base in (folder, folder.resolve()):
        for candidate in (path, path.absolute()):
            if candidate.is_relative_to(base):
                return candidate.relative_to(base).as_posix()
    return path.as_posix()

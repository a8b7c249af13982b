"""Run folders as somebody might mail them: each kind breaks one thing of a good, completed run; loaded by path.

`KINDS` names what is done to the folder, as a function of it. What reads runs must answer each with a row and a reason, or a row
whose damaged part is said when it is asked for, and show the good run beside it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Craft = Callable[[Path], Any]


def text(name: str, content: str | bytes) -> Craft:
    """Replace a file's content."""

    def craft(run: Path) -> None:
        (run / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return craft


def key(name: str, /, **values: Any) -> Craft:
    """Change keys of a JSON document."""

    def craft(run: Path) -> None:
        document = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(document | values))

    return craft


def raw(name: str, key: str, value: str) -> Craft:
    """Set a key of a JSON document to something that is written as it stands."""

    def craft(run: Path) -> None:
        document = json.loads((run / name).read_text()) | {key: "PLACE"}
        (run / name).write_text(json.dumps(document).replace('"PLACE"', value))

    return craft


def instead(name: str, make: Callable[[Path], Any]) -> Craft:
    """Something else in the place of a file."""

    def craft(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return craft


def link(name: str, target: str) -> Craft:
    """A link in the place of a file; its parent folder is made."""

    def craft(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)

    return craft


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Craft:
    """Change a table; there is no record of its digest."""

    def craft(run: Path) -> None:
        change(pd.read_parquet(run / name)).to_parquet(run / name)

    return craft


def flipped(name: str) -> Craft:
    """One bit of a recorded file is another."""

    def craft(run: Path) -> None:
        from workbench.records.provenance import write_artefacts
        from workbench.records.run_folder import RunFolder

        write_artefacts(RunFolder.open(run))
        content = bytearray((run / name).read_bytes())
        content[len(content) // 3] ^= 1
        (run / name).write_bytes(content)

    return craft


def _socket(path: Path) -> None:
    where = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may not be long
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(where)


def _huge(path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(10 * 2**30)  # holes only: takes no space


SPEC, STATUS = "spec.json", "status.json"
UNREADABLE: dict[str, Craft] = {
    # the documents as such
    "spec empty": text(SPEC, ""),
    "spec torn": text(SPEC, '{"run": "x", "meth'),
    "spec a list": text(SPEC, "[]"),
    "spec a number": text(SPEC, "7"),
    "spec null": text(SPEC, "null"),
    "spec with a byte order mark": text(SPEC, b"\xef\xbb\xbf{}"),
    "spec in UTF-16": text(SPEC, '{"run": "x"}'.encode("utf-16")),
    "spec not UTF-8": text(SPEC, b'{"run": "\xff"}'),
    "spec with 100,000 brackets": text(SPEC, "[" * 100_000),
    "spec with 100,000 objects": text(SPEC, '{"a":' * 100_000),
    "spec of 10 GiB": instead(SPEC, _huge),
    "spec with a number of 5,000 digits": raw(SPEC, "threads", "9" * 5000),
    "spec with NaN": raw(SPEC, "threads", "NaN"),
    "spec with Infinity": raw(SPEC, "threads", "Infinity"),
    "spec with a key twice": text(SPEC, '{"run": "a", "run": "b"}'),
    "spec with half a pair": raw(SPEC, "title", '"\\ud800"'),
    "status empty": text(STATUS, ""),
    "status torn": text(STATUS, '{"state": "comp'),
    "status a list": text(STATUS, "[]"),
    "status a text": text(STATUS, '"completed"'),
    "status missing": instead(STATUS, lambda path: None),
    "status with 100,000 brackets": text(STATUS, "[" * 100_000),
    "status of 10 GiB": instead(STATUS, _huge),
    "status with a number of 5,000 digits": raw(STATUS, "pid", "9" * 5000),
    "status with half a pair": raw(STATUS, "error", '"\\udfff"'),
    # pipes, folders, sockets, devices, links
    "spec a pipe": instead(SPEC, os.mkfifo),
    "status a pipe": instead(STATUS, os.mkfifo),
    "heartbeat a pipe": instead("heartbeat", os.mkfifo),
    "events a pipe": instead("events.jsonl", os.mkfifo),
    "table a pipe": instead("metrics.parquet", os.mkfifo),
    "headline a pipe": instead("headline.json", os.mkfifo),
    "pretrained a pipe": instead("pretrained.json", os.mkfifo),
    "artefacts a pipe": instead("artefacts.json", os.mkfifo),
    "log a pipe": instead("run.log", os.mkfifo),
    "spec a folder": instead(SPEC, Path.mkdir),
    "status a folder": instead(STATUS, Path.mkdir),
    "status a socket": instead(STATUS, _socket),
    "heartbeat a socket": instead("heartbeat", _socket),
    "spec a device": link(SPEC, "/dev/zero"),
    "status a device": link(STATUS, "/dev/zero"),
    "table a device": link("metrics.parquet", "/dev/zero"),
    "spec a link to itself": link(SPEC, SPEC),
    "status a link elsewhere": link(STATUS, "/etc/hostname"),
    "prediction a link elsewhere": link("predictions/a.nii.gz", "/etc/passwd"),
    "maps a link elsewhere": link("maps", "/etc"),
    "checkpoint a link elsewhere": link("checkpoints/best.safetensors", "/etc/passwd"),
    "report a link elsewhere": link("report.html", "/etc/passwd"),
    "link up and out": link("figures/x.png", "../../../../../../../../etc/passwd"),
    # types in the status
    "notes a number": key(STATUS, notes=7),
    "notes a text": key(STATUS, notes="abc"),
    "notes of objects": key(STATUS, notes=[{}]),
    "pid a text": key(STATUS, pid="1"),
    "pid a list": key(STATUS, pid=[1]),
    "pid huge": key(STATUS, pid=2**70),
    "pid negative": key(STATUS, pid=-1),
    "pid true": key(STATUS, pid=True),
    "pid_created a text": key(STATUS, pid_created="x"),
    "pid_created a list": key(STATUS, pid_created=[]),
    "state a list": key(STATUS, state=[]),
    "state unknown": key(STATUS, state="<done>"),
    "state null": key(STATUS, state=None),
    "budget a list": key(STATUS, budget=[1]),
    "failure a text": key(STATUS, failure="x"),
    "worker a list": key(STATUS, worker=[]),
    "worker of wrong types": key(STATUS, worker={"host": 1, "heartbeat": 2}),
    "host an object": key(STATUS, host={}),
    "error a list": key(STATUS, error=[]),
    "started without a zone": key(STATUS, started="2026-01-01T00:00:00"),
    "finished without a zone": key(STATUS, finished="2026-01-01T00:00:00"),
    "started no time": key(STATUS, started="yesterday"),
    "started a number": key(STATUS, started=12),
    "started in the year 0": key(STATUS, started="0000-01-01T00:00:00+00:00"),
    # types in the spec
    "derived a text": key(SPEC, derived="pooled"),
    "derived a list": key(SPEC, derived=[1]),
    "parents a number": key(SPEC, derived={"parents": 3}),
    "parents of objects": key(SPEC, derived={"parents": [{}]}),
    "kind an object": key(SPEC, derived={"kind": {}}),
    "title a list": key(SPEC, title=[]),
    "parameters a list": key(SPEC, parameters=[]),
    "cohort a text": key(SPEC, cohort="c"),
    "cohort's name a number": key(SPEC, cohort={"name": 1}),
    "method a number": key(SPEC, method=3),
    "run a path": key(SPEC, run="../../x"),
    "schema of the future": key(SPEC, schema_version=99),
    "a cohort with NUL": key(SPEC, cohort={"name": "demo", "path": "\0"}),
    "schema a text": key(SPEC, schema_version="1"),
}
"""Rows with a reason in place of the run."""

LAST = "9999-12-31T23:59:59+00:00"
CONFINED: dict[str, Craft] = {
    "events torn and foreign": text(
        "events.jsonl", b'{"name": "train/a"\n\xff\xff\n[[[[\n{"name": 1, "step": 1e999, "value": 1}\n'
    ),
    "events with brackets": text("events.jsonl", "[" * 100_000),
    "events with half a pair": text("events.jsonl", '{"name":"train/\\ud800","step":1,"value":1}'),
    "events a folder": instead("events.jsonl", Path.mkdir),
    "events with huge steps": text("events.jsonl", '{"name":"train/a","step":' + "9" * 400 + ',"value":1}'),
    "table empty": text("metrics.parquet", ""),
    "table no parquet": text("metrics.parquet", "PAR1 no PAR1"),
    "table a folder": instead("metrics.parquet", Path.mkdir),
    "table of 10 GiB": instead("metrics.parquet", _huge),
    "table without value": table("metrics.parquet", lambda t: t.drop(columns="value")),
    "table with text as value": table("metrics.parquet", lambda t: t.assign(value="high")),
    "table with numbers as case": table("metrics.parquet", lambda t: t.assign(case=7)),
    "probability of 7": table("markers.parquet", lambda t: t.assign(probability=7.0)),
    "markers with numbers as class": table("markers.parquet", lambda t: t.assign(**{"class": 1.5})),
    "a bit flipped in metrics": flipped("metrics.parquet"),
    "a bit flipped in markers": flipped("markers.parquet"),
    "headline a list": text("headline.json", "[]"),
    "headline of texts": text("headline.json", '{"dice WT": "good"}'),
    "headline of wrong types": text("headline.json", '{"dice WT": {"value": "x", "low": [], "high": {}, "n": -3}}'),
    "headline torn": text("headline.json", '{"dice'),
    "headline with hostile names": text("headline.json", '{"<img src=x>": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}}'),
    "artefacts a list": text("artefacts.json", "[]"),
    "artefacts of wrong types": text("artefacts.json", '{"run": 1, "inputs": [], "files": {"metrics.parquet": 3}}'),
    "pretrained torn": text("pretrained.json", "{"),
    "pretrained of wrong types": text("pretrained.json", '{"contamination": 3, "coverage": []}'),
    "started last": key(STATUS, started=LAST, finished=LAST),
    "ended before it began": key(STATUS, started=LAST, finished="2020-01-01T00:00:00+00:00"),
    "times at the edge of the calendar": key(STATUS, started="0001-01-01T00:00:00+23:00"),
    "budget of wrong types": key(STATUS, budget={"steps": "many", "flops": []}),
    "failure of wrong types": key(STATUS, failure={"cell": [], "lines": {}, "log": [None, 3]}),
    "unknown keys": key(STATUS, from_the_future={"a": [1]}),
    "a cohort elsewhere": key(SPEC, cohort={"name": "demo", "path": "/etc"}),
    "a cohort that is a device": key(SPEC, cohort={"name": "demo", "path": "/dev/zero"}),
    "parameters in many kinds": key(SPEC, parameters={"a": [1], "b": {}, "c": None, "": "\u202ex"}),
    "a name of 100,000 letters": key(SPEC, title="x" * 100_000),
}
"""The run is listed; what is damaged is said by what reads it."""

NAMES = {
    "not UTF-8": b"caf\xe9",
    "a control character": b"a\x07b",
    "writing turned around": "a\u202eb".encode(),
    "a line break": b"a\nb",
}
"""Names of run folders that cannot be shown."""

"""Text that tries to be more than text, in every place that comes from outside; loaded by path.

`make_hostile_runs(folder)` writes runs and cohorts whose every name and remark is `EVERYTHING`, all payloads after one another;
`make_hostile_sweep` the same of an ablation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

RUN = "window.hostile=(window.hostile||0)+1"
AWAY = "http://hostile.invalid/x"
PAYLOADS = (
    f'<img src=x data-hostile onerror="{RUN}">',
    f'<img src="{AWAY}" data-hostile>',
    f"<script data-hostile>{RUN}</script>",
    f'<script data-hostile src="{AWAY}"></script>',
    f'<svg data-hostile onload="{RUN}"></svg>',
    f'<svg><a data-hostile xlink:href="javascript:{RUN}"><text>go</text></a></svg>',
    f'<body data-hostile onload="{RUN}">',
    f'<details data-hostile open ontoggle="{RUN}">',
    f'<input data-hostile autofocus onfocus="{RUN}">',
    f'<a data-hostile href="javascript:{RUN}">go</a>',
    f'<iframe data-hostile srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<iframe data-hostile src="{AWAY}"></iframe>',
    f'<object data-hostile data="{AWAY}"></object>',
    f'<embed data-hostile src="{AWAY}">',
    f'<video data-hostile src="{AWAY}" onerror="{RUN}">',
    f'<link data-hostile rel=stylesheet href="{AWAY}">',
    f"<style data-hostile>@import url({AWAY});</style>",
    f'<div data-hostile style="background:url({AWAY})">grey</div>',
    f'<meta data-hostile http-equiv=refresh content="0;url={AWAY}">',
    f'<base data-hostile href="{AWAY}">',
    f'<form data-hostile action="{AWAY}"><button>go</button></form>',
    f'<math data-hostile><maction actiontype="statusline#{AWAY}">go</maction></math>',
    f'"><img src=x data-hostile onerror="{RUN}">',
    f"'><img src=x data-hostile onerror='{RUN}'>",
    f"</td></tr></table><img src=x data-hostile onerror={RUN}>",
    f"</title></style></textarea></script><img src=x data-hostile onerror={RUN}>",
    f'" autofocus onfocus="{RUN}" data-hostile="',
    f"' autofocus onfocus='{RUN}' data-hostile='",
    f"&lt;img src=x data-hostile onerror={RUN}&gt;",
    f"&amp;lt;img src=x data-hostile onerror={RUN}&amp;gt;",
    f"&#60;img src=x data-hostile onerror={RUN}&#62;",
    f"[go](javascript:{RUN})",
    f"![grey]({AWAY})",
    f"`</code><img src=x data-hostile onerror={RUN}>`",
    f"$$\\href{{javascript:{RUN}}}{{go}}$$",
    f"{{{{ ''.__class__ }}}} ${{{RUN}}} {{0}} {{name}} %s %(name)s @name{{safe}}",
    f"<IMG SRC=x DATA-HOSTILE ONERROR={RUN}>",
    f"<img/src=x/data-hostile/onerror={RUN}>",
    "\u202egnp.live\u202c \u200bhidden \x07bell \x1b[31mred",
    f"<!-- --!><img src=x data-hostile onerror={RUN}> -->",
)
EVERYTHING = " ".join(PAYLOADS)
FILE_NAME = f"<img src=x data-hostile onerror={RUN}>"
"""As much as fits into the name of a folder."""
DANGEROUS = tuple(payload for payload in PAYLOADS if "<" in payload)


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if "data-hostile" in names or any(name.startswith("on") for name in names) or "hostile" in str(names.get("href")):
            self.found.append(f"<{tag} {attrs}>")


def hostile_elements(html: str) -> list[str]:
    """The elements of some HTML that a payload made."""
    parser = _Elements()
    parser.feed(html)
    return parser.found


def texts(value: Any) -> Iterator[str]:
    """Every text within a value of a model."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(key)
            yield from texts(item)
    elif isinstance(value, list | tuple | set) or (isinstance(value, np.ndarray) and value.dtype.kind in "OU"):
        for item in value:
            yield from texts(item)


def make_hostile_runs(folder: Path, fabricate: ModuleType, make_cohort: Callable[[Path], Any]) -> Path:
    """Fill `folder` with `cohorts/<name>` (with images) and `runs/<name>/...`; returns the runs folder."""
    root = fabricate.make_runs(folder / "made")
    _rewrite_cohort(folder / "made" / "cohort")
    runs = folder / "runs"
    shutil.move(root / "demo", runs / FILE_NAME)
    shutil.move(root / "night", runs / "night")
    make_cohort(folder / "cohorts" / FILE_NAME)
    _rewrite_cohort(folder / "cohorts" / FILE_NAME)
    for spec in sorted(runs.glob("*/*/spec.json")):
        _rewrite_run(spec.parent)
    return runs


def _rewrite_run(folder: Path) -> None:
    """Put `EVERYTHING` wherever a run says something in words; its numbers stay."""
    try:
        spec = json.loads((folder / "spec.json").read_text())
    except json.JSONDecodeError:
        (folder / "spec.json").write_text('{"run": ' + json.dumps(EVERYTHING))
        return
    words = {"title": EVERYTHING, "code_version": EVERYTHING, "split": EVERYTHING, "method": EVERYTHING, "experiment": EVERYTHING}
    spec |= words | {"parameters": spec["parameters"] | {EVERYTHING: EVERYTHING}, "environment": {EVERYTHING: EVERYTHING}}
    spec["derived"] = {"kind": EVERYTHING, "parents": [EVERYTHING, EVERYTHING]}
    spec["cohort"] |= {"name": EVERYTHING, "path": "../../../made/cohort"}
    (folder / "spec.json").write_text(json.dumps(spec))
    status = json.loads((folder / "status.json").read_text())
    status |= dict.fromkeys(("error", "host", "device"), EVERYTHING)
    status |= {"notes": [EVERYTHING], "budget": {"steps": 10, EVERYTHING: EVERYTHING}}
    said = dict.fromkeys(("cell", "source", "heading"), EVERYTHING) | {"lines": [EVERYTHING], "log": [EVERYTHING]}
    (folder / "status.json").write_text(json.dumps(status | {"failure": said}))
    events = folder / "events.jsonl"
    if events.exists():
        found = [json.loads(line) for line in events.read_text().splitlines()]
        found += [{"name": f"{kind}/{EVERYTHING}", "step": 10, "value": 0.5} for kind in ("train", "validation")]
        events.write_text("".join(json.dumps(line) + "\n" for line in found))
    for name in ("metrics", "markers", "subset_metrics", "subset_markers"):
        path = folder / f"{name}.parquet"
        if path.exists():
            table = pd.read_parquet(path)
            table["site"] = EVERYTHING
            for key in ("case", "subject"):
                table[key] = table[key] + FILE_NAME
            kind = "region" if "region" in table else "marker"
            further = table[table[kind] == table[kind].iloc[0]].assign(**{kind: EVERYTHING})
            if kind == "marker":
                further = further.assign(**{"class": EVERYTHING})
            pd.concat([table, further], ignore_index=True).to_parquet(path)


def _rewrite_cohort(folder: Path) -> None:
    path = folder / "cohort.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"name": EVERYTHING, "external_sites": [EVERYTHING]}))
    for file in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(file)
        for key in ("case", "subject"):
            if key in table:
                table[key] = table[key].astype(str) + FILE_NAME  # a case name with a slash is refused
        for key in ("site", "dataset", "lesion"):
            if key in table:
                table[key] = EVERYTHING
        table.to_parquet(file)


def make_hostile_sweep(folder: Path, fabricate: ModuleType) -> Path:
    """An ablation whose name, methods and conditions are `EVERYTHING`; returns the runs folder."""
    from workbench.records.sweep_plan import plan_path

    root = fabricate.make_sweep(folder)
    plan = json.loads(plan_path(root, "attention").read_text())
    plan |= {"file": EVERYTHING, "given": EVERYTHING}
    plan["cohort"]["name"] = EVERYTHING
    for cell in plan["cells"]:
        for key in ("method", "condition"):
            cell[key] = f"{cell[key]} {EVERYTHING}" if cell[key] != "baseline" else "baseline"
    plan_path(root, "attention").write_text(json.dumps(plan))
    for spec in sorted(root.glob("attention/*/spec.json")):
        document = json.loads(spec.read_text())
        document["cohort"]["name"] = EVERYTHING
        spec.write_text(json.dumps(document | {"title": EVERYTHING}))
    return root

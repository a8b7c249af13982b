"""The command line as a whole: what it says of itself, and that asking is quick."""

from __future__ import annotations

import json
import subprocess
import sys


def workbench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workbench.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_models_as_json() -> None:
    rows = {row["name"]: row for row in json.loads(workbench("models", "--json").stdout)}
    assert {"unet", "mts_unet"} <= set(rows)
    assert rows["mts_unet"]["parameters"] > 124_000_000
    assert all(set(row) >= {"name", "paper", "tasks", "modalities", "parameters", "input"} for row in rows.values())


def test_help_is_quick_and_heavy_libraries_stay_out() -> None:
    code = (
        "import sys; sys.argv = ['workbench', '--help']\n"
        "from workbench import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "print({'torch', 'monai', 'panel', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("set()")

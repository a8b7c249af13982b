"""The kinds of files that are known."""

from __future__ import annotations

import subprocess
import sys


def test_kinds_and_seen_reach_no_torch() -> None:
    code = "import sys, workbench.models.pretrained.kinds; print([m for m in ('torch', 'monai') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

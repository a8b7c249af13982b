"""Make the helpers of this room importable; a runs folder whose schedules do next to nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workbench.schedules import check

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder whose schedules do what `work.sh` says instead of a training, and count in `done`."""
    folder = tmp_path / "runs"
    folder.mkdir()
    script = tmp_path / "work.sh"
    script.write_text("mkdir -p runs/$2; echo $1 $2 >> done")
    monkeypatch.setattr(check, "fingerprint", lambda schedule, _: {"code": (tmp_path / "code").read_text()})
    monkeypatch.setattr(check, "command_of", lambda schedule, _, experiment: ["/bin/sh", str(script), schedule.name, experiment])
    (tmp_path / "code").write_text("1")
    return folder

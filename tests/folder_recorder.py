"""A `Recorder` that is a plain folder: what tests train into."""

from __future__ import annotations

import json
import math
from pathlib import Path


class FolderRecorder:
    """Events, checkpoints and the wish to stop, in one folder.

    Layout: `events.jsonl` (one {"name", "step", "value"} per line, append-only), `checkpoints/`, and a file `cancel` that
    anybody may create to stop the training. A process killed while writing leaves at most one broken line, which readers skip.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._events = self.folder / "events.jsonl"
        self._torn = self._events.exists() and self._events.read_bytes()[-1:] not in (b"\n", b"")

    def scalar(self, name: str, value: float, step: int) -> None:
        """Append one number; NaN and infinities become null."""
        line = json.dumps({"name": name, "step": int(step), "value": float(value) if math.isfinite(value) else None})
        with self._events.open("a", encoding="utf-8") as handle:
            handle.write(("\n" if self._torn else "") + line + "\n")
        self._torn = False

    def checkpoint(self, name: str) -> Path:
        """`<folder>/checkpoints/<name>`, without suffix."""
        return self.folder / "checkpoints" / name

    def should_stop(self) -> bool:
        """Whether a file `cancel` lies in the folder."""
        return (self.folder / "cancel").exists()

    def events(self) -> dict[tuple[str, int], float | None]:
        """The recorded values by (name, step); after a resume the last one counts."""
        values: dict[tuple[str, int], float | None] = {}
        if self._events.exists():
            for line in self._events.read_text(encoding="utf-8").splitlines():
                try:
                    event = json.loads(line)
                    values[event["name"], event["step"]] = event["value"]
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue
        return values

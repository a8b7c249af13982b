"""What makes a machine look after its schedules: a systemd service with its timer, or a line of a crontab; to be copied."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

UNIT = "workbench-schedule"


def tick_command(runs: str | Path) -> list[str]:
    """The command that starts what is due, with absolute paths."""
    return [sys.executable, "-m", "workbench.cli", "schedule", "tick", "--runs", str(Path(runs).resolve())]


def service_unit(runs: str | Path) -> str:
    """The service: one look, then waiting for what was started. While it waits it goes on looking."""
    root = Path(runs).resolve()
    return f"""\
[Unit]
Description=Brain MRI Workbench: what is due of the schedules under {_systemd(str(root), quote=False)}

[Service]
Type=oneshot
WorkingDirectory={_systemd(str(root.parent), quote=False)}
ExecStart={" ".join(_systemd(part) for part in tick_command(root))}
# the command passes the signal on itself, and waits until checkpoints are saved
KillMode=mixed
TimeoutStopSec=90
"""


def timer_unit() -> str:
    """The timer: every minute, as cron. What was missed while the machine was off is the schedule's own matter."""
    return f"""\
[Unit]
Description=Brain MRI Workbench: look for scheduled runs every minute

[Timer]
OnCalendar=*-*-* *:*:00
AccuracySec=1s
Unit={UNIT}.service

[Install]
WantedBy=timers.target
"""


def crontab_line(runs: str | Path) -> str:
    """The line of a crontab: failures go to standard error, and thus into cron's mail."""
    command = " ".join(shlex.quote(part) for part in tick_command(runs))
    return f"* * * * * {command} >/dev/null".replace("%", r"\%")


def _systemd(text: str, quote: bool = True) -> str:
    text = text.replace("%", "%%")
    if not quote:
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"' if any(character in text for character in " \t'\";") else text

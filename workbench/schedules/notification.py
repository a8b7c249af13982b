"""Telling somebody how a scheduled run ended: a command that gets JSON on standard input, or a webhook. Off by default.

A webhook is the one request to another host that a schedule makes, and it goes to the given address only: redirections are not
followed. It is told what ended how, and nothing that stands in a log, where names of cases may be.

A command is run as the user of the scheduler: who may write to the runs folder may have anything run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from typing import IO, Any

from workbench.schedules.schedule import Notification

COMMAND_SECONDS, WEBHOOK_SECONDS = 60.0, 10.0
_TOLD_OUTSIDE = ("schedule", "scheduled", "started", "ended", "outcome", "exit_code", "experiment", "missed")


def wanted(notify: Notification, outcome: str) -> bool:
    """Whether anybody is to be told of this outcome."""
    return bool(notify.command or notify.webhook) and (notify.when == "always" or outcome == "failed")


def tell(notify: Notification, record: Mapping[str, Any]) -> str:
    """Run the command and call the webhook, where they are given.

    Args:
        notify: whom to tell.
        record: a line of the history, with the key `schedule`.

    Returns:
        'sent', or what went wrong; nothing is raised, since the run itself is over.
    """
    problems = []
    if notify.command:
        problems.append(_run(notify.command, json.dumps(record, ensure_ascii=False, default=str).encode()))
    if notify.webhook:
        told = {name: record[name] for name in _TOLD_OUTSIDE if record.get(name) is not None}
        problems.append(_post(notify.webhook, json.dumps(told, ensure_ascii=False, default=str).encode()))
    return "; ".join(filter(None, problems)) or "sent"


def _run(command: str, content: bytes) -> str:
    with tempfile.TemporaryFile() as output:  # no pipe: whatever the command leaves running would keep it open, and us waiting
        try:
            process = subprocess.Popen(
                shlex.split(command), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except (OSError, ValueError) as error:
            return f"command failed: {error}"
        try:
            process.communicate(content, timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it may have become another user
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(1)
            return f"command failed: it did not end within {COMMAND_SECONDS:g} s and was killed"
        output.seek(0)
        last = output.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"command failed: exit status {process.returncode}: {' '.join(last)}" if process.returncode else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        raise urllib.error.HTTPError(req.full_url, code, "it points elsewhere, which is not followed", headers, fp)


def _post(address: str, content: bytes) -> str:
    request = urllib.request.Request(address, data=content, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=WEBHOOK_SECONDS):
            return ""
    except (OSError, ValueError, http.client.HTTPException) as error:  # the address itself may be a secret: it is not repeated
        return f"webhook failed: {error}"

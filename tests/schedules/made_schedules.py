"""Schedules to look at."""

from __future__ import annotations

from datetime import UTC, datetime

from workbench.schedules.schedule import Schedule

MADE = datetime(2026, 1, 1, tzinfo=UTC)


def schedule(name: str = "nightly", **values: object) -> Schedule:
    given = {"cron": "30 2 * * *", "zone": "Europe/Berlin", "sweep": "../nightly.yaml", "created": MADE, "since": MADE}
    if "every" in values:
        del given["cron"]
    return Schedule.model_validate({"name": name, **given, **values})


HOURLY = {"cron": "0 * * * *", "zone": "UTC"}


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)

"""When a schedule is due: cron expressions and intervals, in a time zone, across the nights when the clocks change.

The rule for cron expressions. They speak of the clock on the wall of their zone:

- A time that the clock skips (02:30 in the spring) is due at the moment the clock jumps (03:00), once.
- A time that the clock shows twice (02:30 in the autumn) is due the first time only.
- An expression whose hour is `*` means every hour that passes: it skips no hour that is there and invents none, so that it is due
  in both passes of a repeated hour and not at the jump.

Day of month and day of week, where both are restricted, are alternatives, as in every cron: `0 3 1 * mon` is due on the first
of the month and on Mondays. Intervals are time that has passed, counted from when the schedule was made: `1d` is 24 hours.

APScheduler's `CronTrigger` finds the dates. It is asked in UTC, with readings of the wall clock, and never about a zone: there it
makes a time that is skipped an hour late, and one that is shown twice due twice. Days of the week go to it by name, since its
numbers start on Monday and cron's on Sunday.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from workbench.errors import ParameterError

EXAMPLE = "'30 2 * * 1-5' is 02:30 from Monday to Friday"
MINUTE = timedelta(minutes=1)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS: tuple[tuple[str, str, int, int], ...] = (
    ("minute", "minute", 0, 59),
    ("hour", "hour", 0, 23),
    ("day", "day of month", 1, 31),
    ("month", "month", 1, 12),
    ("day_of_week", "day of week", 0, 7),
)
"""CronTrigger's name, cron's name, smallest and largest value; Sunday is 0 and 7."""
_NAMES = {"month": dict(zip(_MONTHS, range(1, 13), strict=True)), "day of week": dict(zip(_DAYS, range(7), strict=True))}
_NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_UNITS = {"m": MINUTE, "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_FOLD = timedelta(hours=3)
"""Longer than any zone turns its clock back."""
_MANY, _RECENT = 5_000, timedelta(days=1)


@dataclass(frozen=True)
class Timing:
    """When something is due.

    Attributes:
        cron: expression of five fields; empty where `every` is given.
        every: interval such as "6h"; empty where `cron` is given.
        zone: IANA name of the time zone whose clock `cron` means.
        anchor: moment from which intervals are counted, a whole minute; the first is due one interval later.
    """

    cron: str
    every: str
    zone: str
    anchor: datetime

    def __post_init__(self) -> None:
        if bool(self.cron) == bool(self.every):
            raise ParameterError(
                f"a schedule needs a cron expression or an interval, one of the two; {EXAMPLE}, '6h' an interval"
            )
        check_zone(self.zone)
        if self.cron:
            check_cron(self.cron)
        else:
            parse_interval(self.every)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time that is due after `moment`, UTC; None where no year has such a date."""
        moment = moment.astimezone(UTC)
        return self._next_cron(moment) if self.cron else self._next_interval(moment)

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """All times due after `after` and not after `until`, UTC, strictly increasing.

        Of more than 5,000 those in the middle are left out: the last day's are always there.
        """
        found = _first(self._walk(after, until), _MANY)
        if len(found) == _MANY:
            found += _first(self._walk(max(found[-1], until - _RECENT), until), _MANY)
        return found

    def _walk(self, after: datetime, until: datetime) -> Iterator[datetime]:
        moment = self.next_after(after)
        while moment is not None and moment <= until:
            yield moment
            moment = self.next_after(moment)

    def _next_interval(self, moment: datetime) -> datetime:
        length = parse_interval(self.every)
        return self.anchor.astimezone(UTC) + length * (max(0, (moment - self.anchor) // length) + 1)

    @cached_property
    def _hourly(self) -> bool:
        return _expand(self.cron).split()[1] == "*"

    def _next_cron(self, moment: datetime) -> datetime | None:
        zone = ZoneInfo(self.zone)
        # readings of the clock that come back after `moment`, where it will be turned back soon
        back = max(timedelta(0), _offset(moment, zone) - _offset(moment + _FOLD, zone))
        reading: datetime | None = moment.astimezone(zone).replace(tzinfo=UTC, fold=0) - back
        second: datetime | None = None
        while reading is not None and (reading := _next_reading(self.cron, reading)) is not None:
            moments = self._moments(reading, zone)
            later = [found for found in moments[1:] if found > moment]
            second = min([second, *later]) if second else next(iter(later), None)
            if moments and moments[0] > moment:
                return min(moments[0], second) if second else moments[0]
        return second

    def _moments(self, reading: datetime, zone: ZoneInfo) -> list[datetime]:
        """The moments, UTC, at which a reading of the wall clock is due; see the rule above."""
        plain = reading.replace(tzinfo=None)
        early, late = (plain.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if late < early:  # the clock skips this reading: PEP 495 puts the two on both sides of the jump
            return [] if self._hourly else [_jump(late, early, zone)]
        return [early, late] if self._hourly and early != late else [early]


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first whole minute with the offset that the zone has at `after`."""
    offset = _offset(after, zone)
    low, high = 0, int((after - before) / MINUTE)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(before + middle * MINUTE, zone) == offset else (middle, high)
    return before + high * MINUTE


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _first(times: Iterator[datetime], most: int) -> list[datetime]:
    return [moment for moment, _ in zip(times, range(most), strict=False)]


# -- cron --------------------------------------------------------------------------------------------------------------


def check_cron(expression: str) -> None:
    """Check a cron expression.

    Raises:
        ParameterError: it is none; the message names the field, what it may hold, and an example.
    """
    _triggers(expression)
    if _next_reading(expression, datetime(2026, 1, 1, tzinfo=UTC)) is None:
        raise ParameterError(f"cron '{expression}': no year has such a date; {EXAMPLE}")


def _next_reading(expression: str, after: datetime) -> datetime | None:
    found = (trigger.get_next_fire_time(None, after + timedelta(microseconds=1)) for trigger in _triggers(expression))
    return min((reading for reading in found if reading is not None), default=None)


@lru_cache(maxsize=256)
def _triggers(expression: str) -> tuple[CronTrigger, ...]:
    """One trigger, or two where day of month and day of week are alternatives."""
    texts = _expand(expression).split()
    if len(texts) != len(_FIELDS):
        raise ParameterError(
            f"cron '{expression}' has {len(texts)} fields, expected 5: minute, hour, day of month, month, day of week; {EXAMPLE}"
        )
    values: dict[str, set[Any]] = {
        key: _numbers(text, title, low, high, expression) for text, (key, title, low, high) in zip(texts, _FIELDS, strict=True)
    }
    values["day_of_week"] = {_DAYS[int(number) % 7] for number in values["day_of_week"]}
    counts = {key: 7 if key == "day_of_week" else high - low + 1 for key, _, low, high in _FIELDS}
    fields = {key: "*" if len(found) == counts[key] else ",".join(map(str, sorted(found))) for key, found in values.items()}
    if texts[2].startswith("*") or texts[4].startswith("*"):
        return (CronTrigger(second=0, timezone=UTC, **fields),)
    return tuple(CronTrigger(second=0, timezone=UTC, **{**fields, free: "*"}) for free in ("day", "day_of_week"))


def _expand(expression: str) -> str:
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in _NICKNAMES:
            raise ParameterError(f"cron '{expression}' is unknown; there are {', '.join(_NICKNAMES)}, and five fields: {EXAMPLE}")
        return _NICKNAMES[text.lower()]
    return text


def _numbers(text: str, title: str, low: int, high: int, expression: str) -> set[int]:
    """All values that one field allows."""

    def refuse(part: str, why: str) -> ParameterError:
        names = f" or {', '.join(_NAMES[title])}" if title in _NAMES else ""
        place = "" if part == text else f" in '{text}'"
        return ParameterError(
            f"cron '{expression}': {title} '{part}'{place} {why}; {title} may be {low} to {high}{names}, *, a-b, */n or a list "
            f"with commas; {EXAMPLE}"
        )

    def number(part: str, word: str) -> int:
        value = _NAMES.get(title, {}).get(word.lower(), int(word) if re.fullmatch("[0-9]+", word) else None)
        if value is None:
            raise refuse(part, "is not understood")
        if not low <= value <= high:
            raise refuse(part, "is out of range")
        return value

    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", part, re.ASCII)
        if not match:
            raise refuse(part, "is not understood")
        step = int(match["step"]) if match["step"] else 1
        if step < 1:
            raise refuse(part, "has a step of 0")
        if match["step"] and match["first"] and not match["last"]:
            raise refuse(part, "has a step without a range")
        first = low if match["all"] else number(part, match["first"])
        last = high if match["all"] else number(part, match["last"]) if match["last"] else first
        if title == "day of week" and match["last"] and last == 0:  # fri-sun
            last = 7
        if last < first:
            raise refuse(part, "runs backwards")
        numbers |= set(range(first, last + 1, step))
    return numbers


# -- intervals and zones -----------------------------------------------------------------------------------------------


def parse_interval(text: str) -> timedelta:
    """An interval such as "30m", "6h", "1d", "2w" or "1h30m".

    Raises:
        ParameterError: it is none, or shorter than a minute or longer than a year.
    """
    compact = text.replace(" ", "").lower()
    if not re.fullmatch(r"([0-9]{1,6}[mhdw])+", compact):
        raise ParameterError(f"interval '{text}' is not understood: give a number with m, h, d or w, e.g. 30m, 6h, 1d, 1h30m")
    length = sum((int(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)([mhdw])", compact)), timedelta(0))
    if not MINUTE <= length <= timedelta(days=366):
        raise ParameterError(f"interval '{text}' is out of range: from 1m to 366d, e.g. 30m, 6h, 1d")
    return length


def check_zone(name: str) -> None:
    """Check the IANA name of a time zone.

    Raises:
        ParameterError: there is none of this name; the message lists those that are near.
    """
    if not name.startswith(("posix", "right/", "localtime")):  # files beside the zones, which name none
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            ZoneInfo(name)
            return
    known = zoneinfo.available_timezones()
    lower = {zone.lower(): zone for zone in known}
    place = name.lower().replace(" ", "_").rpartition("/")[2]
    near = [lower[name.lower()]] if name.lower() in lower else []
    near = near or sorted(zone for zone in known if zone.lower().rpartition("/")[2] == place)
    near = near or [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)]
    hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "names are like Europe/Berlin or UTC"
    raise ParameterError(f"time zone '{name}' is unknown: {hint}")


def local_zone() -> str:
    """The IANA name of this machine's time zone.

    Raises:
        ParameterError: it cannot be told.
    """
    from tzlocal import get_localzone_name

    try:
        name = get_localzone_name()
        check_zone(name)
    except (ParameterError, zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParameterError(
            "the name of this machine's time zone cannot be told: give one, e.g. --zone Europe/Berlin"
        ) from error
    return str(name)

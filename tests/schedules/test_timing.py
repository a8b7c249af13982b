"""When something is due: clocks that change, the dialect of cron, intervals and zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench.errors import ParameterError
from workbench.schedules.timing import Timing, check_cron, check_zone, local_zone, parse_interval

MADE = datetime(2026, 1, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def timing(cron: str = "", every: str = "", zone: str = "UTC") -> Timing:
    return Timing(cron, every, zone, MADE)


def times(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next times, on the clock of the zone."""
    found, at = [], moment(after)
    for _ in range(count):
        at = timing(cron, zone=zone).next_after(at)
        found.append(at.astimezone(ZoneInfo(zone)).isoformat())
    return found


# -- clocks that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "before", "due_at"),
    [
        ("Europe/Berlin", "2026-03-28T12:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("Europe/Berlin", "2027-03-27T12:00+01:00", "2027-03-28T03:00:00+02:00"),
        ("America/New_York", "2026-03-07T12:00-05:00", "2026-03-08T03:00:00-04:00"),
        ("UTC", "2026-03-28T12:00+00:00", "2026-03-29T02:30:00+00:00"),
        ("Asia/Kolkata", "2026-03-28T12:00+05:30", "2026-03-29T02:30:00+05:30"),
    ],
)
def test_a_time_that_the_clock_skips_is_due_at_the_jump_once(zone: str, before: str, due_at: str) -> None:
    first, second = times("30 2 * * *", zone, before, 2)
    assert first == due_at
    assert datetime.fromisoformat(second).strftime("%H:%M") == "02:30"
    assert datetime.fromisoformat(second).date() - datetime.fromisoformat(first).date() == timedelta(days=1)


def test_midnight_that_does_not_exist() -> None:
    assert times("0 0 * * *", "America/Santiago", "2026-09-05T12:00-04:00", 1) == ["2026-09-06T01:00:00-03:00"]


@pytest.mark.parametrize(
    ("zone", "before", "expected"),
    [
        ("Europe/Berlin", "2026-10-24T12:00+02:00", ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("Europe/Berlin", "2027-10-30T12:00+02:00", ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]),
        ("Australia/Sydney", "2026-04-04T12:00+11:00", ["2026-04-05T02:30:00+11:00", "2026-04-06T02:30:00+10:00"]),
        ("UTC", "2026-10-24T12:00+00:00", ["2026-10-25T02:30:00+00:00", "2026-10-26T02:30:00+00:00"]),
    ],
)
def test_a_time_that_the_clock_shows_twice_is_due_once(zone: str, before: str, expected: list[str]) -> None:
    assert times("30 2 * * *", zone, before, 2) == expected


def test_it_is_not_due_again_for_one_who_asks_between_the_two() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T02:45+02:00", 1) == ["2026-10-26T02:30:00+01:00"]
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+01:00", 1) == ["2026-10-26T02:30:00+01:00"]


def test_every_hour_is_every_hour_that_passes() -> None:
    autumn = times("30 * * * *", "Europe/Berlin", "2026-10-25T01:40+02:00", 3)
    assert autumn == ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]
    assert times("30 * * * *", "Europe/Berlin", "2026-10-25T02:45+02:00", 1) == ["2026-10-25T02:30:00+01:00"]
    spring = times("15 * * * *", "Europe/Berlin", "2026-03-29T01:00+01:00", 3)
    assert spring == ["2026-03-29T01:15:00+01:00", "2026-03-29T03:15:00+02:00", "2026-03-29T04:15:00+02:00"]


def test_two_times_in_one_gap_are_one() -> None:
    found = times("10,50 2,3 * * *", "Europe/Berlin", "2026-03-29T01:00+01:00", 3)
    assert found == ["2026-03-29T03:00:00+02:00", "2026-03-29T03:10:00+02:00", "2026-03-29T03:50:00+02:00"]


ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "UTC",
)
CHANGES = (
    "2026-03-08",
    "2026-03-29",
    "2026-04-05",
    "2026-09-06",
    "2026-10-25",
    "2026-11-01",
    "2027-03-14",
    "2027-10-31",
    "2026-02-15",
)


def expected_times(minutes: set[int], hours: set[int] | None, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The rule, minute by minute: slow, and without a word of the code under test."""
    info, found = ZoneInfo(zone), []
    at = start + timedelta(minutes=1)
    while at <= end:
        here, before = at.astimezone(info), (at - timedelta(minutes=1)).astimezone(info)
        fits = here.minute in minutes and (hours is None or here.hour in hours)
        if fits and (hours is None or here.fold == 0):
            found.append(at)
        elif hours is not None:
            reading, skipped = before.replace(tzinfo=None) + timedelta(minutes=1), False
            while reading < here.replace(tzinfo=None):
                skipped = skipped or (reading.minute in minutes and reading.hour in hours)
                reading += timedelta(minutes=1)
            if skipped:
                found.append(at)
        at += timedelta(minutes=1)
    return found


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.none() | st.sets(st.integers(0, 23), min_size=1, max_size=5) | st.sets(st.integers(0, 4), min_size=1, max_size=3),
    zone=st.sampled_from(ZONES),
    day=st.sampled_from(CHANGES),
)
@example({30}, {2}, "Europe/Berlin", "2026-03-29")
@example({0, 45}, None, "Australia/Lord_Howe", "2026-04-05")
def test_occurrences_follow_the_rule_and_only_go_forward(minutes: set[int], hours: set[int] | None, zone: str, day: str) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=14)
    end = start + timedelta(hours=42)
    cron = f"{','.join(map(str, minutes))} {'*' if hours is None else ','.join(map(str, hours))} * * *"
    found = timing(cron, zone=zone).between(start, end)
    assert all(early < late for early, late in pairwise(found))
    assert found == expected_times(minutes, hours, zone, start, end)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 4000), st.datetimes(datetime(2025, 12, 1), datetime(2028, 1, 1)))
def test_intervals_are_time_that_passes(minutes: int, after: datetime) -> None:
    length, after = timedelta(minutes=minutes), after.replace(tzinfo=UTC)
    found = timing(every=f"{minutes}m", zone="Europe/Berlin").next_after(after)
    assert found is not None
    assert found > after
    assert (found - MADE) % length == timedelta(0)
    assert found >= MADE + length
    assert found - after <= length or found == MADE + length


# -- the dialect of cron -----------------------------------------------------------------------------------------------


def test_sunday_is_0_and_7_and_monday_is_1() -> None:
    for text, name in (("0", "Sun"), ("7", "Sun"), ("sun", "Sun"), ("1", "Mon"), ("6", "Sat"), ("SAT", "Sat")):
        assert datetime.fromisoformat(times(f"0 3 * * {text}", "UTC", "2026-11-18T00:00+00:00", 1)[0]).strftime("%a") == name
    weekend = [datetime.fromisoformat(at).strftime("%a") for at in times("0 3 * * fri-sun", "UTC", "2026-11-18T00:00+00:00", 4)]
    assert weekend == ["Fri", "Sat", "Sun", "Fri"]


def test_day_of_month_and_day_of_week_are_alternatives() -> None:
    found = [at[:10] for at in times("0 3 1 * mon", "UTC", "2026-09-25T00:00+00:00", 3)]
    assert found == ["2026-09-28", "2026-10-01", "2026-10-05"]
    both = [at[:10] for at in times("0 3 */2 * mon", "UTC", "2026-09-25T00:00+00:00", 2)]
    assert both == ["2026-10-05", "2026-10-19"], "a field that begins with * restricts, as in every cron"


def test_steps_names_and_nicknames() -> None:
    assert [at[11:16] for at in times("*/20 9-17/4 * * *", "UTC", "2026-01-01T09:30+00:00", 3)] == ["09:40", "13:00", "13:20"]
    assert times("0 0 29 feb *", "UTC", "2026-01-01T00:00+00:00", 1) == ["2028-02-29T00:00:00+00:00"]
    assert times("@weekly", "UTC", "2026-11-18T00:00+00:00", 1) == ["2026-11-22T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("30 25 * * *", ["hour '25'", "0 to 23", "30 2 * * 1-5"]),
        ("61 2 * * *", ["minute '61'", "0 to 59"]),
        ("30 2 0 * *", ["day of month '0'", "1 to 31"]),
        ("30 2 * 13 *", ["month '13'", "1 to 12", "jan"]),
        ("30 2 * * mun", ["day of week 'mun'", "0 to 7", "mon"]),
        ("30 2 * *", ["4 fields", "expected 5", "day of week"]),
        ("", ["one of the two"]),
        ("30 2 * * * *", ["6 fields"]),
        ("*/0 * * * *", ["minute '*/0'", "step of 0"]),
        ("5/10 * * * *", ["minute '5/10'", "without a range"]),
        ("0 17-9 * * *", ["hour '17-9'", "backwards"]),
        ("1,x,3 * * * *", ["minute 'x' in '1,x,3'"]),
        ("30 2 31 feb *", ["no year"]),
        ("@reboot", ["@daily"]),
    ],
)
def test_a_typo_in_a_cron_line_is_named(cron: str, words: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        timing(cron)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("text", ["0h", "0", "6", "", "-1h", "6x", "30s", "400d", "1.5h"])
def test_intervals_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="30m, 6h, 1d"):
        parse_interval(text)


def test_intervals() -> None:
    assert parse_interval("1h30m") == timedelta(minutes=90)
    assert parse_interval("2W") == timedelta(days=14)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("Mars/Olympus", "names are like"),
        ("", "names are like"),
        ("../../etc/passwd", "names are like"),
        ("right/UTC", "UTC"),
    ],
)
def test_an_unknown_zone_names_its_neighbours(name: str, near: str) -> None:
    with pytest.raises(ParameterError, match="is unknown") as caught:
        check_zone(name)
    assert near in str(caught.value)


def test_the_local_zone_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    check_zone(local_zone())
    monkeypatch.setattr("tzlocal.get_localzone_name", lambda: "local")
    with pytest.raises(ParameterError, match="--zone"):
        local_zone()


def test_a_year_of_minutes_is_listed_in_seconds_and_ends_today() -> None:
    found = timing("* * * * *").between(MADE, MADE + timedelta(days=365))
    assert len(found) < 7000
    assert found[0] == MADE + timedelta(minutes=1)
    assert found[-1] == MADE + timedelta(days=365)
    assert found == sorted(set(found))


def test_the_impossible_date_is_refused_in_a_moment() -> None:
    with pytest.raises(ParameterError, match="no year has such a date"):
        check_cron("0 0 30 2 *")

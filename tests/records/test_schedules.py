"""When schedules are due, what their documents and histories hold, and that nothing is taken twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench.errors import ParameterError, RunError
from workbench.records import occurrences
from workbench.records.occurrences import Due, append_history, claim, due, locked, prune_claims, read_claims, read_history
from workbench.records.schedules import (
    Notification,
    Schedule,
    list_schedules,
    path_of,
    pause,
    read_schedule,
    remove,
    resume,
    write_schedule,
)
from workbench.records.timing import Timing, check_cron, check_zone, local_zone, parse_interval

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


def schedule(name: str = "nightly", **values: object) -> Schedule:
    given = {"cron": "30 2 * * *", "zone": "Europe/Berlin", "sweep": "../nightly.yaml", "created": MADE, "since": MADE}
    if "every" in values:
        del given["cron"]
    return Schedule.model_validate({"name": name, **given, **values})


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


# -- what is due -------------------------------------------------------------------------------------------------------

HOURLY = {"cron": "0 * * * *", "zone": "UTC"}


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def test_nothing_is_due_before_its_time_and_once_at_it() -> None:
    asked = schedule(**HOURLY)
    assert due(asked, [], at(0, 59)) == Due()
    assert due(asked, [], at(1)) == Due((at(1),))
    assert due(asked, [at(1)], at(1, 30)) == Due()
    assert due(asked, [at(1)], at(2, 1)) == Due((at(2),))


@pytest.mark.parametrize(
    ("policy", "run", "missed"),
    [("skip", (), (2, 3, 4)), ("one", (4,), (2, 3)), ("all", (2, 3, 4), ())],
)
def test_catch_up(policy: str, run: tuple[int, ...], missed: tuple[int, ...]) -> None:
    found = due(schedule(**HOURLY, catch_up=policy), [at(1)], at(4, 30))
    assert found == Due(tuple(at(hour) for hour in run), tuple(at(hour) for hour in missed))


def test_grace_says_what_is_missed() -> None:
    assert due(schedule(**HOURLY, catch_up="skip"), [at(3)], at(4, 10)) == Due((at(4),))
    assert due(schedule(**HOURLY, catch_up="skip"), [at(3)], at(4, 11)) == Due((), (at(4),))
    assert due(schedule(**HOURLY, catch_up="skip", grace="30m"), [at(2)], at(4, 11)) == Due((at(4),), (at(3),))


def test_all_has_an_end() -> None:
    found = due(schedule(cron="* * * * *", zone="UTC", catch_up="all"), [], at(5))
    assert len(found.run) == 100
    assert found.run[-1] == at(5)
    assert len(found.missed) == 200


def test_paused_is_never_due() -> None:
    assert due(schedule(**HOURLY, paused=True), [], at(9)) == Due()


@pytest.mark.parametrize("policy", ["skip", "one", "all"])
def test_a_clock_that_jumps_back_runs_nothing_twice(policy: str) -> None:
    asked, done = schedule(**HOURLY, catch_up=policy, grace="1d"), [at(hour) for hour in range(1, 10)]
    for now in (at(0, 30), at(1), at(7, 30), at(8), at(9), at(9, 59)):
        assert due(asked, done, now) == Due()
    assert due(asked, done, at(10)).run == (at(10),)


def test_what_a_clock_ahead_did_does_not_hold_up_what_comes() -> None:
    future = datetime(2099, 1, 1, tzinfo=UTC)  # ran there, then the clock was put right
    assert due(schedule(**HOURLY), [at(1), future], at(2)) == Due((at(2),))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=25), st.sampled_from(["skip", "one", "all"]))
def test_whatever_the_clock_does_no_time_is_taken_twice(minutes: list[int], policy: str) -> None:
    asked, taken = schedule(cron="*/15 * * * *", zone="Europe/Berlin", catch_up=policy), []
    for minute in minutes:
        now = MADE + timedelta(minutes=minute)
        found = due(asked, taken, now)
        assert not set(found.run) & set(taken)
        assert all(run <= now for run in (*found.run, *found.missed))
        assert not set(found.run) & set(found.missed)
        taken += found.run


# -- documents ---------------------------------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was(tmp_path: Path) -> None:
    asked = schedule(notify=Notification(command="mail -s nightly me", when="always"), timeout=90)
    write_schedule(tmp_path, asked)
    assert read_schedule(tmp_path, "nightly") == asked
    assert [row.name for row in list_schedules(tmp_path)] == ["nightly"]
    assert str(tmp_path) not in path_of(tmp_path, "nightly").read_text()


def test_the_same_name_twice(tmp_path: Path) -> None:
    write_schedule(tmp_path, schedule())
    for name in ("nightly", "NIGHTLY"):
        with pytest.raises(ParameterError, match="schedule 'nightly' already"):
            write_schedule(tmp_path, schedule(name))
    with pytest.raises(ParameterError, match="already"):
        write_schedule(tmp_path, schedule("Nightly"), replace=True)
    write_schedule(tmp_path, schedule(cron="0 5 * * *"), replace=True)
    assert read_schedule(tmp_path, "nightly").cron == "0 5 * * *"


@pytest.mark.parametrize("name", ["", "..", "../x", "a b", "a/b", ".hidden", "-x", "x" * 65, "näht", "a\n", "a\0"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="schedule name"):
        write_schedule(tmp_path, schedule(name))
    with pytest.raises(ParameterError, match="schedule name"):
        read_schedule(tmp_path, name)
    with pytest.raises(ParameterError, match="schedule name"):
        remove(tmp_path, name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sweep": ""}, "one of the two"),
        ({"method": "unet"}, "one of the two"),
        ({"cohort": "../c"}, "names its own cohort"),
        ({"every": "6h", "cron": "0 * * * *"}, "one of the two"),
        ({"grace": "soon"}, "'soon'"),
        ({"zone": "Berlin"}, "Europe/Berlin"),
        ({"notify": {"webhook": "file:///etc/passwd"}}, "no http or https address"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_not_stored(tmp_path: Path, values: dict, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        write_schedule(tmp_path, schedule(**values))
    assert list_schedules(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:40], "cannot be read as JSON"),
        (lambda text: "[]", "does not describe a schedule"),
        (lambda text: text.replace('"cron"', '"crn"'), "crn"),
        (lambda text: text.replace("30 2 * * *", "30 26 * * *"), "hour '26'"),
        (lambda text: text.replace('"nightly"', '"weekly"'), "holds the schedule 'weekly'"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "newer than this workbench"),
        (lambda text: text.replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"), "created"),
    ],
)
def test_a_damaged_document_is_named_and_hides_nothing(tmp_path: Path, damage, words: str) -> None:
    write_schedule(tmp_path, schedule())
    write_schedule(tmp_path, schedule("other"))
    path = path_of(tmp_path, "nightly")
    path.write_text(damage(path.read_text()))
    bad, good = list_schedules(tmp_path)
    assert bad.schedule is None
    assert words in bad.problem
    assert str(path) in bad.problem
    assert good.schedule is not None
    remove(tmp_path, "nightly")
    assert [row.name for row in list_schedules(tmp_path)] == ["other"]


def test_pause_and_resume_do_not_catch_up_on_the_pause(tmp_path: Path) -> None:
    write_schedule(tmp_path, schedule(**HOURLY))
    assert pause(tmp_path, "nightly").paused
    back = resume(tmp_path, "nightly", at(9, 30))
    assert due(back, [], at(9, 59)) == Due()
    assert due(read_schedule(tmp_path, "nightly"), [], at(10)) == Due((at(10),))
    assert resume(tmp_path, "nightly", at(23)) == back, "resuming what is not paused changes nothing"


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    write_schedule(tmp_path, schedule())
    for act in (read_schedule, pause, resume, remove):
        with pytest.raises(ParameterError, match="there are: nightly"):
            act(tmp_path, "weekly")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "runs"
    blocked.write_text("a file where the folder should be")  # also stops root, whom permissions do not
    with pytest.raises(RunError, match="cannot be written"):
        write_schedule(blocked, schedule())
    with pytest.raises(RunError, match="need a folder to write to"), locked(blocked):
        pass


# -- history and claims ------------------------------------------------------------------------------------------------


def test_history_is_appended_to_and_later_lines_add(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    append_history(tmp_path, "n", {"scheduled": at(2).isoformat(), "outcome": "failed", "why": "x"})
    append_history(tmp_path, "n", {"scheduled": at(1).isoformat(), "outcome": "completed"})
    append_history(tmp_path, "n", {"scheduled": "2026-01-01T03:00:00+01:00", "notification": "sent"})
    found = read_history(tmp_path, "n")
    assert [record["outcome"] for record in found] == ["completed", "failed"]
    assert found[1]["notification"] == "sent"
    assert found[1]["why"] == "x"


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    append_history(tmp_path, "n", {"scheduled": at(1).isoformat(), "outcome": "completed"})
    with occurrences.history_path(tmp_path, "n").open("a") as handle:
        handle.write('{"scheduled": "2026-01-0')
    append_history(tmp_path, "n", {"scheduled": at(2).isoformat(), "outcome": "failed"})
    append_history(tmp_path, "n", {"outcome": "of no time"})
    append_history(tmp_path, "n", {"scheduled": "2026-01-01T03:00:00", "outcome": "of no zone"})
    assert [record["outcome"] for record in read_history(tmp_path, "n")] == ["completed", "failed"]


def test_a_long_history_is_read_from_its_end(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    lines = [json.dumps({"scheduled": (MADE + timedelta(minutes=n)).isoformat(), "why": "x" * 300}) for n in range(4000)]
    occurrences.history_path(tmp_path, "n").write_text("\n".join(lines) + "\n")
    recent = read_history(tmp_path, "n")
    assert 500 < len(recent) < 4000
    assert recent[-1]["scheduled"] == (MADE + timedelta(minutes=3999)).isoformat()
    assert len(read_history(tmp_path, "n", all_of_it=True)) == 4000


def take(runs: Path, names: list[str], barrier, taken) -> None:
    barrier.wait()
    for name in names:
        for hour in range(1, 6):
            if claim(runs, name, at(hour)):
                taken.put((name, hour))


@pytest.mark.parametrize("links", [True, False])
def test_many_processes_take_each_time_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:  # a file system without hard links

        def refuse(*_: object) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", refuse)
    context = multiprocessing.get_context("fork")
    barrier, taken = context.Barrier(6), context.Queue()
    workers = [context.Process(target=take, args=(tmp_path, ["a", "b"], barrier, taken)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    found = sorted(taken.get(timeout=5) for _ in range(10))
    assert found == [(name, hour) for name in "ab" for hour in range(1, 6)]
    assert taken.empty()


def test_a_claim_lives_with_its_processes(tmp_path: Path) -> None:
    mine = claim(tmp_path, "n", at(1))
    assert mine is not None
    assert claim(tmp_path, "n", at(1)) is None
    (found,) = read_claims(tmp_path, "n")
    assert found.alive
    assert found.scheduled == at(1)
    gone = json.loads(found.path.read_text()) | {"pid": 2**22 + 1}
    found.path.write_text(json.dumps(gone))
    assert not read_claims(tmp_path, "n")[0].alive
    read_claims(tmp_path, "n")[0].started(os.getpid(), "x.log")  # the work goes on without the one that started it
    assert read_claims(tmp_path, "n")[0].alive


def test_a_claim_of_another_machine_lives_while_it_is_touched(tmp_path: Path) -> None:
    mine = claim(tmp_path, "n", at(1))
    assert mine is not None
    mine.path.write_text(json.dumps(mine.document | {"host": "elsewhere"}))
    assert read_claims(tmp_path, "n")[0].alive
    os.utime(mine.path, (1, 1))
    assert not read_claims(tmp_path, "n")[0].alive
    assert len(list(mine.path.parent.iterdir())) == 1, "nothing is left of the probe"


def test_an_unreadable_claim_is_a_claim(tmp_path: Path) -> None:
    mine = claim(tmp_path, "n", at(1))
    assert mine is not None
    mine.path.write_text("")
    assert [known.scheduled for known in read_claims(tmp_path, "n")] == [at(1)]


def test_old_claims_go_recent_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "_KEPT_CLAIMS", 3)
    for hour in range(5):
        claim(tmp_path, "n", at(hour))
    prune_claims(read_claims(tmp_path, "n"), MADE + timedelta(days=5))
    assert len(read_claims(tmp_path, "n")) == 5
    prune_claims(read_claims(tmp_path, "n"), MADE + timedelta(days=60))
    assert [known.scheduled for known in read_claims(tmp_path, "n")] == [at(hour) for hour in (2, 3, 4)]


def test_the_impossible_date_is_refused_in_a_moment() -> None:
    with pytest.raises(ParameterError, match="no year has such a date"):
        check_cron("0 0 30 2 *")

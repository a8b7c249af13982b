"""What is due of a schedule, what its history says, and that nothing is taken twice."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_schedules import HOURLY, MADE, at, schedule

from workbench.schedules import occurrences
from workbench.schedules.occurrences import Due, append_history, claim, due, locked, prune_claims, read_claims, read_history


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
    read_claims(tmp_path, "n")[0].noted(job_pid=os.getpid())  # the work goes on without the one that started it
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
    for text in ("", "[]", '{"host": 5}', '{"log": null}', '{"pid": -1}', '{"job_pid": "x"}'):
        mine.path.write_text(text)
        assert [(known.scheduled, known.document) for known in read_claims(tmp_path, "n")] == [(at(1), {})]


def test_old_claims_go_recent_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occurrences, "_KEPT_CLAIMS", 3)
    for hour in range(5):
        claim(tmp_path, "n", at(hour))
    claims = read_claims(tmp_path, "n")
    prune_claims(claims, claims[:1])
    assert [known.scheduled for known in read_claims(tmp_path, "n")] == [at(hour) for hour in (0, 2, 3, 4)], "0 is at work"

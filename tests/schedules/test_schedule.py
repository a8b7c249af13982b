"""Documents of schedules: written, read, paused, removed, and named where they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_schedules import HOURLY, at, schedule

from workbench.errors import ParameterError, RunError
from workbench.schedules.occurrences import Due, due, locked
from workbench.schedules.schedule import (
    Notification,
    list_schedules,
    path_of,
    pause,
    read_schedule,
    remove,
    resume,
    write_schedule,
)


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

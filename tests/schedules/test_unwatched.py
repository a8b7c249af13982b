"""What became of scheduled work that nobody watched to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from schedules_at_work import add, done, leave, make_run, outcomes, tick

from workbench.records.run_folder import RunFolder
from workbench.records.sweep_plan import SweepPlan, write_plan
from workbench.schedules.occurrences import read_history
from workbench.schedules.unwatched import known_history


def test_a_killed_scheduler_is_noticed_by_the_next(runs: Path) -> None:
    add(runs)
    leave(runs)
    assert not tick(runs, 62)
    (record,) = read_history(runs, "n")
    assert record["outcome"] == "failed"
    assert "was killed before this was started" in record["why"]
    assert done(runs) == []
    assert tick(runs, 121)
    assert outcomes(runs) == ["failed", "completed"]


@pytest.mark.parametrize(
    ("states", "facts", "why"),
    [
        (["completed"], {"method": "unet"}, ""),
        (["completed", "failed"], {"method": "unet"}, "1 of 2 runs completed, x/1 is failed"),
        ([], {"method": "unet"}, "it left no run"),
        (["completed"], {"method": "mts_unet"}, "it left no run"),
        (["completed"], {"method": "unet", "at": "3000-01-01T00:00:00+00:00"}, "it left no run"),
        (["completed", "completed"], {"method": "unet", "all_folds": True}, "the folds are not pooled"),
        (["completed", "pooled"], {"method": "unet", "all_folds": True}, ""),
        (["completed", "completed"], {"method": ""}, ""),
        (["completed"], {"method": ""}, "1 of 2 runs completed, x/1 is missing"),
        (["completed", "interrupted"], {"method": ""}, "1 of 2 runs completed, x/1 is interrupted"),
    ],
)
def test_what_nobody_saw_end_is_known_from_its_runs(runs: Path, states: list[str], facts: dict[str, Any], why: str) -> None:
    add(runs)
    leave(runs, experiment="x", fingerprint={"code": "1"}, **facts)
    for number, state in enumerate(states):
        pooled = {"derived": {"kind": "pooled", "parents": ["0"]}} if state == "pooled" else {}
        make_run(runs / "x" / str(number), "completed" if pooled else state, **pooled)
    if not facts["method"]:
        cells = [
            {"run": f"x/{n}", "method": "unet", "condition": "baseline", "fold": n, "seed": 0, "parameters": {}} for n in (0, 1)
        ]
        cohort = {"name": "c", "path": "../c", "fingerprint": "f"}
        write_plan(runs, SweepPlan(name="s-x", file="../s.yaml", experiment="x", cohort=cohort, cells=cells))
        others = [cell | {"run": f"y/{cell['fold']}"} for cell in cells]
        write_plan(runs, SweepPlan(name="s-y", file="../s.yaml", experiment="y", cohort=cohort, cells=others))
        (runs / ".sweeps" / "damaged.json").write_text("{")
    seen, _ = known_history(runs, "n")
    assert read_history(runs, "n") == [], "who only asks writes nothing"
    assert tick(runs, 62) is not bool(why)
    (record,) = read_history(runs, "n")
    assert [record] == [{**seen[0], "ended": record["ended"]}]
    assert record["outcome"] == ("failed" if why else "completed")
    assert why in record["why"]
    assert why or record["ended"].startswith("2999")
    (runs.parent / "done").unlink(missing_ok=True)
    tick(runs, 121)
    assert done(runs) == (["n x"] if why else []), "resumed where it was left, or nothing to be done"


def test_a_run_that_outlived_its_scheduler_and_its_command_is_waited_for(runs: Path) -> None:
    add(runs)
    leave(runs, experiment="x", method="unet")
    make_run(runs / "x" / "0", "running")
    assert [claim.scheduled.hour for claim in known_history(runs, "n")[1]] == [13]
    assert tick(runs, 62)
    assert read_history(runs, "n") == []
    RunFolder.open(runs / "x" / "0").set_status("completed")
    assert tick(runs, 63)
    assert outcomes(runs) == ["completed"]

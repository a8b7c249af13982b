"""The plan of a sweep on disk: one file of a name, and what was pooled is kept as long as the runs are the same."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.files import read_json, write_json
from workbench.records.sweep_plan import SweepPlan, cell_row, list_plans, plan_path, read_plan, working, write_plan


def make_plan(name: str = "s", folds: tuple[int, ...] = (0, 1), **changes: object) -> SweepPlan:
    cells = [
        {"run": f"e/{fold}", "method": "unet", "condition": "baseline", "fold": fold, "seed": 0, "parameters": {}}
        for fold in folds
    ]
    cohort = {"name": "c", "path": "../c", "fingerprint": "f"}
    return SweepPlan.model_validate(
        {"name": name, "file": "../s.yaml", "experiment": "e", "cohort": cohort, "cells": cells} | changes
    )


def test_a_plan_comes_back_as_it_was_and_is_not_written_twice(tmp_path: Path) -> None:
    write_plan(tmp_path, make_plan())
    assert read_plan(tmp_path, "s") == make_plan()
    os.utime(plan_path(tmp_path, "s"), (1e9, 1e9))
    write_plan(tmp_path, make_plan())
    assert plan_path(tmp_path, "s").stat().st_mtime == 1e9
    write_plan(tmp_path, make_plan("later"))
    assert list_plans(tmp_path) == ["later", "s"]
    with pytest.raises(RunError, match=r"no sweep 't' .*there are: later, s"):
        read_plan(tmp_path, "t")


def test_a_name_belongs_to_one_file_and_pooled_runs_to_their_folds(tmp_path: Path) -> None:
    write_plan(tmp_path, make_plan(pooled=("e/all",)))
    with pytest.raises(RunError, match=r"'s' was made from \.\./s\.yaml .* another `name:`"):
        write_plan(tmp_path, make_plan(file="../t.yaml"))
    write_plan(tmp_path, make_plan(baseline="none"))
    assert read_plan(tmp_path, "s").pooled == ("e/all",)
    write_plan(tmp_path, make_plan(folds=(0, 1, 2)))
    assert read_plan(tmp_path, "s").pooled == (), "they pool other runs"


def test_a_plan_that_cannot_be_read_is_named_and_written_anew(tmp_path: Path) -> None:
    write_plan(tmp_path, make_plan())
    path = plan_path(tmp_path, "s")
    write_json(path, read_json(path) | {"schema_version": 2})
    with pytest.raises(RunError, match="schema 2, newer"):
        read_plan(tmp_path, "s")
    path.write_text("{}")
    with pytest.raises(RunError, match=r"s\.json is not the plan of a sweep: remove it"):
        read_plan(tmp_path, "s")
    write_plan(tmp_path, make_plan())
    assert read_plan(tmp_path, "s") == make_plan()
    assert cell_row(tmp_path, make_plan().cells[1]).state == "missing"


def test_a_worker_is_seen_to_live_while_it_works(tmp_path: Path) -> None:
    with working(tmp_path, "s", "local", beat=0.01) as worker:
        heartbeat = tmp_path / worker["heartbeat"]
        assert worker["pid"] == os.getpid()
        assert (worker["sweep"], worker["executor"]) == ("s", "local")
        os.utime(heartbeat, (1e9, 1e9))
        deadline = time.monotonic() + 20
        while heartbeat.stat().st_mtime == 1e9:
            assert time.monotonic() < deadline, "it has stopped beating"
    assert not heartbeat.exists()

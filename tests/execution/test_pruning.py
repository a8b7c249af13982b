"""Removing runs by policy: what goes, what must stay, and a removal that is killed half-way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import ParameterError
from workbench.execution import pruning
from workbench.execution.pruning import LOG_NAME, Policy, describe, plan_pruning, prune, size_of
from workbench.records.index import list_runs
from workbench.records.run_folder import RunFolder
from workbench.schedules.occurrences import claim

COHORT = {"name": "demo", "fingerprint": "f"}


def make(runs: Path, name: str, state: str = "completed", *, experiment: str = "e", days: float = 0.0, **spec: Any) -> RunFolder:
    """A run that ended so many days ago, with 1000 bytes each of checkpoints, maps and predictions."""
    document = {"run": name, "method": "unet", "experiment": experiment, "parameters": {"seed": 0}, "cohort": COHORT} | spec
    run = RunFolder.create(runs / experiment, document)
    for part in ("checkpoints/last.safetensors", "checkpoints/best.safetensors", "maps/a.nii.gz", "predictions/a.nii.gz"):
        run.path(part).write_bytes(b"x" * 1000)
    if state != "queued":
        run.claim()
    if state not in ("queued", "running"):
        moment = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
        run.set_status(state, finished=moment, started=moment)
    return run


def names(runs: Path, policy: Policy) -> list[str]:
    return sorted(Path(removal.run).name for removal in plan_pruning(runs, policy).removals)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for state in ("completed", "failed", "cancelled", "interrupted", "queued", "running"):
        make(tmp_path, state, state, parameters={"seed": len(state)})
    return tmp_path


def test_states(runs: Path) -> None:
    assert names(runs, Policy(("failed",))) == ["failed"]
    assert names(runs, Policy(("failed", "completed"))) == ["completed", "failed"]
    assert names(runs, Policy(older_than=timedelta(0, 0, 1))) == ["cancelled", "failed", "interrupted"]
    assert names(runs, Policy(("failed",), experiment="other")) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "which runs"), ({"states": ("running",)}, "--state running"), ({"states": ("queued",)}, "--state queued"),
     ({"states": ("faild",)}, "--state faild"), ({"states": ("failed",), "what": "everything"}, "--what everything"),
     ({"keep_last": -2}, "--keep-last -2")],
)  # fmt: skip
def test_a_policy_that_says_nothing_or_nonsense_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        Policy(**options)


def test_age_counts_from_the_end(tmp_path: Path) -> None:
    for days in (1, 29, 31):
        make(tmp_path, f"d{days}", "failed", days=days, parameters={"seed": days})
    assert names(tmp_path, Policy(older_than=timedelta(days=30))) == ["d31"]
    assert describe(Policy(("failed",), timedelta(days=30))) == "failed, older than 30 days"
    assert describe(Policy(("failed",), timedelta(hours=6))) == "failed, older than 6 h"


def test_the_newest_of_equal_runs_stay_and_other_seeds_do_not_count(tmp_path: Path) -> None:
    for night in range(4):
        make(tmp_path, f"n{night}", experiment=f"night-{night}", days=night)
    make(tmp_path, "other", parameters={"seed": 1}, days=99)
    make(tmp_path, "elsewhere", cohort=COHORT | {"fingerprint": "g"}, days=99)
    assert names(tmp_path, Policy(keep_last=2)) == ["n2", "n3"]
    assert names(tmp_path, Policy(keep_last=0, experiment="night-1")) == ["n1"]


def test_parts_of_runs(runs: Path) -> None:
    plan = plan_pruning(runs, Policy(("completed",), what="checkpoints"))
    assert [path.name for path in plan.removals[0].paths] == ["last.safetensors"], "the best weights stay: the run still predicts"
    assert plan.bytes == 1000
    prune(plan, "test")
    assert sorted(path.name for path in (runs / "e/completed/checkpoints").iterdir()) == ["best.safetensors"]
    prune(plan_pruning(runs, Policy(("failed",), what="checkpoints")), "test")
    assert not (runs / "e/failed/checkpoints").exists()
    prune(plan_pruning(runs, Policy(("completed",), what="maps")), "test")
    assert not (runs / "e/completed/maps").exists()
    assert (runs / "e/completed/predictions").exists()
    assert RunFolder.open(runs / "e/completed").state == "completed"


def test_parents_links_and_living_runs_stay_and_say_why(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    make(runs, "child", "completed", derived={"kind": "extended", "parents": ["completed"]}, parameters={"seed": 77})
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    linked = make(elsewhere, "linked", "failed", parameters={"seed": 5})
    (runs / "e" / "linked").symlink_to(linked.folder)
    (runs / "e" / "broken").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as kernel:
        orphaned = make(runs, "orphaned", "running", parameters={"seed": 6})
        orphaned.set_status("running", pid=2**22 + 1, kernel_pid=kernel.pid)  # its driver is dead, its kernel is not
        policy = Policy(("completed", "failed", "interrupted"))
        plan = plan_pruning(runs, policy)
        kernel.communicate(b"\n")
    kept = dict(plan.kept)
    assert set(kept) == {"e/completed", "e/linked", "e/orphaned"}
    assert "derived from it" in kept["e/completed"]
    assert "symbolic link" in kept["e/linked"]
    assert "still live" in kept["e/orphaned"]
    assert {Path(removal.run).name for removal in plan.removals} == {"child", "failed", "interrupted"}
    prune(plan, "test")
    assert linked.folder.is_dir()
    assert (runs / "e" / "broken").is_dir(), "what is no run is nobody's business here"
    assert names(runs, Policy(("completed",))) == ["completed"], "its child is gone: nothing is derived from it any more"


def test_a_parent_goes_when_asked(runs: Path) -> None:
    make(runs, "child", "failed", derived={"kind": "extended", "parents": ["completed"]}, parameters={"seed": 77})
    assert names(runs, Policy(("completed",))) == []
    assert names(runs, Policy(("completed",), parents=True)) == ["completed"]
    assert names(runs, Policy(("completed",), what="maps")) == ["completed"], "its maps are not what a child needs"


def test_masks_that_another_run_measures_stay(runs: Path) -> None:
    make(runs, "radiomics", "queued", parameters={"seed": 78, "mask_run": "e/completed"})
    for what, gone in (("all", []), ("predictions", []), ("checkpoints", ["completed"])):
        assert names(runs, Policy(("completed",), what=what)) == gone  # type: ignore[arg-type]
    assert "measures its masks" in dict(plan_pruning(runs, Policy(("completed",))).kept)["e/completed"]
    assert names(runs, Policy(("completed",), parents=True)) == ["completed"]


def test_a_run_that_was_taken_up_meanwhile_stays(runs: Path) -> None:
    plan = plan_pruning(runs, Policy(("failed", "cancelled")))
    RunFolder.open(runs / "e" / "failed").claim()
    _, stayed = prune(plan, "test")
    assert stayed == [("e/failed", "is running now")]
    assert (runs / "e/failed/checkpoints/last.safetensors").exists()
    assert not (runs / "e/cancelled").exists()


def test_a_removal_that_is_killed_leaves_no_run_and_is_taken_up(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_pruning(runs, Policy(("failed",)))
    with monkeypatch.context() as killed:
        killed.setattr(pruning, "_delete", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune(plan, "test")
    assert "e/failed" not in {row.run for row in list_runs(runs)}
    again = plan_pruning(runs, Policy(("failed",)))
    assert (len(again.removals), len(again.leftovers)) == (0, 1)
    assert again.bytes > 4000
    prune(again, "test")
    assert not [path for path in (runs / "e").iterdir() if path.name.startswith(".")]


def test_what_killed_commands_left_goes_when_nobody_uses_it(runs: Path) -> None:
    hours = (datetime.now(UTC) - timedelta(hours=30)).timestamp()
    logs = [runs / ".schedules" / ".logs" / f"{name}.log" for name in ("n-old", "n-new", "n-working", "tick-old")]
    killed, used, outside = runs / ".verify-killed", runs / ".verify-used", runs.parent / "outside"
    beat = used / "e" / "r" / "heartbeat"
    for path in (*logs, killed / "e" / "r" / "weights", beat, outside / "weights"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    (killed / "masks").symlink_to(outside)
    for path in (*(log for log in logs if log.stem != "n-new"), *killed.rglob("*"), killed, beat.parent, used / "e", used):
        os.utime(path, (hours, hours), follow_symlinks=False)
    at_work = claim(runs, "n", datetime(2026, 1, 1, tzinfo=UTC))
    assert at_work is not None
    at_work.noted(log=".schedules/.logs/n-working.log")

    def litter(policy: Policy) -> list[str]:
        return [path.name for one in plan_pruning(runs, policy).litter for path in one.paths]

    assert litter(Policy(("failed",))) == [".verify-killed"], "logs go by their age only"
    assert litter(Policy(older_than=timedelta(days=1))) == [".verify-killed", "n-old.log"]
    assert litter(Policy(older_than=timedelta(days=2))) == []
    assert litter(Policy(("failed",), experiment="e")) == litter(Policy(("failed",), what="maps")) == []
    at_work.path.unlink()
    plan = plan_pruning(runs, Policy(older_than=timedelta(days=1)))
    assert [(one.name, one.bytes) for one in plan.litter] == [(".verify-killed", 1000), (".schedules/.logs", 3000)]
    shown = CliRunner().invoke(app, ["runs", "prune", "--runs", str(runs), "--older-than", "1d", "--dry-run"]).output
    assert "was killed" in shown
    assert "3 logs of schedules" in shown
    assert killed.exists(), "never silently"
    freed, stayed = prune(plan, "why")
    assert (freed, stayed) == (4000, [])
    assert not killed.exists()
    assert beat.exists()
    assert (outside / "weights").exists()
    assert [log.stem for log in logs if log.exists()] == ["n-new"]
    noted = [json.loads(line)["path"] for line in (runs / LOG_NAME).read_text().splitlines()]
    assert noted == [".verify-killed", ".schedules/.logs"]


def test_every_removal_is_on_record(runs: Path) -> None:
    freed, stayed = prune(plan_pruning(runs, Policy(("failed", "cancelled"))), "failed/cancelled")
    lines = [json.loads(line) for line in (runs / LOG_NAME).read_text().splitlines()]
    assert {line["run"] for line in lines} == {"e/failed", "e/cancelled"}
    assert freed == sum(line["bytes"] for line in lines) > 8000
    assert {line["why"] for line in lines} == {"failed/cancelled"}
    assert stayed == []


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 5000)
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"x" * 10)
    (folder / "link").symlink_to(tmp_path / "big")
    assert size_of(folder) == 10
    assert size_of(tmp_path / "nothing") == 0

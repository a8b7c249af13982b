"""What a sweep will take, judged by finished runs; and how it is said."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cohort.table import Cohort
from workbench.files import read_json, write_json
from workbench.records.run_folder import RunFolder
from workbench.records.sweep_plan import PlannedRun
from workbench.sweeps.estimate import Estimate, estimate

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def finished(
    runs: Path, name: str, seconds: float, *, method: str = "unet", size: str = "demo", steps: int = 0, training: float = 0.0,
    weight: int = 1000, state: str = "completed", derived: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A run folder that says it took `seconds`, `training` of them for `steps` steps, and that holds `weight` further bytes."""
    cohort = {"name": "c", "path": "../../c", "fingerprint": "f" * 16, "phantom": True, "external_sites": []}
    spec = {"run": name, "method": method, "experiment": "e", "parameters": {"size": size}, "cohort": cohort,
            "code_version": "0", "threads": 1} | ({"derived": derived} if derived else {})  # fmt: skip
    run = RunFolder.create(runs / "e", spec)
    run.claim()
    budget = {"steps": steps, "seconds": training} if steps else {}
    run.set_status(state, budget=budget)
    status = read_json(run.path("status.json"))
    write_json(
        run.path("status.json"),
        status | {"started": BEGAN.isoformat(), "finished": (BEGAN + timedelta(seconds=seconds)).isoformat()},
    )
    run.path("weights").write_bytes(b"0" * weight)
    return run.folder


def cells(*asked: tuple[str, dict[str, Any]]) -> list[PlannedRun]:
    return [
        PlannedRun(run=f"e/{number}", method=method, condition="c", fold=0, seed=0, parameters={"size": "demo", **values})
        for number, (method, values) in enumerate(asked)
    ]


def test_nothing_is_guessed_without_a_finished_run(tmp_path: Path) -> None:
    finished(tmp_path, "other", 50, size="paper")
    finished(tmp_path, "broken", 50, state="failed")
    found = estimate(tmp_path, cells(("unet", {}), ("masm", {})), free=7)
    assert found == Estimate(2, None, None, 0, 7, ("masm demo", "unet demo"))


def test_training_is_scaled_by_its_steps_and_the_rest_is_not(tmp_path: Path) -> None:
    finished(tmp_path, "a", 100, steps=40, training=80)
    found = estimate(tmp_path, cells(("unet", {"epochs": 4, "steps_per_epoch": 20})), free=0)  # twice the steps
    assert found.seconds == pytest.approx(20 + 2 * 80)
    as_long = estimate(tmp_path, cells(("unet", {"epochs": 2, "steps_per_epoch": 20})), free=0)
    assert as_long.seconds == pytest.approx(100)


def test_the_median_of_several_counts(tmp_path: Path) -> None:
    sizes = []
    for name, seconds, weight in (("a", 10, 10), ("b", 20, 5_000), ("c", 900, 90_000)):
        folder = finished(tmp_path, name, seconds, weight=weight)
        sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    (tmp_path / "e" / "b" / "link").symlink_to("weights")  # counts where it lies
    found = estimate(tmp_path, cells(("unet", {}), ("unet", {"seed": 1})), free=0)
    assert found.seconds == pytest.approx(2 * 20)
    assert found.bytes == 2 * sizes[1]
    assert (found.runs, found.judged, found.unjudged) == (2, 2, ())


def test_pooled_and_imported_runs_say_nothing_about_training(tmp_path: Path) -> None:
    finished(tmp_path, "a", 60)
    for name in ("p1", "p2", "p3"):
        finished(tmp_path, name, 1, derived={"kind": "pooled", "parents": ["a", "b"]})
    assert estimate(tmp_path, cells(("unet", {})), free=0).seconds == pytest.approx(60)


def test_a_method_without_a_finished_run_counts_as_the_mean_of_the_others(tmp_path: Path) -> None:
    finished(tmp_path, "a", 30)
    finished(tmp_path, "b", 50, method="segresnet")
    found = estimate(tmp_path, cells(("unet", {}), ("segresnet", {}), ("masm", {})), free=0)
    assert found.seconds == pytest.approx(30 + 50 + 40)
    assert (found.judged, found.unjudged) == (2, ("masm demo",))


def test_a_dry_run_prints_plan_and_estimate_and_makes_nothing(tiny_cohort: Cohort, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    finished(runs, "a", 90)
    before = sorted(runs.rglob("*"))
    file = tmp_path / "two.yaml"
    file.write_text("experiment: two\nmethods: [unet]\nparameters: {size: demo, width: [4, 8]}\n")
    arguments = ["sweep", str(file), "--cohort", str(tiny_cohort.folder), "--runs", str(runs), "--dry-run", "--slots", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["missing", "missing"]
    assert "unet · width=4 · fold 0 · seed 0" in lines[0]
    assert lines[2] == "two: 2 runs on cohort tiny (phantom), 2 to run"
    assert lines[3].startswith("time: about 3 min of runs, 90 s with 2 at once; disk: about ")
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["estimate"]["seconds"] == pytest.approx(180)
    assert document["to_run"] == 2
    assert sorted(runs.rglob("*")) == before

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
from workbench.commands.printing import about, size_text
from workbench.commands.sweeps import _estimate_text
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
    (tmp_path / "e" / "b" / "link").symlink_to(tmp_path / "e" / "c" / "weights")  # counts where it lies
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (119.2, "119 s"), (125, "2 min"), (3600, "60 min"), (7190, "2.0 h"), (20_000, "5.6 h"),
     (172_700, "2 days"), (1e6, "12 days")],
)  # fmt: skip
def test_times_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3_400_000, "3.4 MB"), (2_500_000_000, "2.5 GB"), (4e12, "4.0 TB")],
)  # fmt: skip
def test_sizes_have_the_unit_that_suits_them(count: int, text: str) -> None:
    assert size_text(count) == text


def test_how_an_estimate_is_said() -> None:
    whole = Estimate(4, 80.0, 6_000_000, 4, 5_000_000_000, ())
    assert _estimate_text(whole, 1) == "time: about 80 s of runs; disk: about 6.0 MB of 5.0 GB free"
    assert "about 80 s of runs, 20 s with 4 at once" in _estimate_text(whole, 16)
    assert "WARNING" not in _estimate_text(whole, 1)
    partly = Estimate(4, 80_000.0, 6_000_000_000, 3, 5_000_000_000, ("masm paper",))
    text = _estimate_text(partly, 2)
    assert "22.2 h of runs, 11.1 h with 2 at once; disk: about 6.0 GB of 5.0 GB free" in text
    assert "(judged by 3 of 4 runs: none finished of masm paper). WARNING: that does not fit" in text
    assert _estimate_text(Estimate(2, None, None, 0, 1, ("unet demo",)), 1) == (
        "time and disk: unknown, there is no finished run of unet demo to go by"
    )
    assert _estimate_text(Estimate(0, None, None, 0, 1, ()), 1) == "nothing to do"


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


def test_very_many_runs_are_refused_where_nobody_can_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    many = list(range(1, 101))
    file.write_text(f"experiment: many\nmethods: [unet]\nparameters: {{epochs: {many}, width: {many}, patience: {many}}}\n")
    done = CliRunner().invoke(app, ["sweep", str(file), "--dry-run"])
    assert done.exit_code != 0
    assert "many.yaml asks for 1,000,000 runs" in str(done.exception)
    assert done.stdout == ""

"""The run under inspection, a part of the Overview."""

from __future__ import annotations

from pathlib import Path

from app.overview import OverviewPage
from app.state import AppState
from app.store import Store
from workbench.records.run_folder import RunFolder


def test_a_failed_run_shows_its_reason(store: Store) -> None:
    failed = next(row for row in store.runs() if row.state == "failed")
    page = OverviewPage(AppState(run=failed.run), store)
    assert "the loss is not finite" in page.inspection.facts.object
    assert page.inspection.loss.object is not None
    assert "Failed at" not in page.inspection.facts.object, "an older run says no more than the sentence"


def test_a_failed_run_shows_cell_and_last_lines(tmp_path: Path) -> None:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    run = RunFolder.create(tmp_path / "e", spec)
    run.claim()
    failure = {"cell": 7, "source": "experiment.train()", "heading": "Training", "lines": ["ValueError: <b>"], "log": ["epoch 3"]}
    run.set_status("failed", error="cell 7 (experiment.train()): ValueError: <b>", failure=failure)
    shown = OverviewPage(AppState(run="e/r"), Store(tmp_path)).inspection.facts.object
    assert "cell 7 <code>experiment.train()</code>, under “Training”" in shown
    assert "ValueError: &lt;b&gt;" in shown
    assert "epoch 3" in shown

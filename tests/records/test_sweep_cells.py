"""The cells of a sweep as they stand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import RunError
from workbench.evaluation.ablation import ablation_deltas
from workbench.records.sweep_cells import ALL, comparable, counts, sweep_cells
from workbench.records.sweep_plan import SweepPlan, read_plan


@pytest.fixture(scope="module")
def plan(sweep_runs: Path) -> SweepPlan:
    return read_plan(sweep_runs, "attention")


def test_every_planned_cell_is_there_with_its_state(sweep_runs: Path, plan: SweepPlan) -> None:
    cells = sweep_cells(sweep_runs, plan)
    assert counts(cells) == {"completed": 20, "running": 1, "queued": 1, "failed": 1, "missing": 1}
    assert next(iter(counts(cells))) == "completed"
    running = next(cell for cell in cells if cell.state == "running")
    assert (running.block, running.arm, running.progress) == ("unet", "single_branch", "training 38 %")
    assert "not finite" in next(cell for cell in cells if cell.state == "failed").row.reason


def test_only_completed_cells_have_tables(sweep_runs: Path, plan: SweepPlan) -> None:
    cells, problems = comparable(sweep_runs, sweep_cells(sweep_runs, plan))
    assert problems == []
    assert sum(cell.evaluated for cell in cells) == 20
    assert len(cells) == 24
    found = ablation_deltas(cells, outcomes=["dice"], resamples=50)
    arms = found.arms.set_index(["block", "arm"])[["cells", "planned", "seeds"]]
    assert arms.loc[("unet", "single_branch")].tolist() == [3, 4, 2]
    assert arms.loc[("unet", "wider")].tolist() == [2, 4, 2]
    assert arms.loc[("mts_unet", "no_attention")].tolist() == [2, 2, 1]
    assert found.family == 5 * 5


def test_a_damaged_table_is_named_and_the_cell_counts_as_planned(sweep_runs: Path, plan: SweepPlan, tmp_path: Path) -> None:
    cells = sweep_cells(sweep_runs, plan)

    def read(run: str, name: str) -> pd.DataFrame | None:
        if run == cells[0].planned.run:
            raise RunError("torn")
        return None

    found, problems = comparable(sweep_runs, cells, read)
    assert problems == [f"{cells[0].planned.run}: torn"]
    assert not found[0].evaluated


def test_a_run_that_says_nothing_yet_has_no_progress(sweep_runs: Path, plan: SweepPlan, tmp_path: Path) -> None:
    running = next(cell for cell in sweep_cells(sweep_runs, plan) if cell.state == "running")
    shutil.copytree(sweep_runs / running.planned.run, tmp_path / running.planned.run)
    progress = tmp_path / running.planned.run / "progress.json"
    alone = plan.model_copy(update={"cells": (running.planned,)})
    for text, expected in (('{"activity": "preparing", "done": 0, "total": 0}', "preparing"), ("{", "")):
        progress.write_text(text)
        assert sweep_cells(tmp_path, alone)[0].progress == expected


def test_arms_of_a_sweep_that_is_no_ablation(sweep_runs: Path, plan: SweepPlan) -> None:
    """Methods, crossed parameters, or both; what does not vary is not in the name. Factors of an ablation are blocks."""

    def arms(**cells: tuple[str, str]) -> list[tuple[str, str]]:
        made = [
            plan.cells[0].model_copy(update={"method": method, "condition": condition, "run": f"x/{key}"})
            for key, (method, condition) in cells.items()
        ]
        found = sweep_cells(sweep_runs, plan.model_copy(update={"ablation": False, "cells": tuple(made)}))
        assert {cell.block for cell in found} == {ALL}
        return [cell.arm for cell in found]

    assert arms(a=("unet", ""), b=("masm", "")) == ["unet", "masm"]
    assert arms(a=("unet", "width=8"), b=("unet", "width=16")) == ["width=8", "width=16"]
    assert arms(a=("unet", "width=8"), b=("masm", "width=16")) == ["unet, width=8", "masm, width=16"]
    factor = plan.cells[0].model_copy(update={"factors": {"modality_dropout": 0.5}})
    assert sweep_cells(sweep_runs, plan.model_copy(update={"cells": (factor,)}))[0].block == "unet, modality_dropout=0.5"

"""`-p fold=all` for real: two folds through their notebooks, the pooled run, and its models predicting together."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.evaluation.thresholds import ALL_FOLDS
from workbench.experiments.application import predict_cohort
from workbench.records.index import list_runs
from workbench.records.run_folder import RunFolder


def sibling() -> ModuleType:
    """`test_execution.py`, for the smallest settings of each method."""
    spec = importlib.util.spec_from_file_location("execution", Path(__file__).with_name("test_execution.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore:cohort tiny. with two folds", "ignore:.*Contaminated")  # as it should say
def test_every_fold_is_run_and_pooled_and_predicts_together(tiny_cohort: Cohort, tmp_path: Path) -> None:
    cases = tiny_cohort.cases.iloc[[0, 1, 5, 6, 7]].copy()
    cases.loc[7, "site"] = "far"
    changed = {"image_root": str(tiny_cohort.folder), "external_sites": ("far",)}
    cohort = Cohort.create(tmp_path / "cohort", tiny_cohort.info.model_copy(update=changed), cases)
    make_folds(cohort, folds=2)
    command = sibling().command("unet", cohort, tmp_path / "runs", fold="all", subsets="none")
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunFolder.open(done.stdout.strip().splitlines()[-1])
    rows = list_runs(tmp_path / "runs")
    assert sorted(row.name for row in rows) == ["unet", "unet", "unet (2 folds)"]
    assert {row.state for row in rows} == {"completed"}
    metrics = run.metrics()
    test = metrics.query("split == 'test' and region == 'WT' and metric == 'dice'")
    assert sorted(test["case"]) == sorted(cases["case"])[:4]
    external = metrics.query("split == 'external'")
    assert set(external["fold"]) == {ALL_FOLDS}
    assert not external.duplicated(["case", "region", "metric"]).any()
    # the masks of external cases are those that the folds' models predict together
    out = predict_cohort(run.folder, cohort.folder, tmp_path / "out")
    far = str(cases.loc[7, "case"])
    kept, again = (np.asarray(nib.load(folder / f"{far}.nii.gz").dataobj) for folder in (run.path("predictions"), out))
    np.testing.assert_array_equal(kept, again)
    single = [predict_cohort(row_run, cohort.folder, tmp_path / row_run.name) for row_run in _folds(run)]
    alone = [np.asarray(nib.load(folder / f"{far}.nii.gz").dataobj) for folder in single]
    assert any(not np.array_equal(kept, labels) for labels in alone), "no fold by itself is the ensemble"
    # again: nothing is done anew
    stamp = run.path("metrics.parquet").stat().st_mtime_ns
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, timeout=100)
    assert (done.returncode, run.path("metrics.parquet").stat().st_mtime_ns) == (0, stamp)


def _folds(run: RunFolder) -> list[Path]:
    return [run.folder.parent / name for name in run.spec["derived"]["parents"]]

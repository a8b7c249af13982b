"""The few numbers that a list of runs shows: written, read again, and null where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from workbench.errors import RunError
from workbench.files import write_parquet
from workbench.records.headline_file import HEADLINE_FILE
from workbench.records.headline_file import read_headline as headline
from workbench.records.run_folder import RunFolder
from workbench.steps.headline import write_headline

GRADES = ("auc grade 2", "auc grade 3", "auc grade 4")


@pytest.fixture
def run(fabricate: ModuleType, tmp_path: Path) -> RunFolder:
    cases = fabricate.make_cases(test=12, validation=6, train=0, external=6)
    return fabricate.make_run(tmp_path, "e", "unet", "completed", seed=1, cases=cases, subsets=False)


def test_the_headline_is_of_the_test_cases_and_is_kept(run: RunFolder) -> None:
    assert headline(run.folder) == {}, "not evaluated"
    written = write_headline(run, 100)
    metrics = run.metrics().query("split == 'test' and region == 'WT' and metric == 'dice'")
    assert written["dice WT"]["value"] == pytest.approx(metrics["value"].mean())
    assert written["dice WT"]["n"] == written["dice WT"]["n_subjects"] == len(metrics) == 12
    distances = run.metrics().query("split == 'test' and region == 'WT' and metric == 'hd95'")
    assert written["hd95 WT"]["value"] == pytest.approx(distances["value"].median())
    assert headline(run.folder) == headline(str(run.folder)) == written


def test_what_cannot_be_estimated_is_null(run: RunFolder) -> None:
    markers = run.markers()
    write_parquet(run.path("markers.parquet"), markers[markers["marker"] == "idh"].assign(truth=1.0))
    metrics = run.metrics()
    write_parquet(run.path("metrics.parquet"), metrics.assign(value=metrics["value"].where(metrics["metric"] == "dice", np.nan)))
    written = write_headline(run, 100)
    assert written["auc idh"] == {"value": None, "low": None, "high": None, "n": 12, "n_subjects": 12}
    assert written["hd95 WT"]["value"] is None
    assert "NaN" not in run.path(HEADLINE_FILE).read_text()
    assert json.loads(run.path(HEADLINE_FILE).read_text()) == written


def test_a_run_without_tables_and_a_damaged_file_have_none(run: RunFolder) -> None:
    run.path("metrics.parquet").unlink()
    assert list(write_headline(run, 100)) == list(headline(run.folder)) == ["auc idh", "auc codel", "auc tert", *GRADES]
    run.path("markers.parquet").unlink()
    assert write_headline(run, 100) == headline(run.folder) == {}
    run.path(HEADLINE_FILE).write_text('{"dice WT": {"val')
    with pytest.raises(RunError, match=HEADLINE_FILE):
        headline(run.folder)

"""A mask is replaced between training and evaluation: nothing is judged against it, and putting it back is enough."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters


def test_no_run_is_judged_on_a_cohort_that_changed_under_it(tiny_cohort: Cohort, tmp_path: Path) -> None:
    shutil.copytree(tiny_cohort.folder, tmp_path / "cohort", ignore=shutil.ignore_patterns("prepared"))
    values = {
        "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "maps": 0, "threads": 1,
        "width": 4, "levels": 3, "patch": 32, "subsets": "none",
        "cohort": str(tmp_path / "cohort"), "runs": str(tmp_path / "runs"),
    }  # fmt: skip
    experiment = Experiment(ExperimentParameters.build("unet", values), progress=False)
    experiment.train().predict()
    case = next(name for name in experiment.cases_by_split["test"]["case"] if experiment.cohort.path(name, "segmentation"))
    image = experiment.cohort.path(case, "segmentation")
    other = experiment.cohort.path("TINY-00011-000" if case != "TINY-00011-000" else "TINY-00010-000", "segmentation")
    before = image.read_bytes()
    shutil.copy(other, image)
    with pytest.raises(RunError, match=rf"case {case}, file .*-seg\.nii\.gz, channel segmentation was replaced"):
        experiment.evaluate()
    assert experiment.run.metrics() is None
    assert experiment.run.state == "running"
    image.write_bytes(before)
    experiment.evaluate()
    assert experiment.run.state == "completed"

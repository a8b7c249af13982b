"""Test cases that are wrong on purpose: what is judged against what, once, and what the table says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError
from workbench.evaluation.segmentation import region_dice
from workbench.experiments.experiment import Experiment
from workbench.sampling.corruption import noisy_labels
from workbench.sampling.patches import box_centre
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.corrupted_cases import (
    CLEAN,
    CORRUPTED_FILE,
    TESTS,
    CorruptedTest,
    corrupted_rows,
    corrupted_table,
    predicted_labels,
)

QUICK: dict[str, Any] = {
    "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "width": 4, "levels": 3, "patch": 32,
    "sampling": "patch", "threads": 1, "batch_size": 1, "modality_dropout": 0.0, "maps": 0, "overlap": 0.0, "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    given = {**QUICK, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path_factory.mktemp("runs"))}
    return Experiment(ExperimentParameters.build("unet", given), progress=False).train()


def test_each_prediction_is_held_against_the_mask_that_its_name_says(
    trained: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    eroded = CorruptedTest("eroded", mask_noise="eroded", distance=4.0)
    tests = (
        TESTS[0],
        CorruptedTest("aside", misregistration=8.0),
        eroded,
        CorruptedTest("thin", mask_noise="eroded", distance=1.0),
    )
    monkeypatch.setattr("workbench.steps.corrupted_cases.TESTS", tests)
    rows = corrupted_rows(trained)
    assert set(rows["test"]) == {CLEAN, "aside", "eroded"}, "a rim of 1 mm is no voxel of 4 mm"
    wide = rows.pivot(index=["case", "region"], columns="test", values="dice")
    masked = [name for name in trained.cases_by_split["test"]["case"] if trained.prepared.case(name).label_set]
    assert set(rows["case"]) == set(masked)
    for name in masked:
        case = trained.prepared.case(name)
        predicted, truth = predicted_labels(trained, case), np.asarray(case.labels())
        wrong = noisy_labels(case, box_centre(case.shape), case.shape, kind="eroded", distance=4.0, share=1.0, seed=0)
        assert wrong is not None
        assert wide.loc[(name, "WT"), CLEAN] == region_dice(predicted, truth, "WT")
        np.testing.assert_equal(wide.loc[(name, "WT"), "eroded"], region_dice(predicted, wrong, "WT"))
    assert (wide["aside"] != wide[CLEAN]).any()
    assert (trained.run.folder / CORRUPTED_FILE).is_file()
    monkeypatch.setattr("workbench.steps.corrupted_cases.predicted_labels", lambda *_: pytest.fail("made once"))
    pd.testing.assert_frame_equal(corrupted_rows(trained), rows)


def test_the_evaluation_that_counts_stays_clean(trained: Experiment, make_setup_noise: Callable[[], Experiment]) -> None:
    """Training differs; what validation and test cases show does not."""
    noisy = make_setup_noise()
    assert noisy.sampling_settings().mask_noise == "eroded"
    for split in ("validation", "test"):
        assert list(noisy.cases_by_split[split]["case"]) == list(trained.cases_by_split[split]["case"])
        for name in noisy.cases_by_split[split]["case"]:
            assert noisy.prepared.case(name).folder == trained.prepared.case(name).folder, "the same prepared arrays"


@pytest.fixture
def make_setup_noise(tiny_cohort: Cohort, tmp_path: Path) -> Callable[[], Experiment]:
    def make() -> Experiment:
        noise = {"mask_noise": "eroded", "mask_noise_mm": 4.0, "misregistration": 4.0}
        given = {**QUICK, **noise, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}
        return Experiment(ExperimentParameters.build("unet", given), progress=False)

    return make


def test_table_means_and_changes_are_over_cases_and_in_order() -> None:
    names = [test.name for test in TESTS]
    rows = pd.DataFrame(
        [
            (f"c{case}", f"s{case}", test, "WT", 0.9 - 0.1 * place - (0.05 if case % 2 else 0.0))
            for case in range(20)
            for place, test in enumerate([names[2], names[0], names[1]][::-1])
        ],
        columns=["case", "subject", "test", "region", "dice"],
    )
    rows.loc[(rows["case"] == "c3") & (rows["test"] == names[1]), "dice"] = np.nan
    table = corrupted_table(rows).set_index("test")
    assert list(table.index) == names[:3]
    assert table.loc[CLEAN, "value"] == pytest.approx(0.775)
    assert table.loc[CLEAN, "change"] == 0
    assert table.loc[names[1], "n"] == 19
    assert table.loc[names[1], "change"] == pytest.approx(0.1)
    assert table.loc[names[2], "change"] == pytest.approx(-0.1)
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()


def test_a_method_without_masks_is_refused_and_names_are_unique(tiny_cohort: Cohort, tmp_path: Path) -> None:
    given = {"size": "demo", "threads": 1, "cohort": str(tiny_cohort.folder), "runs": str(tmp_path)}
    with pytest.raises(ParameterError, match="densenet121 does not segment"):
        corrupted_rows(Experiment(ExperimentParameters.build("densenet121", given), progress=False))
    assert len({test.name for test in TESTS}) == len(TESTS)
    assert TESTS[0].name == CLEAN

"""What one run works with: who is learned from, what is counted on whom, and what it is told about patch and steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters
from workbench.setup.run_setup import RunSetup

SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "width": 4, "levels": 3, "patch": 16, "sampling": "patch", "batch_size": 1, "epochs": 2, "steps_per_epoch": 1,
        "validate_every": 1, "ema": 0.0,
    },
    "densenet121": {"width": 4, "growth": 2, "markers": "idh,grade"},
}  # fmt: skip


def experiment(method: str, cohort: Cohort, runs: Path, **values: Any) -> Experiment:
    given = {"size": "demo", "spacing": 6.0, "threads": 1, "cohort": str(cohort.folder), "runs": str(runs)}
    return Experiment(ExperimentParameters.build(method, given | SMALL[method] | values), progress=False)


@pytest.mark.parametrize(("fold", "expected"), [(0, ("WT", "glioma")), (3, ("glioma",)), (4, ("glioma",))])
def test_label_sets_are_those_of_training_cases(
    fold: int, expected: tuple[str, ...], tiny_cohort: Cohort, tmp_path: Path
) -> None:
    """One case has a whole-tumour mask only: it trains in fold 0, validates in fold 3 and is tested in fold 4."""
    made = experiment("unet", tiny_cohort, tmp_path, fold=fold)
    assert made.split["TINY-00004-000"] == {0: "train", 3: "validation", 4: "test"}[fold]
    assert made.label_sets == expected


def test_class_weights_are_counted_on_training_cases(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """Of seven training cases three are mutant and three of grade 4; of all twelve six and four."""
    made = experiment("densenet121", tiny_cohort, tmp_path)
    rows = made.cases_by_split["train"]
    assert sorted(rows["idh"]) == [0, 0, 0, 0, 1, 1, 1]
    assert sorted(rows["grade"]) == [2, 2, 3, 3, 4, 4, 4]
    weights = made.model.marker_weights
    assert weights["idh"].tolist() == pytest.approx([7 / (2 * 4), 7 / (2 * 3)])
    assert weights["grade"].tolist() == pytest.approx([7 / (2 * 4), 7 / (2 * 3)])


def test_oversampled_classes_weigh_the_same(tiny_cohort: Cohort, tmp_path: Path) -> None:
    """One of the three mutants is drawn twice: both rules together balance a marker once."""
    weights = experiment("densenet121", tiny_cohort, tmp_path, oversample="idh").model.marker_weights
    assert weights["idh"].tolist() == pytest.approx([1.0, 1.0])


def test_logit_adjustment_counts_training_cases_as_drawn_and_takes_the_place_of_class_weights(
    tiny_cohort: Cohort, tmp_path: Path
) -> None:
    plain = experiment("densenet121", tiny_cohort, tmp_path)
    assert plain.model.marker_offsets == {}
    adjusted = experiment("densenet121", tiny_cohort, tmp_path, marker_loss="logit_adjusted", logit_adjustment=0.5)
    assert adjusted.parameters.class_weights == "none"
    assert adjusted.model.marker_weights == {}
    offsets = adjusted.model.marker_offsets
    assert offsets["idh"].tolist() == pytest.approx([0.5 * math.log(4 / 7), 0.5 * math.log(3 / 7)])
    assert set(offsets) == {"idh", "grade"}
    drawn = experiment("densenet121", tiny_cohort, tmp_path, marker_loss="logit_adjusted", oversample="idh").model.marker_offsets
    assert drawn["idh"].tolist() == pytest.approx([math.log(0.5)] * 2), "oversampled classes are balanced already"


def test_noise_in_training_reaches_the_sampler(make_setup: Callable[..., RunSetup]) -> None:
    given = {"mask_noise": "shifted", "mask_noise_mm": 6.0, "mask_noise_share": 0.25, "misregistration": 2.0}
    settings = make_setup("unet", **given).sampling_settings()
    assert {name: getattr(settings, name) for name in given} == given
    plain = make_setup("unet").sampling_settings()
    assert (plain.mask_noise, plain.misregistration) == ("none", 0.0)


def test_grade_is_told_apart_as_the_model_is_to(make_setup: Callable[..., RunSetup]) -> None:
    cases = pd.DataFrame({"grade": [2, 3, None, 4], "idh": [0, None, 1, 1]})
    made = make_setup("densenet121")
    assert made.told_apart("grade", cases).tolist() == ["2 or 3", "2 or 3", "4"]
    assert made.told_apart("idh", cases).tolist() == [0, 1, 1]
    made.parameters = made.parameters.model_copy(update={"grade_classes": 3})
    assert made.told_apart("grade", cases).tolist() == [2, 3, 4]


def test_markers_are_those_that_training_cases_show_in_two_classes(make_setup: Callable[..., RunSetup]) -> None:
    """The tiny cohort knows no TERT."""
    made = make_setup("densenet121", markers="tert,idh,grade")
    assert made.markers == ("idh", "grade")
    made.cases_by_split["train"] = made.training_cases.assign(idh=1)
    del made.markers
    assert made.markers == ("grade",)


def test_what_is_withheld_is_shown_to_held_out_cases_alone(make_setup: Callable[..., RunSetup]) -> None:
    made = make_setup(modalities="t1,flair", withhold="flair")
    assert [made.shown_in(split) for split in ("train", "validation")] == [("t1",), ("t1",)]
    assert [made.shown_in(split) for split in ("test", "external")] == [("t1", "flair")] * 2


def test_cases_with_nothing_to_show_are_left_out_where_they_have_nothing(make_setup: Callable[..., RunSetup]) -> None:
    """Of FLAIR and T2 each is missing in one case: number 2 trains in fold 0, number 1 is tested."""
    kept = make_setup(modalities="t2,flair", withhold="flair").cases_by_split
    assert "TINY-00002-000" not in set(kept["train"]["case"]), "its FLAIR is withheld"
    assert len(kept["train"]) == 6
    assert "TINY-00001-000" in set(kept["test"]["case"]), "it shows its T2"


def test_a_whole_brain_is_no_larger_than_the_largest_one(make_setup: Callable[..., RunSetup]) -> None:
    """Rounded up to what the network can halve; below `patch` along each axis."""
    made = make_setup(sampling="whole", patch=64, width=4, levels=3)
    made.prepared = [SimpleNamespace(shape=(40, 18, 70)), SimpleNamespace(shape=(30, 21, 20))]  # type: ignore[assignment]
    divisor = made.network.divisor
    assert divisor > 1
    assert made.patch == (40, -(-21 // divisor) * divisor, 64)
    assert make_setup(sampling="patch", patch=32).patch == (32, 32, 32)


def test_weights_are_not_to_be_had_before_training(make_setup: Callable[..., RunSetup]) -> None:
    made = make_setup(width=4, levels=3)
    assert not made.trained
    with pytest.raises(RunError, match=r"is not trained yet: call \.train\(\)"):
        made.trained_model()


def test_an_epoch_is_one_pass_over_the_training_cases_unless_steps_are_named(make_setup: Callable[..., RunSetup]) -> None:
    made = make_setup("densenet121")
    assert len(made.training_cases) == 7
    resolved = made.parameters

    def steps(**values: int) -> tuple[int, int]:
        given = {"steps_per_epoch": -1, "batch_size": 1, "accumulate": 1, "processes": 1, "epochs": 3} | values
        made.parameters = resolved.model_copy(update=given)
        settings = made.training_settings()
        return settings.steps_per_epoch, settings.steps

    assert steps() == (7, 21)
    assert steps(batch_size=2) == steps(accumulate=2) == steps(processes=2) == (3, 9)
    assert steps(batch_size=64) == (1, 3)
    assert steps(steps_per_epoch=5, batch_size=2) == (5, 15)


def test_a_fold_without_a_training_case_is_refused(make_setup: Callable[..., RunSetup]) -> None:
    made = make_setup()
    made.cases_by_split["train"] = made.training_cases.iloc[:0]
    with pytest.raises(ParameterError, match="fold 0 of cohort tiny leaves no training case"):
        made.training_settings()

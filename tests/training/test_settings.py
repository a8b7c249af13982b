"""Settings of the training loop: what follows from them, and which of them decide the result."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workbench.training.settings import TrainingSettings


def test_the_length_and_the_interval_of_recorded_values() -> None:
    assert TrainingSettings(epochs=3, steps_per_epoch=7).steps == 21
    assert TrainingSettings(epochs=3, steps_per_epoch=7).record_interval == 1
    assert TrainingSettings(epochs=100, steps_per_epoch=250).record_interval == 25
    assert TrainingSettings(record_every=4).record_interval == 4


def test_only_what_changes_no_result_may_change_when_a_run_is_resumed() -> None:
    free = {"workers": 3, "checkpoint_every": 5, "record_every": 6, "compile": True}
    assert TrainingSettings(**free).decisive() == TrainingSettings().decisive()
    assert set(TrainingSettings().decisive()) == set(TrainingSettings.model_fields) - set(free)
    assert TrainingSettings(seed=1).decisive() != TrainingSettings().decisive()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"ema": 1.0}, {"clip": float("inf")}, {"epoch": 1}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainingSettings(**wrong)

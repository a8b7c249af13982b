"""Where the protocols of runs differ: what is said of it, of whom, and what is passed over."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.records.index import RunRow
from workbench.records.protocol import exposure, images, optimisation, protocol_remarks
from workbench.setup.parameters import ExperimentParameters


def row(method: str, run: str, budget: dict[str, Any] | None = None, **values: Any) -> RunRow:
    parameters = ExperimentParameters.build(method, {"size": "paper", **values}).resolve().identity()
    return RunRow(f"e/{run}", "e", "completed", method=method, parameters=parameters, budget=budget or {})


def test_runs_of_one_protocol_differ_in_nothing() -> None:
    same: dict[str, Any] = {
        "optimiser": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-5, "warmup": 0.05, "batch_size": 2, "mirror": "none",
        "augmentation": "light", "modality_dropout": 1.0, "dropout_mode": "subset",
    }  # fmt: skip
    budget = {"steps": 100, "samples": 200, "flops": 10**15}
    assert protocol_remarks([row("unet", "a", budget, **same), row("mmformer", "b", budget | {"samples": 208}, **same)]) == []
    assert protocol_remarks([row("unet", "a", budget)]) == []
    assert protocol_remarks([]) == []


def test_each_respect_in_which_they_differ_is_said_once() -> None:
    runs = [
        row("unet", "aaaaaa", {"steps": 100, "samples": 200, "flops": 10**15}),
        row("segresnet", "bbbbbb", {"steps": 100, "samples": 100, "flops": 10**15}),
        row("pooled_unet", "cccccc", {"steps": 100, "samples": 200, "flops": 3 * 10**15}),
        row("unet", "dddddd", {}, modality_dropout=0.25, withhold="flair"),
    ]
    shown, optimised, seen, samples, operations = protocol_remarks(runs)
    assert shown == (
        "Training showed these runs different sequences: all sequences always (unet · aaaaaa, segresnet · bbbbbb); one image "
        "of one sequence at a time (pooled_unet · cccccc); each sequence hidden with probability 0.25, never flair "
        "(unet · dddddd)."
    )
    assert "SGD 0.01, polynomial decay, weight decay 3e-05, batches of 2 (unet · aaaaaa, pooled_unet · cccccc, " in optimised
    assert "AdamW 0.0001, cosine decay after 5% warm-up, weight decay 1e-05, batches of 1 (segresnet · bbbbbb)" in optimised
    assert "augmentation nnunet, test-time mirroring along xyz (unet · aaaaaa" in seen
    assert "augmentation light (segresnet · bbbbbb)" in seen
    assert samples.startswith("Unequal effort: these runs took different numbers of samples (unet · aaaaaa 200, segresnet")
    assert "operations (unet · aaaaaa 1.0e+15, segresnet · bbbbbb 1.0e+15, pooled_unet · cccccc 3.0e+15)" in operations


def test_steps_are_named_rather_than_samples() -> None:
    runs = [row("unet", name, {"steps": steps, "samples": 2 * steps}) for name, steps in (("a", 100), ("b", 300))]
    assert protocol_remarks(runs) == [
        "Unequal effort: these runs took different numbers of optimiser steps (unet · a 100, unet · b 300)."
    ]
    near = [row("unet", name, {"steps": steps}) for name, steps in (("a", 100), ("b", 102))]
    assert protocol_remarks(near) == []


def test_words_for_what_training_hid() -> None:
    assert exposure("unet", {"modality_dropout": 0.0}) == "all sequences always"
    assert exposure("mmformer", {"modality_dropout": 1.0, "dropout_mode": "subset"}) == "any subset of sequences"
    assert exposure("unet", {"modality_dropout": 0.5, "dropout_mode": "subset"}) == "any subset of sequences with probability 0.5"
    assert (
        exposure("mome", {"modality_dropout": 0.0, "withhold": "t1,t2"}) == "one image of one sequence at a time, never t1 or t2"
    )
    assert exposure("external", {"modality_dropout": 0.5}) == exposure("unet", {}) == ""


def test_an_older_record_had_the_light_set_and_no_mirroring() -> None:
    assert images("unet", {"augment": True}) == "augmentation light"
    assert images("unet", {"augment": False, "augmentation": "nnunet"}) == "no augmentation"
    assert images("radiomics", {}) == optimisation("radiomics", {}) == ""


@pytest.mark.parametrize(
    "wrong", [{"modality_dropout": "much"}, {"modality_dropout": None}, {"optimiser": "sgd", "learning_rate": []}]
)
def test_a_record_written_by_hand_is_passed_over(wrong: dict[str, Any]) -> None:
    rows = [RunRow("e/a", "e", "completed", method="unet", parameters=wrong), row("unet", "b")]
    assert protocol_remarks(rows) == []

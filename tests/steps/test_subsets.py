"""A run judged under every subset of its cases' sequences, one of which training never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.experiments.experiment import Experiment
from workbench.experiments.reopening import robustness_of
from workbench.inference.export import load_logits
from workbench.inference.predict import predict_case
from workbench.records.run_folder import SUBSET_MARKERS_FILE, SUBSET_METRICS_FILE
from workbench.sampling.batches import Sampler
from workbench.setup.parameters import ExperimentParameters
from workbench.steps import subsets
from workbench.steps.subsets import shown_sets, subset_results, untrained_subsets

QUICK = {
    "size": "demo", "spacing": 6.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "width": 4, "levels": 3, "patch": 16,
    "sampling": "patch", "threads": 1, "batch_size": 1, "modality_dropout": 0.0, "maps": 0,
}  # fmt: skip


def experiment(cohort: Cohort, folder: Path, **values: object) -> Experiment:
    parameters = {**QUICK, "cohort": str(cohort.folder), "runs": str(folder), **values}
    return Experiment(ExperimentParameters.build("unet", parameters), progress=False)


@pytest.fixture(scope="module")
def judged(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A U-Net that never saw FLAIR, judged under all subsets of all test cases."""
    return experiment(tiny_cohort, tmp_path_factory.mktemp("runs"), withhold="flair", subsets="all").train().robustness()


def test_every_subset_of_what_each_case_has_is_there(judged: Experiment) -> None:
    metrics = judged.run.subset_metrics()
    assert metrics is not None
    assert set(metrics["split"]) == {"test"}
    for name, rows in metrics.groupby("case"):
        assert rows["present"].nunique() == 2 ** len(judged.cohort.present(str(name))) - 1
    whole = judged.run.metrics()
    assert whole is not None
    complete = metrics.merge(whole, on=["case", "present", "region", "metric"], suffixes=("", "_alone"))
    assert len(complete) == len(whole[whole["split"] == "test"]), "all sequences: the ordinary evaluation"
    pd.testing.assert_series_equal(complete["value"], complete["value_alone"], check_names=False)
    assert not (judged.run.folder / "subsets").exists(), "what was kept on the way is gone"


def test_tables_mark_what_training_never_showed(judged: Experiment) -> None:
    untrained = untrained_subsets(judged)
    assert "t1+t1c+t2" not in untrained, "some training case showed these three"
    assert {p for p in untrained if "flair" in p} == {p for p in judged.run.subset_metrics()["present"] if "flair" in p}
    table = judged.result_table("subsets")
    assert "FLAIR †" in table.index
    assert len(judged.result_table("added_sequence").loc["Dice WT"]) == 5, "any, and each of four"
    assert {"number", "added", "segmentation", "markers"} == set(subset_results(judged))
    assert judged.show("subsets").data[:4] == b"\x89PNG"
    assert judged.show("subset_number").data[:4] == b"\x89PNG"
    assert any("flair was withheld" in note for note in judged.training["notes"])


def test_a_withheld_sequence_is_in_no_training_batch(judged: Experiment) -> None:
    sampler = Sampler(judged.prepared, judged.cases_by_split["train"], judged.sampling_settings(), 0, judged.modalities)
    place = judged.modalities.index("flair")
    for step in range(8):
        batch = sampler.batch(step)
        assert not batch.present[:, place].any()
        assert not batch.images[:, place].any()
        assert batch.present.any(dim=1).all()


def test_validation_cases_do_not_show_it_either_when_they_are_predicted(judged: Experiment) -> None:
    """Thresholds and calibration are fitted on these predictions."""
    judged.predict().evaluate()
    name = next(str(c) for c in judged.cases_by_split["validation"]["case"] if "flair" in judged.cohort.present(str(c)))
    table = judged.run.metrics()
    assert table is not None
    shown = {split: set("+".join(rows["present"]).split("+")) for split, rows in table.groupby("split")}
    assert "flair" in shown["test"]
    assert "flair" not in shown["validation"]
    case, model = judged.prepared.case(name), judged.trained_model()
    alone = predict_case(model, case, modalities=judged.modalities, patch=judged.patch, present=("t1", "t1c", "t2"))
    stored = load_logits(judged.run.folder / "predictions" / f"{name}.logits.b2nd")
    np.testing.assert_allclose(stored, alone.logits, rtol=1e-2, atol=1e-2)


def test_an_interrupted_evaluation_goes_on_where_it_was(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = experiment(tiny_cohort, tmp_path, subsets="few", fold=1).train()
    real, done = subsets._judge, []

    def judge(*arguments: object) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(arguments[-1]["case"])  # type: ignore[index]
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(subsets, "_judge", judge)
    with pytest.raises(KeyboardInterrupt):
        begun.robustness()
    assert begun.run.subset_metrics() is None
    done.append("interrupted once")
    (begun.run.folder / "subsets" / ".0123.tmp.half.parquet").write_bytes(b"half")  # as `kill -9` leaves it
    begun.robustness()
    metrics = begun.run.subset_metrics()
    assert metrics is not None
    tests = {str(name) for name in begun.cases_by_split["test"]["case"]}
    assert set(metrics["case"]) == {name for name in tests if tiny_cohort.path(name, "segmentation") is not None}
    assert sorted(name for name in done if name in tests) == sorted(tests), "no case was judged twice"
    assert not (begun.run.folder / "subsets").exists()


def test_where_no_case_can_be_judged_the_tables_are_empty(judged: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [judged.run.folder / name for name in (SUBSET_METRICS_FILE, SUBSET_MARKERS_FILE)]
    before = [path.read_bytes() for path in tables]
    for path in tables:
        path.unlink()
    monkeypatch.setattr(subsets, "judged_cases", lambda experiment, wanted: [])
    try:
        judged.robustness()
        assert robustness_of([judged.run.folder]).empty
    finally:
        for path, content in zip(tables, before, strict=True):
            path.write_bytes(content)


def test_many_sequences_are_judged_under_few_sets() -> None:
    names = tuple("abcdefgh")
    sets = shown_sets(names)
    assert {len(chosen) for chosen in sets} == {1, 2, 7, 8}
    assert len(shown_sets(names[:4])) == 15

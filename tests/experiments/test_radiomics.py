"""Radiomics as an experiment: the run folder of the contract, nothing of test in the fit, refusals by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, RunError
from workbench.experiments.application import predict_cohort, predict_radiomics
from workbench.experiments.radiomics import RadiomicsExperiment
from workbench.experiments.radiomics_refit import FEATURES_FILE
from workbench.files import read_json, write_json, write_parquet
from workbench.prepare.images import native_labels
from workbench.records.pretrained import PRETRAINED_FILE
from workbench.records.run_folder import RunFolder
from workbench.reports.comparison import compare
from workbench.setup.parameters import ExperimentParameters, applicable

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def experiment(cohort: Cohort, runs: Path, **values: Any) -> RadiomicsExperiment:
    given = {"size": "demo", "spacing": 4.0, "markers": "idh", "resamples": 100, "threads": 1, "inner_folds": 2} | values
    given |= {"cohort": str(cohort.folder), "runs": str(runs)}
    return RadiomicsExperiment(ExperimentParameters.build("radiomics", given), progress=False)


def with_cases(cohort: Cohort, folder: Path, change: Any) -> Cohort:
    """The tiny cohort with another table; same images, same folds."""
    table = cohort.cases.copy()
    changed = change(table)
    table = table if changed is None else changed
    made = Cohort.create(folder, cohort.info.model_copy(update={"image_root": str(cohort.image_root)}), table)
    make_folds(made)
    if (cohort.folder / "prepared").is_dir():  # what did not change is not prepared again
        shutil.copytree(cohort.folder / "prepared", folder / "prepared")
    return made


@pytest.fixture(scope="module")
def finished(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RadiomicsExperiment:
    return experiment(tiny_cohort, tmp_path_factory.mktemp("runs")).train().evaluate()


def test_a_run_leaves_the_folder_of_the_contract(finished: RadiomicsExperiment, tiny_cohort: Cohort) -> None:
    run = finished.run
    assert run.state == "completed"
    markers = run.markers()
    assert markers is not None
    assert list(markers.columns) == [
        "case", "subject", "site", "fold", "split", "present", "marker", "class", "truth", "logit", "probability",
        "dataset", "lesion",
    ]  # fmt: skip
    held = finished.split[finished.split != "train"]
    assert sorted(markers["case"]) == sorted(held.index)
    np.testing.assert_allclose(markers["probability"], 1 / (1 + np.exp(-markers["logit"])))
    assert markers["probability"].notna().all()
    assert run.metrics() is not None
    assert run.metrics().empty  # type: ignore[union-attr]
    assert (run.folder / "headline.json").is_file()
    assert "epochs" not in run.spec["parameters"]
    assert run.status["budget"]["steps"] == 0
    age = pd.read_parquet(run.folder / "age_only.parquet")
    assert sorted(age["case"]) == sorted(markers["case"])
    assert not np.allclose(age["probability"], markers["probability"])
    fitted = finished.training["fitted"]["idh"]
    assert fitted["volumes_and_place"]["columns"] == [
        "shape/ET/volume", "shape/NCR/volume", "shape/ED/volume",
        "location/right", "location/front", "location/top", "location/lateral",
    ]  # fmt: skip
    assert set(fitted["volumes_and_place"]["hyper-parameters"]) == {"classify__C"}


def test_what_only_networks_have_is_said_and_no_error(finished: RadiomicsExperiment) -> None:
    assert finished.explain() is finished
    assert not (finished.run.folder / "maps").exists()
    assert "tried on networks" in finished.result_table("sensitivity").data
    assert finished.result_table("decisions").shape[0] == 3


def test_what_cannot_be_measured_is_missing_and_said(finished: RadiomicsExperiment, tiny_cohort: Cohort) -> None:
    features = finished.features
    bare, whole, no_flair = "TINY-00003-000", "TINY-00004-000", "TINY-00001-000"
    assert np.isfinite(features.drop(columns="clinical/female").loc["TINY-00000-000"]).all()
    if no_flair in features.index:
        assert features.loc[no_flair, "missing/flair"] == 1
        assert features.loc[no_flair].filter(like="/flair/").isna().all()
    if whole in features.index:
        assert features.loc[whole].filter(like="/ET/").isna().all()
    if finished.split[bare] == "train":
        assert bare not in features.index
        assert any("have no mask" in note for note in finished.notes)
    else:
        assert features.loc[bare].filter(like="shape/").isna().all()
    assert any("upper bound" in note for note in finished.training["notes"])


def test_repeating_measures_and_writes_nothing(finished: RadiomicsExperiment, tiny_cohort: Cohort) -> None:
    cache = sorted((finished.prepared.folder / "radiomics").glob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in [*finished.run.folder.rglob("*"), *cache] if path.is_file()}
    again = experiment(tiny_cohort, finished.run.folder.parents[1])
    again.train().evaluate()
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} <= {"progress.json", "heartbeat"}
    assert len(cache) == len(finished.features)
    other = experiment(tiny_cohort, finished.run.folder.parents[1], classifier="svm").train()
    assert sorted((finished.prepared.folder / "radiomics").glob("*.json")) == cache, "another classifier measures nothing again"
    pd.testing.assert_frame_equal(other.features, finished.features)


def test_nothing_of_the_held_out_cases_reaches_the_fit(
    finished: RadiomicsExperiment, tiny_cohort: Cohort, tmp_path: Path
) -> None:
    """Their labels, ages and masks changed: the same hyper-parameters, the same logits for a case that was left alone."""
    split = finished.split
    held = [name for name in split.index if split[name] != "train"]

    def change(table: pd.DataFrame) -> None:
        rows = table["case"].isin(held)
        table.loc[rows, "idh"] = 1 - table.loc[rows, "idh"]
        table.loc[rows, "age"] = 99.0

    changed = with_cases(tiny_cohort, tmp_path / "cohort", change)
    (changed.folder / "folds.json").write_bytes((tiny_cohort.folder / "folds.json").read_bytes())
    other = experiment(changed, tmp_path / "runs").train().evaluate()
    assert (other.split == split).all()
    assert other.training["fitted"] == finished.training["fitted"]
    ours, theirs = finished.run.markers(), other.run.markers()
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours["logit"], theirs["logit"])
    np.testing.assert_array_equal(1 - ours["truth"], theirs["truth"])
    # and the test can fail: a training label does reach the fit
    train = [name for name in split.index if split[name] == "train"]

    def relabel(table: pd.DataFrame) -> None:
        rows = table["case"].isin(train[:3])
        table.loc[rows, "idh"] = 1 - table.loc[rows, "idh"]

    third = with_cases(tiny_cohort, tmp_path / "third", relabel)
    (third.folder / "folds.json").write_bytes((tiny_cohort.folder / "folds.json").read_bytes())
    assert not np.array_equal(experiment(third, tmp_path / "runs").train().evaluate().run.markers()["logit"], ours["logit"])


@pytest.mark.parametrize("baseline", ["age_only", "volumes_and_place"])
def test_a_baseline_as_the_classifier_equals_it_beside_another(
    finished: RadiomicsExperiment, tiny_cohort: Cohort, baseline: str
) -> None:
    alone = experiment(tiny_cohort, finished.run.folder.parents[1], classifier=baseline).train().evaluate()
    beside = pd.read_parquet(finished.run.folder / f"{baseline}.parquet")
    markers = alone.run.markers()
    assert markers is not None
    np.testing.assert_array_equal(markers["logit"], beside["logit"])
    table = compare(finished.run, alone.run, resamples=100)
    assert set(table["metric"]) == {"auc", "accuracy", "brier"}
    assert (table["n"] == (finished.split == "test").sum()).all()


def test_the_baselines_stand_beside_the_classifier_in_older_runs_age_alone(finished: RadiomicsExperiment) -> None:
    table = finished.beside_baselines()
    assert list(table.index) == [("idh", "mutant", "age only"), ("idh", "mutant", "volumes and place")]
    assert (table["n"] == 3).all()
    kept = finished.run.path("volumes_and_place.parquet").rename(finished.run.path("kept"))
    assert list(finished.beside_baselines().index) == [("idh", "mutant", "age only")]
    kept.rename(finished.run.path("volumes_and_place.parquet"))


@pytest.mark.slow
def test_a_marker_of_one_class_is_left_out_with_a_note(tiny_cohort: Cohort, tmp_path: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        table["codel"] = 0
        table["tert"] = pd.NA

    cohort = with_cases(tiny_cohort, tmp_path / "cohort", change)
    found = experiment(cohort, tmp_path / "runs", markers="idh,codel,tert").train().evaluate()
    markers = found.run.markers()
    assert markers is not None
    assert set(markers["marker"]) == {"idh"}
    assert any("'codel' is 0 in every training case" in note for note in found.training["notes"])
    assert any("'tert' is known for no training case" in note for note in found.training["notes"])
    with pytest.raises(ParameterError, match="no marker is left"):
        experiment(cohort, tmp_path / "runs", markers="codel").train()


@pytest.mark.slow
def test_without_masks_only_the_brain_can_be_measured(tiny_cohort: Cohort, tmp_path: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        table["segmentation"], table["labels"] = pd.NA, pd.NA

    cohort = with_cases(tiny_cohort, tmp_path / "cohort", change)
    with pytest.raises(ParameterError, match="mask_source=brain"):
        experiment(cohort, tmp_path / "runs").train()
    with pytest.raises(ParameterError, match="was measured without masks: classifier=volumes_and_place has nothing"):
        experiment(cohort, tmp_path / "runs", mask_source="brain", classifier="volumes_and_place").train()
    found = experiment(cohort, tmp_path / "runs", mask_source="brain").train().evaluate()
    assert pd.read_parquet(found.run.path("volumes_and_place.parquet")).empty
    assert found.run.markers() is not None
    assert {name.split("/")[1] for name in found.features if name.startswith("shape")} == {"brain"}


def test_a_finished_run_predicts_its_held_out_cases_as_before(
    finished: RadiomicsExperiment, tiny_cohort: Cohort, tmp_path: Path
) -> None:
    with (
        pytest.warns(UserWarning, match="Contaminated: 9 of 12"),
        pytest.raises(InputError, match=r"TINY-00003-000.*has no mask"),
    ):
        predict_cohort(finished.run.folder, tiny_cohort.folder, tmp_path / "refused")
    drawn = with_cases(tiny_cohort, tmp_path / "cohort", lambda table: table.drop(index=3))
    with pytest.warns(UserWarning, match="Contaminated"):
        out = predict_cohort(finished.run.folder, drawn.folder, tmp_path / "out")
    table = pd.read_csv(out / "markers.csv").set_index("case")
    assert len(table) == len(tiny_cohort) - 1
    ours = finished.run.markers()
    assert ours is not None
    ours = ours[ours["case"] != "TINY-00003-000"].set_index("case")
    np.testing.assert_allclose(table.loc[ours.index, "logit"], ours["logit"], rtol=1e-9)


def test_a_run_fitted_by_another_scikit_learn_is_refused(finished: RadiomicsExperiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.experiments.radiomics_refit.sklearn.__version__", "0.1")
    with pytest.raises(RunError, match=r"this is 0\.1"):
        finished.fitted("idh")


@pytest.mark.slow
def test_masks_must_come_from_a_segmentation_run_of_the_same_cohort_and_fold(
    finished: RadiomicsExperiment, tiny_cohort: Cohort, tmp_path: Path
) -> None:
    runs = finished.run.folder.parents[1]
    with pytest.raises(ParameterError, match="needs 'mask_run'"):
        experiment(tiny_cohort, runs, mask_source="predicted").train()
    with pytest.raises(ParameterError, match="set mask_source=predicted"):
        experiment(tiny_cohort, runs, mask_run="default/abc").train()
    itself = f"default/{finished.run.folder.name}"
    with pytest.raises(ParameterError, match="no predicted masks"):
        experiment(tiny_cohort, runs, mask_source="predicted", mask_run=itself).train()
    with pytest.raises(ParameterError, match="tested fold 0, not fold 1"):
        experiment(tiny_cohort, runs, mask_source="predicted", mask_run=itself, fold=1).train()
    other = with_cases(tiny_cohort, tmp_path / "cohort", lambda table: None)
    other_run = experiment(other, runs, seed=5, experiment="other").train().evaluate()
    if other.fingerprint() != tiny_cohort.fingerprint():
        with pytest.raises(ParameterError, match="not on this one"):
            experiment(tiny_cohort, runs, mask_source="predicted", mask_run=f"other/{other_run.run.folder.name}").train()


def segmentation_run(cohort: Cohort, root: Path, fold: int = 0) -> RunFolder:
    """A finished run of a segmenting network whose predictions are the truth; of cases without a glioma mask, an empty one."""
    path = os.path.relpath(cohort.folder, root / "masks" / "abc")
    known = {"name": "tiny", "path": path, "fingerprint": cohort.fingerprint(), "phantom": True}
    spec = {"run": "abc", "method": "unet", "experiment": "masks", "parameters": {"fold": fold}, "cohort": known}
    run = RunFolder.create(root / "masks", spec)
    write_json(run.path("training.json"), {"model": {"classes": 4}})
    write_parquet(run.path("metrics.parquet"), pd.DataFrame({"case": []}))
    for _, row in cohort.cases.iterrows():
        image = nib.load(cohort.path(row["case"], cohort.present(row["case"])[0]))
        drawn = native_labels(cohort, row["case"]) if str(row["labels"]) == "glioma" else None
        labels = np.zeros(image.shape, np.uint8) if drawn is None else drawn
        nib.save(nib.Nifti1Image(labels, image.affine), run.path("predictions", f"{row['case']}.nii.gz"))
    return run


def test_what_the_masks_network_had_seen_travels_on(tiny_cohort: Cohort, tmp_path: Path, finished: RadiomicsExperiment) -> None:
    masks = segmentation_run(tiny_cohort, tmp_path)
    verdict = {"verdict": "contaminated", "sentence": "Contaminated: it has seen them."}
    coverage = {"file": "w.pt", "title": "W"}
    record = {"coverage": coverage, "report": "w", "contamination": verdict, "seen": {"collections": ["brats2021"]}}
    write_json(masks.path(PRETRAINED_FILE), record)
    found = experiment(tiny_cohort, tmp_path, mask_source="predicted", mask_run="masks/abc", texture=False).train()
    assert any("of the weights that drew these masks: Contaminated" in note for note in found.training["notes"])
    assert found.training["seen"]["collections"] == ["brats2021"]
    assert len(found.training["seen"]["cohorts"]) == 1
    assert finished.training["seen"]["collections"] == []


@pytest.mark.slow
def test_perfect_predicted_masks_measure_what_the_truth_does(
    finished: RadiomicsExperiment, tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = segmentation_run(tiny_cohort, tmp_path)
    found = experiment(tiny_cohort, tmp_path, mask_source="predicted", mask_run="masks/abc").train().evaluate()
    labels = tiny_cohort.cases.set_index("case")["labels"].astype(str)
    drawn = (labels.reindex(found.features.index) == "glioma").to_numpy()
    pd.testing.assert_frame_equal(found.features[drawn], finished.features[drawn][found.features.columns])
    assert any("masks that run masks/abc predicted" in note for note in found.training["notes"])
    assert not any("upper bound" in note for note in found.training["notes"])
    # a finished run has its mask run predict other cases first
    asked = []

    def predict(folder: Path, cohort: Path, out: Path) -> Path:
        asked.append((folder, cohort))
        return masks.path("predictions")

    monkeypatch.setattr("workbench.experiments.application.predict_cohort", predict)
    ours = found.run.markers()
    assert ours is not None
    table = predict_radiomics(found.run, tiny_cohort, tmp_path / "out")
    assert asked == [(masks.folder, tiny_cohort.folder)]
    np.testing.assert_allclose(table.loc[ours["case"], "idh"], ours["logit"])


def test_parameters_of_networks_are_refused_by_name() -> None:
    for name in ("epochs", "patch", "sampling", "device", "augment"):
        with pytest.raises(ParameterError, match=f"'{name}' is one of networks"):
            ExperimentParameters.build("radiomics", {name: 3})
    assert {"classifier", "mask_source", "spacing", "fold"} <= set(applicable("radiomics"))


def test_the_features_on_file_are_those_that_were_fitted(finished: RadiomicsExperiment) -> None:
    stored = pd.read_parquet(finished.run.folder / FEATURES_FILE).set_index("case")
    columns = finished.training["fitted"]["idh"]["logistic"]["columns"]
    assert set(columns) <= set(stored.columns)
    assert not any(name.startswith("clinical/") for name in columns)
    assert read_json(finished.run.folder / "training.json")["mask_source"] == "truth"

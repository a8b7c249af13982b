"""A fitted radiomics run, fitted again from its folder and applied to other cases: there are no weights to load."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import sklearn

from workbench.cohort.table import Cohort
from workbench.errors import InputError, Problem, RunError
from workbench.experiments.experiment import TRAINING_FILE
from workbench.experiments.radiomics_features import MaskSource, measure, predicted_masks
from workbench.files import read_json
from workbench.models.radiomics.classifiers import Fitted, fit
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import RunFolder, read_table

FEATURES_FILE, TRAINED_ON_FILE = "features.parquet", "trained_on.parquet"


def refit(run: RunFolder, marker: str, classifier: str) -> Fitted:
    """A marker's classifier, fitted again from what the run folder holds: features, labels, chosen hyper-parameters.

    Raises:
        RunError: the run knows no such marker or classifier, or was fitted by another scikit-learn.
    """
    training = read_json(run.path(TRAINING_FILE))
    known = training["fitted"].get(marker, {})
    if classifier not in known:
        raise RunError(f"run {run.folder} has no {classifier} classifier for marker '{marker}'")
    if training["scikit_learn"] != sklearn.__version__:
        raise RunError(
            f"run {run.folder} was fitted by scikit-learn {training['scikit_learn']}, this is {sklearn.__version__}: it may fit "
            "differently; install that version, or repeat the run"
        )
    features, cases = read_table(run.path(FEATURES_FILE)), read_table(run.path(TRAINED_ON_FILE))
    if features is None or cases is None:
        raise RunError(f"run {run.folder} is damaged: {FEATURES_FILE} or {TRAINED_ON_FILE} is missing")
    table = features.set_index("case").loc[cases["case"], known[classifier]["columns"]]
    cases = cases.set_index("case")
    parameters = run.spec["parameters"]
    return fit(
        table, cases[marker], cases["subject"], marker, classifier=classifier, chosen=known[classifier]["hyper-parameters"],
        seed=parameters["seed"], inner_folds=parameters["inner_folds"],
    )  # fmt: skip


def predict_radiomics(run: RunFolder, cohort: Cohort, out: Path) -> pd.DataFrame:
    """Apply a fitted run to every case of another cohort: a column of logits per marker, index = case.

    Tumours are measured as in the run: in the cohort's own masks, in the brain, or in masks that the run's mask run predicts
    first, into `out`.

    Raises:
        RunError: the run is not fitted, or its mask run is gone.
        InputError: a case has no mask, where the run measures reference masks.
    """
    training, parameters = read_json(run.path(TRAINING_FILE)), run.spec["parameters"]
    modalities = tuple(training["modalities"])
    source = MaskSource(training["mask_source"])
    if source.kind == "predicted":
        from workbench.experiments.application import predict_cohort

        segmenter = RunFolder.open(run.folder.parents[1] / parameters["mask_run"])
        source = predicted_masks(segmenter, predict_cohort(segmenter.folder, cohort.folder, out / "masks"))
    elif source.kind == "truth":
        bare = cohort.cases[cohort.cases["segmentation"].isna()]["case"]
        if len(bare):
            remedy = "give the cohort masks, or repeat the run with mask_source=predicted or brain"
            raise InputError(*(Problem(case=str(case), message="has no mask to measure", remedy=remedy) for case in bare))
    prepared = prepare_cohort(cohort, PrepareSettings(spacing=parameters["spacing"]), progress=True)
    table = measure(cohort, prepared, cohort.cases, modalities, source, bool(parameters["texture"]))
    classifier = parameters["classifier"]
    return pd.DataFrame(
        {marker: refit(run, marker, classifier).logit(table) for marker in training["markers"]}, index=table.index
    )

"""The classifiers of a radiomics run, fitted again from its folder: there are no weights to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sklearn

from workbench.errors import RunError
from workbench.files import read_json
from workbench.models.radiomics.classifiers import Fitted, fit
from workbench.moved import moved_from
from workbench.records.run_folder import FEATURES_FILE, TRAINING_FILE, RunFolder, read_table

TRAINED_ON_FILE = "trained_on.parquet"


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


if not TYPE_CHECKING:  # for one release
    __getattr__ = moved_from(__name__)

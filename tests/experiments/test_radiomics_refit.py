"""A classifier fitted again from what a run folder holds: the same one, or a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn

from workbench.errors import RunError
from workbench.experiments.radiomics_refit import FEATURES_FILE, TRAINED_ON_FILE, refit
from workbench.files import read_json, write_json, write_parquet
from workbench.models.radiomics.classifiers import fit
from workbench.records.run_folder import TRAINING_FILE, RunFolder

CASES = [f"c{number:02d}" for number in range(24)]


@pytest.fixture
def features() -> pd.DataFrame:
    """Two features of each case, the first of which tells mutant from wild type; and a third one that was not fitted."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(24, 3)) + np.array([[2.0, 0, 0]]) * (np.arange(24) % 2)[:, None]
    return pd.DataFrame(values, index=CASES, columns=["shape/a", "shape/b", "shape/c"])


@pytest.fixture
def run(features: pd.DataFrame, tmp_path: Path) -> RunFolder:
    """A run fitted on the first twenty cases, which lie in its folder in another order."""
    parameters = {"seed": 3, "inner_folds": 2}
    spec = {"run": "r", "method": "radiomics", "experiment": "e", "parameters": parameters, "cohort": {"name": "demo"}}
    made = RunFolder.create(tmp_path / "e", spec)
    known = {"columns": ["shape/b", "shape/a"], "hyper-parameters": {"classify__C": 0.1, "select__k": 2}}
    fitted = {"idh": {"logistic": known}}
    write_json(made.path(TRAINING_FILE), {"fitted": fitted, "scikit_learn": sklearn.__version__})
    write_parquet(made.path(FEATURES_FILE), features.iloc[::-1].rename_axis("case").reset_index())
    trained_on = pd.DataFrame({"case": CASES[:20], "subject": CASES[:20], "idh": [0.0, 1.0] * 10})
    write_parquet(made.path(TRAINED_ON_FILE), trained_on)
    return made


def test_it_is_the_classifier_that_was_fitted(run: RunFolder, features: pd.DataFrame) -> None:
    """Of the chosen hyper-parameters, columns and training cases, aligned by name."""
    again = refit(run, "idh", "logistic")
    chosen = read_json(run.path(TRAINING_FILE))["fitted"]["idh"]["logistic"]["hyper-parameters"]
    table = features.loc[CASES[:20], ["shape/b", "shape/a"]]
    labels = pd.Series([0.0, 1.0] * 10, index=CASES[:20])
    wanted = fit(
        table, labels, pd.Series(CASES[:20], index=CASES[:20]), "idh", classifier="logistic", inner_folds=2, seed=3, chosen=chosen
    )
    assert again.columns == ("shape/b", "shape/a")
    np.testing.assert_array_equal(again.logit(features), wanted.logit(features))


def test_what_was_not_fitted_is_named(run: RunFolder) -> None:
    with pytest.raises(RunError, match="has no svm classifier for marker 'idh'"):
        refit(run, "idh", "svm")
    with pytest.raises(RunError, match="has no logistic classifier for marker 'tert'"):
        refit(run, "tert", "logistic")


def test_another_scikit_learn_may_fit_differently(run: RunFolder) -> None:
    write_json(run.path(TRAINING_FILE), read_json(run.path(TRAINING_FILE)) | {"scikit_learn": "0.1"})
    with pytest.raises(RunError, match=rf"fitted by scikit-learn 0\.1, this is {sklearn.__version__}"):
        refit(run, "idh", "logistic")


@pytest.mark.parametrize("file", [FEATURES_FILE, TRAINED_ON_FILE])
def test_a_lost_table_is_said(file: str, run: RunFolder) -> None:
    run.path(file).unlink()
    with pytest.raises(RunError, match=f"is damaged: .*{file}"):
        refit(run, "idh", "logistic")

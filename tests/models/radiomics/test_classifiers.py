"""The classical classifiers: against scikit-learn itself, without leakage, the same again from what was written down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from workbench.errors import ParameterError
from workbench.models.radiomics import classifiers
from workbench.models.radiomics.classifiers import (
    AGE,
    AGE_ONLY,
    BASELINES,
    FEMALE,
    GRIDS,
    VOLUMES_AND_PLACE,
    columns_of,
    fit,
    importance,
    positive,
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "TREES", 20)


def table(n: int = 40, features: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Two cases per subject; the first feature tells the marker, some values are missing, one column is empty."""
    rng = np.random.default_rng(seed)
    values = pd.Series(np.arange(n) % 4 // 2).astype("Int8")
    frame = pd.DataFrame(rng.normal(size=(n, features)), columns=[f"f{index:02d}" for index in range(features)])
    frame["f00"] += 3 * values.astype(float)
    frame.iloc[3, 0] = np.nan
    frame["empty"], frame["constant"] = np.nan, 1.0
    frame[AGE] = 60 - 10 * values.astype(float) + rng.normal(0, 5, n)
    frame.loc[5, AGE] = np.nan
    frame[FEMALE] = rng.integers(0, 2, n).astype(float)
    frame["shape/ET/volume"] = np.exp(rng.normal(2 - 2.5 * values.astype(float), 0.8, n))
    frame["location/front"] = np.clip(0.4 + 0.2 * values.astype(float) + rng.normal(0, 0.15, n), 0, 1)
    return frame, values, pd.Series([f"s{index // 2:02d}" for index in range(n)])


@pytest.mark.parametrize("classifier", GRIDS)
def test_it_learns_what_there_is_and_gives_finite_probabilities(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRIDS, "forest", {"select__k": [10], "classify__min_samples_leaf": [1]})
    frame, values, groups = table()
    fitted = fit(frame, values, groups, "idh", classifier=classifier, inner_folds=3, seed=0)
    fresh, truth, _ = table(seed=1)
    probability = fitted.probability(fresh)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert np.isfinite(fitted.logit(fresh)).all()
    assert roc_auc_score(truth, fitted.logit(fresh)) > 0.85
    assert ("f00" in fitted.selected()) == (classifier not in BASELINES)
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.logit(fresh))), np.clip(probability, 1e-6, 1 - 1e-6))


def test_age_only_is_scikit_learns_logistic_regression_on_age_and_sex() -> None:
    frame, values, groups = table()
    values[7] = pd.NA
    fitted = fit(frame, values, groups, "idh", classifier="age_only", inner_folds=3, seed=0)
    assert fitted.columns == (AGE, FEMALE)
    known = values.notna().to_numpy()
    oracle = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression())
    oracle.fit(frame.loc[known, [AGE, FEMALE]].to_numpy(), values[known].to_numpy(int))
    fresh = table(seed=1)[0]
    np.testing.assert_allclose(fitted.probability(fresh), oracle.predict_proba(fresh[[AGE, FEMALE]].to_numpy())[:, 1], rtol=1e-6)
    np.testing.assert_allclose(fitted.logit(fresh), oracle.decision_function(fresh[[AGE, FEMALE]].to_numpy()), rtol=1e-5)


def test_volumes_and_place_is_scikit_learns_logistic_regression_on_logarithms() -> None:
    frame, values, groups = table()
    fitted = fit(frame, values, groups, "idh", classifier=VOLUMES_AND_PLACE, inner_folds=3, seed=0)
    columns = ["shape/ET/volume", "location/front"]
    assert fitted.columns == tuple(columns)
    oracle = make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression(C=fitted.chosen["classify__C"]))
    oracle.fit(frame[columns].to_numpy(), values.to_numpy(int))
    fresh = table(seed=1)[0]
    np.testing.assert_allclose(fitted.logit(fresh), oracle.decision_function(fresh[columns].to_numpy()), rtol=1e-5)


def test_of_a_whole_tumour_mask_there_is_one_volume() -> None:
    names = ["intensity/WT/t1/mean", "shape/WT/volume", "location/top", "location/lateral", FEMALE]
    assert columns_of(VOLUMES_AND_PLACE, names) == ["shape/WT/volume", "location/top", "location/lateral"]
    assert columns_of(VOLUMES_AND_PLACE, ["shape/NCR/volume", *names])[0] == "shape/NCR/volume"
    assert columns_of(AGE_ONLY, names) == [FEMALE]
    assert columns_of("svm", names) == names
    assert columns_of(VOLUMES_AND_PLACE, ["shape/brain/volume"]) == []


@pytest.mark.parametrize("classifier", ["logistic", "svm", "forest"])
def test_the_chosen_hyper_parameters_fit_the_same_classifier_again(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GRIDS, "forest", {"select__k": [10], "classify__min_samples_leaf": [1, 3]})
    frame, values, groups = table()
    first = fit(frame, values, groups, "idh", classifier=classifier, inner_folds=3, seed=4)
    again = fit(frame, values, groups, "idh", classifier=classifier, inner_folds=3, seed=4, chosen=first.chosen)
    fresh = table(seed=1)[0]
    np.testing.assert_array_equal(first.logit(fresh), again.logit(fresh))
    other = fit(
        frame, values, groups, "idh", classifier=classifier, inner_folds=3, seed=4, chosen=first.chosen | {"select__k": 1}
    )
    assert not np.array_equal(first.logit(fresh), other.logit(fresh))


def test_no_subject_is_on_both_sides_of_an_inner_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case of a subject is a near copy; were they split, the inner AUC of pure noise would be high."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(30), 4)
    frame = pd.DataFrame(rng.normal(size=(30, 60))[subjects] + rng.normal(0, 0.01, (120, 60))).rename(columns=str)
    values = pd.Series(rng.permutation(np.arange(30) % 2)[subjects]).astype("Int8")
    monkeypatch.setitem(GRIDS, "forest", {"select__k": ["all"], "classify__min_samples_leaf": [1]})
    grouped = fit(frame, values, pd.Series(subjects), "idh", classifier="forest", inner_folds=5, seed=0)
    split = fit(frame, values, pd.Series(np.arange(120)), "idh", classifier="forest", inner_folds=5, seed=0)
    assert split.inner_auc > 0.95
    assert grouped.inner_auc < 0.8


def test_selection_is_learnt_inside_the_inner_folds() -> None:
    """Noise: selecting the best of 2,000 features on all cases first would give an inner AUC near 1."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(40, 2000))).rename(columns=str)
    values = pd.Series(np.arange(40) % 2).astype("Int8")
    fitted = fit(frame, values, pd.Series(range(40)), "idh", classifier="logistic", inner_folds=5, seed=0)
    assert fitted.inner_auc < 0.8  # the best of nine settings, hence not 0.5
    assert (
        roc_auc_score(values.astype(int), fitted.logit(frame)) > 0.95
    )  # on the cases that were fitted: what it must not be judged on


def test_constant_features_are_not_selected_and_perfect_ones_are() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    columns = np.stack([np.ones(6), truth * 2.0, np.arange(6.0)], axis=1)
    constant, perfect, graded = classifiers.f_score(columns, truth)
    assert constant == 0
    assert perfect > 1e100
    assert graded == pytest.approx(13.5)  # between 13.5 of 1 degree of freedom, within 4 of 4


def test_one_class_is_refused_and_few_subjects_are_noted() -> None:
    frame, values, groups = table()
    with pytest.raises(ParameterError, match="all of one class"):
        fit(frame, values * 0, groups, "idh", classifier="logistic", inner_folds=3, seed=0)
    rare = values * 0
    rare[:2] = 1  # one subject's two cases
    for classifier in ("logistic", "svm"):
        fitted = fit(frame, rare, groups, "codel", classifier=classifier, inner_folds=3, seed=0)
        assert "too few subjects" in fitted.note
        assert np.isfinite(fitted.logit(frame)).all()


def test_grade_is_four_against_the_rest_and_unknown_stays_unknown() -> None:
    values = pd.Series([2, 3, 4, pd.NA], dtype="Int8")
    np.testing.assert_array_equal(positive(values, "grade"), [0, 0, 1, np.nan])
    np.testing.assert_array_equal(positive(pd.Series([0, 1, pd.NA], dtype="Int8"), "idh"), [0, 1, np.nan])


def test_importance_finds_the_feature_that_matters_and_needs_both_classes() -> None:
    frame, values, groups = table()
    fitted = fit(frame, values, groups, "idh", classifier="logistic", inner_folds=3, seed=0, chosen={"select__k": 5})
    fresh, truth, _ = table(seed=1)
    found = importance(fitted, fresh, truth, seed=0, repeats=5).sort_values("drop", ascending=False)
    assert found.iloc[0]["feature"] == "f00"
    assert found.iloc[0]["drop"] > 0.1
    assert set(found["feature"]) == set(fitted.selected())
    pd.testing.assert_frame_equal(found, importance(fitted, fresh, truth, seed=0, repeats=5).loc[found.index])
    none = importance(fitted, fresh, truth * 0, seed=0)
    assert none.empty
    assert pd.concat([none, found])["drop"].dtype == float


def test_features_that_are_not_measured_are_imputed() -> None:
    frame, values, groups = table()
    fitted = fit(frame, values, groups, "idh", classifier="logistic", inner_folds=3, seed=0)
    bare = pd.DataFrame(index=["x"])
    medians = frame.median(numeric_only=True).to_frame().T
    np.testing.assert_allclose(fitted.logit(bare), fitted.logit(medians))
    assert classifiers.pipeline("logistic", 0).named_steps["impute"].strategy == "median"

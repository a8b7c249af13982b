"""From a table of features to a marker's probability: scikit-learn pipelines, tuned inside the training cases alone.

    impute (median) -> drop constants -> scale -> select the k features with the largest F -> classifier

All of it is one pipeline, so that medians, scales and the selection are learnt anew in every inner fold. Hyper-parameters are
chosen by inner cross-validation grouped by subject (area under the ROC curve); an SVM's decision values become probabilities by
Platt scaling on the same folds. No class weights: a marker's prevalence is part of what is learnt, and probabilities stay those
of the cohort. Nothing is stored as a pickle: the same features, labels, seed and hyper-parameters fit the same classifier again.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from workbench.errors import ParameterError
from workbench.seeding import derive_seed, stream

AGE, FEMALE = "clinical/age", "clinical/female"
AGE_ONLY, VOLUMES_AND_PLACE = "age_only", "volumes_and_place"
BASELINES = {AGE_ONLY: "age only", VOLUMES_AND_PLACE: "volumes and place"}
"""What every method has to beat -> its title: logistic regression on age and sex, or on the tumour's volumes and its place."""
_PARTS = tuple(f"shape/{part}/volume" for part in ("ET", "NCR", "ED"))
_PLACE = tuple(f"location/{axis}" for axis in ("right", "front", "top", "lateral"))
GRIDS: dict[str, dict[str, list[Any]]] = {
    "logistic": {"select__k": [5, 15, 40], "classify__C": [0.01, 0.1, 1.0]},
    "forest": {"select__k": [60], "classify__min_samples_leaf": [1, 3, 6]},
    "svm": {"select__k": [5, 15, 40], "classify__C": [0.1, 1.0, 10.0]},
    AGE_ONLY: {},
    VOLUMES_AND_PLACE: {"classify__C": [0.01, 0.1, 1.0, 10.0]},
}
"""What the inner cross-validation chooses from."""
TREES = 200
_CLIP = 1e-6


@dataclass(frozen=True)
class Fitted:
    """One marker's classifier."""

    marker: str
    estimator: Any
    columns: tuple[str, ...]
    """The features it takes, in order."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters, e.g. {'select__k': 15, 'classify__C': 0.1}."""
    inner_auc: float = float("nan")
    """Mean area under the curve over the inner folds at these; NaN where nothing was chosen."""
    note: str = ""

    def probability(self, features: pd.DataFrame) -> np.ndarray:
        """Probability of the positive class, (n,); features the table lacks count as not measured."""
        return self.estimator.predict_proba(features.reindex(columns=list(self.columns)).to_numpy(np.float64))[:, 1]

    def logit(self, features: pd.DataFrame) -> np.ndarray:
        """Log-odds of `probability`, (n,); probabilities of 0 and 1, which a forest can give, stop at 1e-6 from either."""
        probability = np.clip(self.probability(features), _CLIP, 1 - _CLIP)
        return np.log(probability / (1 - probability))

    def selected(self) -> list[str]:
        """Names of the features that the final fit kept, in the table's order."""
        pipeline = (
            self.estimator.calibrated_classifiers_[0].estimator
            if hasattr(self.estimator, "calibrated_classifiers_")
            else self.estimator
        )
        kept = np.arange(len(self.columns))
        for name in ("constant", "select"):
            if name in pipeline.named_steps:
                kept = kept[pipeline.named_steps[name].get_support()]
        return [self.columns[index] for index in kept]


def positive(values: pd.Series, marker: str) -> pd.Series:
    """Marker values as 0/1 floats, NaN where unknown; grade is 4 against 2 and 3."""
    known = values.astype("Float64").astype(float)
    return (known == (4 if marker == "grade" else 1)).astype(float).where(known.notna())


def f_score(table: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """F of each feature between the classes (analysis of variance); 0 for one that is constant in these cases.

    In an inner fold of a dozen cases a feature may well be constant, or separate the classes without any spread within them:
    the first must not be selected, the second has the largest F there is.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.nan_to_num(f_classif(table, truth)[0], nan=0.0)


def columns_of(classifier: str, names: Sequence[str]) -> list[str]:
    """Those of the features that a classifier is given, of the baselines their own; empty where none was measured.

    The volumes are those of ET, NCR and ED, of the whole tumour where no mask tells the parts apart.
    """
    if classifier == AGE_ONLY:
        return [name for name in (AGE, FEMALE) if name in names]
    if classifier == VOLUMES_AND_PLACE:
        volumes = [name for name in _PARTS if name in names] or [name for name in ("shape/WT/volume",) if name in names]
        return [*volumes, *(name for name in _PLACE if name in names)]
    return list(names)


def pipeline(classifier: str, seed: int) -> Pipeline:
    """The unfitted pipeline of a classifier."""
    prepare = [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]
    if classifier == AGE_ONLY:
        return Pipeline([*prepare, ("classify", LogisticRegression(C=1.0, max_iter=2000))])
    if classifier == VOLUMES_AND_PLACE:  # volumes are skewed; of a place, 0 to 1, the logarithm is nearly the same
        logarithm = ("logarithm", FunctionTransformer(np.log1p))
        return Pipeline([prepare[0], logarithm, prepare[1], ("classify", LogisticRegression(max_iter=2000))])
    models = {
        "logistic": lambda: LogisticRegression(max_iter=5000),
        "forest": lambda: RandomForestClassifier(n_estimators=TREES, random_state=derive_seed(seed, "forest") % 2**32),
        "svm": lambda: SVC(kernel="rbf", gamma="scale"),
    }
    return Pipeline(
        [
            prepare[0],
            ("constant", VarianceThreshold()),
            prepare[1],
            ("select", SelectKBest(f_score)),
            ("classify", models[classifier]()),
        ]
    )


def fit(
    features: pd.DataFrame, values: pd.Series, groups: pd.Series, marker: str, *, classifier: str, inner_folds: int, seed: int,
    chosen: Mapping[str, Any] | None = None,
) -> Fitted:  # fmt: skip
    """Fit one marker's classifier on training cases, those of unknown marker left out.

    Args:
        features: a row per case; NaN = not measured.
        values: the marker, aligned with the rows.
        groups: subjects, aligned: no subject is in two inner folds.
        marker: its name.
        classifier: a key of `GRIDS`.
        inner_folds: of the inner cross-validation; fewer where a class has fewer subjects.
        seed: of folds and forests.
        chosen: hyper-parameters chosen earlier; None = choose.

    Raises:
        ParameterError: the known cases are all of one class.
    """
    columns = tuple(columns_of(classifier, list(map(str, features))))
    target = positive(values, marker)
    known = target.notna().to_numpy()
    table = features.loc[known, list(columns)].to_numpy(np.float64)
    truth, subjects = target[known].to_numpy(int), groups[known].to_numpy().astype(str)
    if len(np.unique(truth)) < 2:
        raise ParameterError(f"marker '{marker}': the training cases are all of one class")
    estimator = pipeline(classifier, seed)
    folds = min(inner_folds, *(len(np.unique(subjects[truth == value])) for value in (0, 1)))
    grid = _grid(classifier, int(sum(len(np.unique(column[~np.isnan(column)])) > 1 for column in table.T)))
    note, score = "", float("nan")
    splits: list[Any] = []
    if folds >= 2 and grid:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=derive_seed(seed, "inner", marker) % 2**32)
        splits = [
            (a, b) for a, b in splitter.split(table, truth, subjects) if len(np.unique(truth[a])) == len(np.unique(truth[b])) == 2
        ]
    if chosen is None and grid:
        if splits:
            search = GridSearchCV(estimator, grid, scoring="roc_auc", cv=splits, refit=False).fit(table, truth)
            chosen, score = search.best_params_, float(search.best_score_)
        else:
            chosen = {name: options[len(options) // 2] for name, options in grid.items()}
            note = f"marker '{marker}': too few subjects of one class to choose hyper-parameters; the middle of the grid is taken"
    estimator.set_params(**(chosen or {}))
    if classifier == "svm":
        # with no usable inner fold the decision values are scaled on the cases that were fitted: over-confident, hence the note
        inner = splits or [(np.arange(len(truth)), np.arange(len(truth)))]
        estimator = CalibratedClassifierCV(estimator, method="sigmoid", cv=inner, ensemble=False)
    return Fitted(marker, estimator.fit(table, truth), columns, dict(chosen or {}), score, note)


def _grid(classifier: str, columns: int) -> dict[str, list[Any]]:
    """The classifier's grid for this many features that vary: no more are selected than there are."""
    grid = dict(GRIDS[classifier])
    if "select__k" in grid:
        grid["select__k"] = [k for k in grid["select__k"] if k == "all" or k <= columns] or ["all"]
    return grid


def importance(fitted: Fitted, features: pd.DataFrame, values: pd.Series, *, seed: int, repeats: int = 20) -> pd.DataFrame:
    """Permutation importance on cases that were not fitted (Breiman 2001; scikit-learn): how much the AUC drops.

    Features that are alike stand in for each other, so that each of them alone may look unimportant.

    Args:
        fitted: the classifier.
        features: a row per case.
        values: the marker, aligned; cases of unknown marker are left out.
        seed: of the permutations.
        repeats: permutations per feature.

    Returns:
        marker, feature, drop, deviation (over the permutations), n, n_positive, for the features that the classifier selected;
        no rows where the known cases are all of one class.
    """
    target = positive(values, fitted.marker)
    known = target.notna().to_numpy()
    truth = target[known].to_numpy(int)
    columns = ["marker", "feature", "drop", "deviation", "n", "n_positive"]
    types = {"drop": float, "deviation": float, "n": int, "n_positive": int}  # also of an empty table, which others are joined to
    if len(np.unique(truth)) < 2:
        return pd.DataFrame(columns=columns).astype(types)
    table = features.loc[known]
    auc = float(roc_auc_score(truth, fitted.logit(table)))
    stacked = pd.concat([table] * repeats, ignore_index=True)  # all permutations of a feature in one prediction
    rows = []
    for name in fitted.selected():
        rng = stream(seed, "importance", fitted.marker, name)
        shuffled = np.concatenate([rng.permutation(table[name].to_numpy()) for _ in range(repeats)])
        logits = fitted.logit(stacked.assign(**{name: shuffled})).reshape(repeats, -1)
        drops = [auc - float(roc_auc_score(truth, row)) for row in logits]
        rows.append((fitted.marker, name, float(np.mean(drops)), float(np.std(drops)), len(truth), int(truth.sum())))
    return pd.DataFrame(rows, columns=columns).astype(types)

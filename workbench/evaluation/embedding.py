"""Features of cases in two dimensions, and how far they stand apart by group. Plain NumPy and scikit-learn.

A picture of an embedding shows neighbourhoods, not distances or densities, and looks clustered even where nothing is; the
silhouette is computed on the features themselves and stands beside it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples
from sklearn.preprocessing import StandardScaler

from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation.intervals import RESAMPLES, Interval, mean_interval

Floats = NDArray[np.float64]
FEWEST = 12
"""With fewer points neighbourhoods mean nothing: principal components are shown instead."""
COMPONENTS = 50
"""Principal components that t-SNE and UMAP are given, as van der Maaten and Hinton (JMLR 2008) do."""
Form = Literal["tsne", "umap", "pca"]
TITLES: dict[Form, str] = {"tsne": "t-SNE", "umap": "UMAP", "pca": "principal components"}


def standardise(features: NDArray[np.floating]) -> Floats:
    """Each feature with mean 0 and standard deviation 1; features that never change are left out.

    Args:
        features: (n, D).

    Raises:
        InputError: there are values that are not finite.
    """
    values = np.asarray(features, np.float64)
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if wrong.size:
        raise InputError(
            Problem(
                message=f"the features of {wrong.size} of {len(values)} rows are not finite, the first in row {wrong[0]}",
                remedy="look at these cases with `workbench cohort check`, or train anew",
            )
        )
    scaled = StandardScaler().fit_transform(values)
    return scaled[:, values.std(axis=0) > 1e-12]


def perplexity(n: int) -> float:
    """What suits n points: a third of them, at least 5, at most 30 (van der Maaten and Hinton: 5 to 50)."""
    return float(np.clip((n - 1) / 3, 5, 30))


def embed(features: NDArray[np.floating], *, form: Form = "tsne", seed: int = 0) -> tuple[Floats, Form]:
    """Two coordinates per row, from standardised features.

    Args:
        features: (n, D).
        form: 'tsne', 'umap' (only where umap-learn is installed) or 'pca'.
        seed: of t-SNE and UMAP, so that the same features give the same picture.

    Returns:
        (n, 2), and what was done: 'pca' where there are fewer than `FEWEST` points.

    Raises:
        ParameterError: no such form, or UMAP without umap-learn.
        InputError: features that are not finite.
    """
    if form not in TITLES:
        raise ParameterError(f"there is no embedding '{form}'; there are {', '.join(TITLES)}")
    values = standardise(features)
    n, width = values.shape
    if form == "umap" and importlib.util.find_spec("umap") is None:
        raise ParameterError("embedding 'umap' needs the package umap-learn, which is not installed; 'tsne' needs nothing")
    if n < FEWEST or width < 2:
        form = "pca"
    kept = min(n, width, COMPONENTS)
    components = PCA(kept, svd_solver="full").fit_transform(values) if kept else np.zeros((n, 0))
    if form == "pca":
        flat = np.zeros((n, 2))
        flat[:, : min(2, kept)] = components[:, :2]
        return flat, "pca"
    if form == "umap":
        neighbours = int(min(15, n - 1))
        made = importlib.import_module("umap").UMAP(n_neighbors=neighbours, random_state=seed)
    else:
        made = TSNE(perplexity=perplexity(n), init="pca", random_state=seed)
    return np.asarray(made.fit_transform(components), np.float64), form


def silhouette(
    features: NDArray[np.floating],
    groups: Sequence[str] | NDArray[np.str_],
    subjects: Sequence[str] | NDArray[np.str_],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean silhouette (Rousseeuw 1987) of standardised features by group: 1 far apart, 0 one cloud, below 0 nearer to others.

    Rows whose group has no other row are left out. The interval resamples subjects over the rows' silhouettes, as they are:
    the distances behind them are not computed anew.

    Args:
        features: (n, D).
        groups: (n,) names.
        subjects: (n,) whom each row is of.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Returns:
        Not estimable with fewer than two groups of at least two rows, or without any feature that changes.
    """
    names, people = np.asarray(groups, str), np.asarray(subjects, str)
    found, counts = np.unique(names, return_counts=True)
    used = np.isin(names, found[counts > 1])
    if (counts > 1).sum() < 2:
        return Interval.unknown(int(used.sum()))
    values = standardise(np.asarray(features)[used])
    if not values.shape[1]:
        return Interval.unknown(int(used.sum()))
    return mean_interval(silhouette_samples(values, names[used]), people[used], resamples=resamples, seed=seed)

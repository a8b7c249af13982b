"""Features in two dimensions, and the silhouette beside them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from workbench.errors import InputError, ParameterError
from workbench.evaluation.embedding import FEWEST, embed, perplexity, silhouette, standardise


def clouds(each: int = 10, gap: float = 8.0, width: int = 6) -> tuple[np.ndarray, list[str]]:
    """Three clouds `gap` standard deviations apart, and one feature that never changes."""
    rng = np.random.default_rng(0)
    centres = np.eye(3, width) * gap
    values = np.concatenate([rng.normal(size=(each, width)) + centre for centre in centres])
    return np.hstack([values, np.full((len(values), 1), 3.0)]), [name for name in "abc" for _ in range(each)]


def test_clouds_that_stand_apart_do_so_in_the_picture_whatever_the_features_scale() -> None:
    values, names = clouds()
    for form in ("tsne", "pca"):
        placed, made = embed(values, form=form)  # type: ignore[arg-type]
        assert (placed.shape, made) == ((30, 2), form)
        assert silhouette_score(placed, names) > 0.6
    scaled = values * np.array([1e4, 1, 1e-3, 1, 1, 1, 1]) + 7
    np.testing.assert_allclose(np.abs(embed(scaled, form="pca")[0]), np.abs(embed(values, form="pca")[0]), atol=1e-6)


def test_the_same_features_give_the_same_picture() -> None:
    values, _ = clouds()
    assert np.array_equal(embed(values)[0], embed(values)[0])


@pytest.mark.parametrize(("n", "expected"), [(12, 5.0), (16, 5.0), (40, 13.0), (91, 30.0), (5000, 30.0)])
def test_perplexity_suits_n(n: int, expected: float) -> None:
    assert perplexity(n) == expected < n


@pytest.mark.parametrize("n", [1, 2, FEWEST - 1])
def test_few_points_are_shown_as_principal_components(n: int) -> None:
    values = np.random.default_rng(0).normal(size=(n, 5))
    placed, made = embed(values)
    assert made == "pca"
    assert placed.shape == (n, 2)
    assert np.isfinite(placed).all()


def test_features_that_never_change_leave_one_point() -> None:
    placed, made = embed(np.ones((20, 4)))
    assert made == "pca"
    assert not placed.any()
    assert standardise(np.ones((20, 4))).shape == (20, 0)
    assert not silhouette(np.ones((20, 4)), list("ab") * 10, [str(i) for i in range(20)]).estimable


def test_what_cannot_be_placed_is_said() -> None:
    values, _ = clouds()
    values[4, 1] = np.nan
    with pytest.raises(InputError, match="1 of 30 rows are not finite, the first in row 4"):
        embed(values)
    with pytest.raises(ParameterError, match="tsne, umap, pca"):
        embed(np.ones((20, 4)), form="mds")  # type: ignore[arg-type]
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(ParameterError, match="umap-learn"):
            embed(clouds()[0], form="umap")


def test_the_silhouette_is_scikit_learns_with_an_interval_over_subjects() -> None:
    values, names = clouds()
    subjects = [str(index // 2) for index in range(30)]
    found = silhouette(values, names, subjects, resamples=200)
    assert found.value == pytest.approx(silhouette_score(standardise(values), names))
    assert found.low < found.value < found.high
    assert (found.n, found.n_subjects) == (30, 15)
    shuffled = np.random.default_rng(1).permutation(names)
    assert abs(silhouette(values, shuffled, subjects, resamples=200).value) < 0.1 < 0.3 < found.value


def test_the_silhouette_leaves_out_lonely_groups_and_needs_two_others() -> None:
    values, names = clouds()
    alone = [*names[:-1], "alone"]
    subjects = [str(index) for index in range(30)]
    found = silhouette(values, alone, subjects, resamples=100)
    assert found.n == 29
    assert found.value == pytest.approx(silhouette_score(standardise(values[:-1]), names[:-1]))
    assert not silhouette(values, ["a"] * 30, subjects).estimable
    assert not silhouette(values, ["a"] * 29 + ["b"], subjects).estimable

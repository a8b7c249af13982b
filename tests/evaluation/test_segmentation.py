"""Voxel metrics against answers worked out on paper, against SciPy and scikit-learn, and under symmetries."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou
from scipy import ndimage
from sklearn.metrics import jaccard_score, precision_score, recall_score

from workbench.contracts import SEGMENTATION
from workbench.errors import InputError, ParameterError
from workbench.evaluation.metrics import metrics_of
from workbench.evaluation.segmentation import bounding_box, case_metrics, hausdorff95
from workbench.geometry import Grid
from workbench.labels import region_mask

SHAPE = (7, 8, 9)
AFFINE = np.array([[-1.0, 0, 0, 5], [0, 2.0, 0, -9], [0, 0, 3.0, 4], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)  # 1 x 2 x 3 mm
DIAGONAL = math.sqrt(7**2 + 16**2 + 27**2)
NAN = float("nan")


def mask(*voxels: tuple[int, int, int], label: int = 1) -> np.ndarray:
    result = np.zeros(SHAPE, np.uint8)
    for voxel in voxels:
        result[voxel] = label
    return result


def box(x: slice, y: slice, z: slice, label: int = 1) -> np.ndarray:
    result = np.zeros(SHAPE, np.uint8)
    result[x, y, z] = label
    return result


def scores(prediction: np.ndarray, truth: np.ndarray, region: str = "NCR", brain: np.ndarray | None = None) -> dict[str, float]:
    brain = np.ones(SHAPE, bool) if brain is None else brain
    table = case_metrics(prediction, truth, brain, GRID, [region])
    assert tuple(table["metric"]) == tuple(metrics_of(SEGMENTATION))
    return dict(zip(table["metric"], table["value"], strict=True))


def assert_scores(found: dict[str, float], **expected: float) -> None:
    assert set(expected) == set(found)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name


VOXELS = 7 * 8 * 9
ONE = mask((3, 4, 5))
NOTHING = mask()

PAPER = ("dice", "hd95", "iou", "sensitivity", "specificity", "precision", "volume_error")
BY_HAND = {
    # prediction, truth, (dice, hd95, iou, sensitivity, specificity, precision, volume_error in ml)
    # 504 voxels of 6 mm^3, all of them brain
    "equal": (ONE, ONE, (1, 0, 1, 1, 1, 1, 0)),
    "beside it in x, 1 mm": (
        mask((4, 4, 5)), ONE,
        (0, 1, 0, 0, 502 / 503, 0, 0),
    ),
    "beside it in y, 2 mm": (
        mask((3, 5, 5)), ONE,
        (0, 2, 0, 0, 502 / 503, 0, 0),
    ),
    "diagonally, 1, 2 and 3 mm": (
        mask((2, 3, 4)), ONE,
        (0, math.sqrt(14), 0, 0, 502 / 503, 0, 0),
    ),
    # truth 2x2x2, prediction the same shifted by one voxel in z: 4 shared, 4 too many, 4 missed; one layer is 3 mm off
    "cube shifted in z": (
        box(slice(2, 4), slice(2, 4), slice(3, 5)), box(slice(2, 4), slice(2, 4), slice(2, 4)),
        (0.5, 3, 1 / 3, 0.5, 492 / 496, 0.5, 0),
    ),
    # prediction 3x1x1 around a truth of one voxel: distances prediction -> truth are 1, 0, 1, so the 95th percentile is 1
    "too large": (
        mask((2, 4, 5), (3, 4, 5), (4, 4, 5)), ONE,
        (0.5, 1, 1 / 3, 1, 501 / 503, 1 / 3, 12e-3),
    ),
    # one outlier among 3: prediction -> truth distances 0, 0, 4; the 95th percentile interpolates 0 and 4 at 1.9: 3.6
    "an outlier": (
        mask((0, 4, 5), (1, 4, 5), (5, 4, 5)), mask((0, 4, 5), (1, 4, 5)),
        (0.8, 3.6, 2 / 3, 1, 501 / 502, 2 / 3, 6e-3),
    ),
    "both empty": (
        NOTHING, NOTHING,
        (1, 0, 1, NAN, 1, NAN, 0),
    ),
    "prediction empty": (
        NOTHING, ONE,
        (0, DIAGONAL, 0, 0, 1, NAN, -6e-3),
    ),
    "truth empty": (
        ONE, NOTHING,
        (0, DIAGONAL, 0, NAN, 503 / 504, 0, 6e-3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_answers_worked_out_on_paper(name: str) -> None:
    prediction, truth, expected = BY_HAND[name]
    assert_scores(scores(prediction, truth), **dict(zip(PAPER, expected, strict=True)))


def test_only_brain_voxels_count_for_specificity() -> None:
    brain = box(slice(0, 2), slice(0, 5), slice(0, 2)) > 0  # 20 voxels
    truth = mask((0, 0, 0), (6, 7, 8))  # one in the brain, one outside: 19 negatives in the brain
    prediction = mask((0, 0, 0), (0, 1, 0), (5, 7, 8))  # one false positive in the brain, one outside
    found = scores(prediction, truth, brain=brain)
    assert found["specificity"] == pytest.approx(18 / 19)
    assert found["precision"] == pytest.approx(1 / 3)  # every other metric counts everywhere
    assert math.isnan(scores(ONE, ONE, brain=ONE > 0)["specificity"])  # no negative voxel in the brain
    assert math.isnan(scores(ONE, ONE, brain=NOTHING > 0)["specificity"])


def test_whole_tumour_mask_is_compared_with_the_union_of_the_predicted_classes() -> None:
    truth = box(slice(1, 4), slice(2, 5), slice(3, 6))  # a whole-tumour mask: label 1 means all of it
    prediction = truth * np.array([1, 2, 3], np.uint8)[np.arange(7) % 3][:, None, None]
    assert set(np.unique(prediction)) == {0, 1, 2, 3}
    assert scores(prediction, truth, "WT")["dice"] == 1
    prediction[6, 7, 8] = 4  # a resection cavity is not part of WT
    assert scores(prediction, truth, "WT")["dice"] == 1


def test_regions_of_one_case_are_unions_of_labels_and_carry_their_voxel_counts() -> None:
    truth = box(slice(0, 4), slice(0, 4), slice(0, 4), label=2)
    truth[1:3, 1:3, 1:3], truth[1, 1, 1] = 3, 1
    prediction = truth.copy()
    prediction[0] = 0
    table = case_metrics(prediction, truth, np.ones(SHAPE, bool), GRID, ("WT", "TC", "ET", "ED", "NCR", "RC")).set_index("region")
    assert list(table.columns) == ["metric", "value", "n_truth", "n_prediction"]
    counts = table[table["metric"] == "dice"][["n_truth", "n_prediction"]]
    assert counts.loc["WT"].tolist() == [64, 48]
    assert counts.loc["TC"].tolist() == [8, 8]
    assert counts.loc["ET"].tolist() == [7, 7]
    assert counts.loc["ED"].tolist() == [56, 40]
    assert counts.loc["NCR"].tolist() == [1, 1]
    assert counts.loc["RC"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("pair", "hd", "hd95", "ignoring", "counting", "ours"),
    [
        ("both", NAN, NAN, NAN, 1, (1, 0)),
        ("prediction", math.inf, NAN, 0, 0, (0, DIAGONAL)),
        ("truth", math.inf, NAN, NAN, 0, (0, DIAGONAL)),
    ],
)
def test_monai_leaves_empty_masks_open_and_the_rule_closes_them(
    pair: str, hd: float, hd95: float, ignoring: float, counting: float, ours: tuple[float, float]
) -> None:
    """MONAI 1.6's answers, as a warning should a new version change them; ours stay."""
    prediction, truth = (NOTHING if pair in {"both", side} else ONE for side in ("prediction", "truth"))
    y_pred, y = (torch.from_numpy(side).float()[None, None] for side in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            compute_hausdorff_distance(y_pred, y, include_background=True),
            compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95),
            compute_dice(y_pred, y, ignore_empty=True),
            compute_dice(y_pred, y, ignore_empty=False),
        ]
    assert [value.item() for value in found] == pytest.approx([hd, hd95, ignoring, counting], nan_ok=True)
    mine = scores(prediction, truth)
    assert (mine["dice"], mine["hd95"]) == pytest.approx(ours)


def blobs(seed: int, shape: tuple[int, int, int] = (23, 19, 14)) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping smooth random masks that reach the volume's border."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=shape)
    return tuple(ndimage.gaussian_filter(base + 0.4 * rng.normal(size=shape), 1.5, mode="nearest") > 0.1 for _ in range(2))  # type: ignore[return-value]


def hd95_by_distance_transform(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    edges = [side & ~ndimage.binary_erosion(side) for side in (a, b)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy_scikit_learn_and_monai_on_random_shapes(seed: int) -> None:
    predicted, true = blobs(seed)
    spacing = (0.9, 1.0, 3.3)
    grid = Grid(predicted.shape, np.diag([*spacing, 1.0]))
    brain = np.random.default_rng(seed).random(predicted.shape) < 0.8
    table = case_metrics(predicted.astype(np.uint8), true.astype(np.uint8), brain, grid, ["lesion"])
    found = dict(zip(table["metric"], table["value"], strict=True))
    t, p = true.ravel(), predicted.ravel()
    assert found["hd95"] == pytest.approx(hd95_by_distance_transform(predicted, true, spacing), rel=1e-5)
    assert found["iou"] == pytest.approx(jaccard_score(t, p))
    assert found["sensitivity"] == pytest.approx(recall_score(t, p))
    assert found["precision"] == pytest.approx(precision_score(t, p))
    assert found["specificity"] == pytest.approx(recall_score(~true[brain], ~predicted[brain]))
    assert found["volume_error"] == pytest.approx((p.sum() - t.sum()) * 0.9 * 1.0 * 3.3 / 1000)
    y_pred, y = (torch.from_numpy(side)[None, None].float() for side in (predicted, true))
    assert found["dice"] == pytest.approx(compute_dice(y_pred, y).item())
    assert found["iou"] == pytest.approx(compute_iou(y_pred, y).item())


def test_cropping_changes_nothing() -> None:
    a, b = blobs(7, (12, 10, 9))
    pair = [torch.from_numpy(m)[None, None] for m in (a, b)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=[1.0, 2.0, 3.0])
    padded = [np.pad(m, ((20, 31), (9, 40), (11, 2))) for m in (a, b)]
    assert hausdorff95(a, b, (1, 2, 3), 0.0) == plain.item()
    assert hausdorff95(*padded, (1, 2, 3), 0.0) == plain.item()


def test_bounding_box_is_the_smallest_one() -> None:
    some = mask((1, 6, 2), (4, 3, 7)) > 0
    assert bounding_box(some) == (slice(1, 5), slice(3, 7), slice(2, 8))
    assert bounding_box(NOTHING > 0) == (slice(0, 0),) * 3


MASKS = arrays(bool, (5, 4, 6), elements=st.booleans())


@settings(max_examples=20, deadline=None)
@given(MASKS, MASKS)
def test_swapping_prediction_and_truth(a: np.ndarray, b: np.ndarray) -> None:
    grid = Grid((5, 4, 6), np.diag([1.0, 2.0, 0.5, 1.0]))
    brain = np.ones(a.shape, bool)
    forth, back = (
        case_metrics(x.astype(np.uint8), y.astype(np.uint8), brain, grid, ["lesion"]).set_index("metric")["value"]
        for x, y in ((a, b), (b, a))
    )
    for name in ("dice", "iou", "hd95"):
        assert forth[name] == back[name]
    assert forth["sensitivity"] == pytest.approx(back["precision"], nan_ok=True)
    assert forth["volume_error"] == -back["volume_error"]


@settings(max_examples=15, deadline=None)
@given(MASKS, MASKS, MASKS, st.permutations([0, 1, 2]), st.sets(st.sampled_from([0, 1, 2])))
def test_the_orientation_of_the_array_does_not_matter(
    a: np.ndarray, b: np.ndarray, brain: np.ndarray, order: list[int], flipped: set[int]
) -> None:
    spacing = np.array([1.0, 2.0, 0.5])
    plain = case_metrics(a.astype(np.uint8), b.astype(np.uint8), brain, Grid(a.shape, np.diag([*spacing, 1.0])), ["lesion"])
    moved = [np.flip(np.transpose(m, order), tuple(flipped)) for m in (a, b, brain)]
    grid = Grid(moved[0].shape, np.diag([*spacing[order], 1.0]))
    turned = case_metrics(moved[0].astype(np.uint8), moved[1].astype(np.uint8), moved[2], grid, ["lesion"])
    pd.testing.assert_frame_equal(plain, turned, rtol=1e-6)


def test_refuses_masks_that_are_not_on_the_native_grid() -> None:
    with pytest.raises(InputError, match=r"case P-1.*prediction.*\(7, 8, 8\).*native grid is \(7, 8, 9\)"):
        case_metrics(ONE[..., :8], ONE, np.ones(SHAPE, bool), GRID, ["WT"], case="P-1")
    with pytest.raises(ParameterError, match="region 'tumour' is unknown; there are: WT"):
        case_metrics(ONE, ONE, np.ones(SHAPE, bool), GRID, ["tumour"])


def test_a_case_of_the_brats_size_costs_less_than_one_distance_map_of_the_volume() -> None:
    """Five regions with all distances, because each is cut out before its distances are taken."""
    shape = (240, 240, 155)
    axes = np.ogrid[tuple(slice(n) for n in shape)]

    def tumour(centre: tuple[float, ...]) -> np.ndarray:
        labels = np.zeros(shape, np.uint8)
        for label, radius in ((2, 35.0), (3, 22.0), (1, 12.0)):
            labels[sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2] = label
        return labels

    prediction, truth = tumour((120, 120, 80)), tumour((123, 118, 81))
    times = [time.process_time()]
    case_metrics(prediction, truth, np.ones(shape, bool), Grid(shape, np.eye(4)), ("WT", "TC", "ET", "ED", "NCR"))
    times.append(time.process_time())
    ndimage.distance_transform_edt(truth == 0)
    times.append(time.process_time())
    assert times[1] - times[0] < times[2] - times[1]


def test_region_mask_and_metrics_agree_on_what_a_region_is() -> None:
    labels = np.arange(5, dtype=np.uint8).repeat(2).reshape(1, 2, 5)
    table = case_metrics(labels, labels, np.ones(labels.shape, bool), Grid(labels.shape, np.eye(4)), ("WT", "TC", "RC"))
    for region, part in table.groupby("region"):
        assert part["n_truth"].iloc[0] == region_mask(labels, region).sum()

"""How well a predicted mask matches the true one: overlap, surface distance and volume, per case and region.

One rule for empty masks, for every method, cohort and page (MONAI leaves these cases NaN or inf): `evaluation.metrics` says what
each metric is there. NaN means "not defined": the denominator has no voxel. A distance to nothing is the diagonal of the native
image grid, so that missing a structure is the worst distance there is and never looks better than finding it badly. Specificity
counts brain voxels only; a volume error is predicted minus true volume: positive = too large.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from monai.metrics import compute_hausdorff_distance

from workbench.contracts import SEGMENTATION
from workbench.errors import InputError, ParameterError, Problem
from workbench.evaluation.metrics import in_order
from workbench.geometry import Grid
from workbench.labels import REGIONS, region_mask

COLUMNS = ("region", "metric", "value", "n_truth", "n_prediction")
MM3_PER_ML = 1000.0


def case_metrics(
    prediction: np.ndarray, truth: np.ndarray, brain: np.ndarray, grid: Grid, regions: Sequence[str], *, case: str = ""
) -> pd.DataFrame:
    """Score one case on its native grid.

    Args:
        prediction: (X, Y, Z) canonical labels.
        truth: (X, Y, Z) canonical labels. On a case with a whole-tumour mask only, judge the region 'WT' and nothing else
            (`labels.regions_of`): the prediction's tumour classes are united before they are compared.
        brain: (X, Y, Z) bool, the voxels that count for specificity.
        grid: the native grid: spacing and voxel volume, diagonal for the empty rule.
        regions: names from `labels.REGIONS`.
        case: its name, for messages.

    Returns:
        One row per region and metric: region, metric, value, n_truth, n_prediction (voxels of the region in either mask).

    Raises:
        InputError: shapes that differ from the grid's.
        ParameterError: a region that does not exist, or a metric that is computed but not in `evaluation.metrics`.
    """
    _check(prediction, truth, brain, grid, regions, case)
    box = bounding_box((prediction != 0) | (truth != 0))
    inside, n_brain = np.asarray(brain[box], bool), int(np.count_nonzero(brain))
    rows: list[tuple[str, str, float, int, int]] = []
    for region in regions:
        predicted, true = region_mask(prediction[box], region), region_mask(truth[box], region)
        values = _overlap(predicted, true, inside, n_brain)
        n_true, n_predicted = int(np.count_nonzero(true)), int(np.count_nonzero(predicted))
        values["hd95"] = hausdorff95(predicted, true, grid.spacing, grid.diagonal)
        values["volume_error"] = (n_predicted - n_true) * grid.voxel_volume / MM3_PER_ML
        rows += [(region, name, value, n_true, n_predicted) for name, value in in_order(values, SEGMENTATION).items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def region_dice(prediction: np.ndarray, truth: np.ndarray, region: str) -> float:
    """Dice of one region of two label maps of one grid; NaN where the truth has nothing to find."""
    predicted, true = region_mask(prediction, region), region_mask(truth, region)
    return float(2 * np.count_nonzero(predicted & true) / (predicted.sum() + true.sum())) if true.any() else float("nan")


def hausdorff95(predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float], diagonal: float) -> float:
    """95th percentile Hausdorff distance in mm of two boolean masks, with the rule for empty masks.

    Surface voxels are those that a 6-neighbour erosion removes; the percentile is taken per direction and the larger of the
    two is returned (MONAI's definition, computed by MONAI). The masks may be cropped to anything that holds both of them.
    """
    empty = (not predicted.any(), not true.any())
    if all(empty):
        return 0.0
    if any(empty):
        return float(diagonal)
    box = bounding_box(predicted | true)
    first, second = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (predicted, true))
    with warnings.catch_warnings():
        # MONAI 1.6 passes an argument to itself that it has deprecated; nothing that a caller could change.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        distance = compute_hausdorff_distance(first, second, include_background=True, percentile=95, spacing=list(spacing))
    return float(distance)


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """Slices of the smallest box that holds every True voxel of a (X, Y, Z) mask; an empty box where there is none."""
    flat = np.any(mask, axis=2)
    spans = [np.flatnonzero(line) for line in (np.any(flat, axis=1), np.any(flat, axis=0), np.any(mask, axis=(0, 1)))]
    x, y, z = (slice(int(span[0]), int(span[-1]) + 1) if span.size else slice(0, 0) for span in spans)
    return x, y, z


def _overlap(predicted: np.ndarray, true: np.ndarray, inside: np.ndarray, n_brain: int) -> dict[str, float]:
    """The overlap metrics of one region from its counts; `inside` is the brain in the same box, `n_brain` its whole size."""
    tp = int(np.count_nonzero(predicted & true))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(true)) - tp
    fp_brain = int(np.count_nonzero(predicted & ~true & inside))
    negatives = n_brain - int(np.count_nonzero(true & inside))
    both_empty = tp + fp + fn == 0
    return {
        "dice": 1.0 if both_empty else 2 * tp / (2 * tp + fp + fn),
        "iou": 1.0 if both_empty else tp / (tp + fp + fn),
        "sensitivity": _ratio(tp, tp + fn),
        "precision": _ratio(tp, tp + fp),
        "specificity": _ratio(negatives - fp_brain, negatives),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _check(prediction: np.ndarray, truth: np.ndarray, brain: np.ndarray, grid: Grid, regions: Sequence[str], case: str) -> None:
    unknown = [region for region in regions if region not in REGIONS]
    if unknown:
        raise ParameterError(f"region '{unknown[0]}' is unknown; there are: {', '.join(REGIONS)}")
    for name, array in (("prediction", prediction), ("truth", truth), ("brain mask", brain)):
        if array.shape != tuple(grid.shape):
            raise InputError(
                Problem(
                    case=case,
                    channel=name,
                    message=f"the {name} has shape {array.shape}, but the case's native grid is {tuple(grid.shape)}",
                    remedy="bring the mask to the native grid first (prepare.native)",
                )
            )

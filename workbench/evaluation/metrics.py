"""Every metric there is: name, title, unit, better side, what it is where something is empty, and where it is shown.

Tables, figures, comparisons and pages read this table, in its order; `segmentation.case_metrics`, `markers.metric_values` (with
`markers.marker_metrics` for what chance makes of ECE) and the pretraining methods compute what it names. A value that is computed
but not named here is refused (`in_order`), never lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TypeVar

from workbench.contracts import MARKER_TASK, PRETRAINING, SEGMENTATION
from workbench.errors import ParameterError

T = TypeVar("T")


class Kind(StrEnum):
    """What a metric measures."""

    OVERLAP = "overlap"
    DISTANCE = "distance"
    VOLUME = "volume"
    RANKING = "ranking"
    DECISION = "decision"
    CALIBRATION = "calibration"
    CASE_SCORE = "case score"
    PRETEXT = "pretext"

    @property
    def task(self) -> str:
        """What is judged by metrics of this kind: SEGMENTATION, MARKER_TASK, PRETRAINING, or single cases of a marker."""
        return _TASKS[self]


_TASKS = {
    Kind.OVERLAP: SEGMENTATION, Kind.DISTANCE: SEGMENTATION, Kind.VOLUME: SEGMENTATION,
    Kind.RANKING: MARKER_TASK, Kind.DECISION: MARKER_TASK, Kind.CALIBRATION: MARKER_TASK,
    Kind.CASE_SCORE: "marker cases", Kind.PRETEXT: PRETRAINING,
}  # fmt: skip


class Better(StrEnum):
    """Which side is better; NEITHER: nearest to a value between, or a reference that is not judged."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Place(StrEnum):
    """Where a metric is shown beside the tables that hold all of them."""

    NOTEBOOK = "notebook's table of results"
    GROUPS = "notebook's table of groups"
    FIGURE = "notebook's figure of every case"
    DECISIONS = "decisions at thresholds chosen on validation"
    RECALIBRATION = "probabilities after a calibration fitted on validation"
    SUBSETS = "heat map of all subsets of sequences, on one scale from 0 to 1"
    COMPARISON = "`workbench compare`, within its family of tests"
    OUTCOME = "outcomes of ablations and of pairs of runs, within their family of tests; of markers AUC and Brier score"
    DASHBOARD = "choice of the Overview's comparison"
    CASES = "table and facts of single cases"
    HEADLINE = "few numbers of a run; of markers the AUC"
    RUN_LIST = "columns of a list of runs, of its HEADLINE numbers"


@dataclass(frozen=True)
class Metric:
    """One metric."""

    name: str
    """In the long tables; within one task it is unique."""
    title: str
    """What people read, without the unit."""
    kind: Kind
    better: Better
    empty: str
    """What it is where truth, prediction or both are empty, or a class is missing."""
    unit: str = ""
    signed: bool = False
    """An error with a sign: the nearer to 0 the better."""
    limits: tuple[float, float] = (0.0, 1.0)
    """The values that it can have."""
    digits: int = 2
    """Decimals of a single case's value."""
    shown: tuple[Place, ...] = ()

    @property
    def task(self) -> str:
        """What is judged by it."""
        return self.kind.task

    @property
    def full_title(self) -> str:
        """Title with unit: 'HD95 (mm)'."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def bounded(self) -> bool:
        """Whether all values lie between two limits, so that a scale can show them whole."""
        return -inf < self.limits[0] and self.limits[1] < inf


TRUE_CLASS = "probability of the true class"
"""What single cases are judged by where a marker has an AUC."""

_HIGHER, _LOWER, _NEITHER = Better
_TOO_FEW = "NaN with fewer than 10 subjects of a class"
_CERTAIN = f"{_TOO_FEW}, or where a probability of exactly 0 or 1 is wrong"
_UNDECIDED = f"{_TOO_FEW}, or where its denominator holds no case"
_NO_VOXEL = "NaN where there is no such voxel"

METRICS: tuple[Metric, ...] = (
    Metric(
        "dice", "Dice", Kind.OVERLAP, _HIGHER, "both 1, one 0", digits=3,
        shown=(Place.NOTEBOOK, Place.GROUPS, Place.FIGURE, Place.SUBSETS, Place.COMPARISON, Place.OUTCOME, Place.DASHBOARD,
               Place.CASES, Place.HEADLINE, Place.RUN_LIST),
    ),
    Metric(
        "hd95", "HD95", Kind.DISTANCE, _LOWER, "both 0, one the diagonal of the native image grid", "mm", limits=(0, inf),
        digits=1, shown=(Place.NOTEBOOK, Place.GROUPS, Place.FIGURE, Place.COMPARISON, Place.OUTCOME, Place.DASHBOARD,
                         Place.CASES, Place.HEADLINE),
    ),
    Metric("iou", "IoU", Kind.OVERLAP, _HIGHER, "both 1, one 0", shown=(Place.DASHBOARD,)),
    Metric("sensitivity", "Sensitivity", Kind.OVERLAP, _HIGHER, "truth NaN, prediction 0, both NaN",
           shown=(Place.NOTEBOOK, Place.DASHBOARD)),
    Metric("specificity", "Specificity", Kind.OVERLAP, _HIGHER, "NaN where the brain holds no negative voxel",
           shown=(Place.DASHBOARD,)),
    Metric("precision", "Precision", Kind.OVERLAP, _HIGHER, "truth 0, prediction NaN, both NaN",
           shown=(Place.NOTEBOOK, Place.DASHBOARD)),
    Metric("volume_error", "Volume error", Kind.VOLUME, _NEITHER, "truth V(prediction), prediction -V(truth), both 0", "ml",
           signed=True, limits=(-inf, inf), shown=(Place.NOTEBOOK, Place.GROUPS, Place.DASHBOARD)),
    Metric("auc", "AUC", Kind.RANKING, _HIGHER, _TOO_FEW,
           shown=(Place.NOTEBOOK, Place.GROUPS, Place.SUBSETS, Place.COMPARISON, Place.OUTCOME, Place.HEADLINE, Place.RUN_LIST)),
    Metric("average_precision", "Average precision", Kind.RANKING, _HIGHER, _TOO_FEW, shown=(Place.NOTEBOOK,)),
    Metric("accuracy", "Accuracy", Kind.DECISION, _HIGHER, _TOO_FEW, shown=(Place.COMPARISON,)),
    Metric("balanced_accuracy", "Balanced accuracy", Kind.DECISION, _HIGHER, _TOO_FEW, shown=(Place.NOTEBOOK, Place.DECISIONS)),
    Metric("precision", "Precision", Kind.DECISION, _HIGHER, _UNDECIDED, shown=(Place.DECISIONS,)),
    Metric("npv", "Negative predictive value", Kind.DECISION, _HIGHER, _UNDECIDED, shown=(Place.DECISIONS,)),
    Metric("recall", "Recall", Kind.DECISION, _HIGHER, _TOO_FEW, shown=(Place.DECISIONS,)),
    Metric("specificity", "Specificity", Kind.DECISION, _HIGHER, _TOO_FEW, shown=(Place.DECISIONS,)),
    Metric("f1", "F1", Kind.DECISION, _HIGHER, _TOO_FEW, shown=(Place.DECISIONS,)),
    Metric("mcc", "MCC", Kind.DECISION, _HIGHER, _UNDECIDED, limits=(-1, 1), shown=(Place.NOTEBOOK, Place.DECISIONS)),
    Metric("calibration_slope", "Calibration slope", Kind.CALIBRATION, _NEITHER, f"{_CERTAIN}, or where classes do not overlap",
           limits=(-inf, inf), shown=(Place.NOTEBOOK, Place.RECALIBRATION)),
    Metric("calibration_intercept", "Calibration intercept", Kind.CALIBRATION, _NEITHER, _CERTAIN, signed=True,
           limits=(-inf, inf), shown=(Place.NOTEBOOK, Place.RECALIBRATION)),
    Metric("brier", "Brier score", Kind.CALIBRATION, _LOWER, _TOO_FEW,
           shown=(Place.NOTEBOOK, Place.RECALIBRATION, Place.COMPARISON, Place.OUTCOME)),
    Metric("brier_skill", "Brier skill score", Kind.CALIBRATION, _HIGHER, _TOO_FEW, limits=(-inf, 1),
           shown=(Place.RECALIBRATION,)),
    Metric("log_loss", "Log loss", Kind.CALIBRATION, _LOWER, _CERTAIN, "nat", limits=(0, inf), shown=(Place.RECALIBRATION,)),
    Metric("ece", "ECE", Kind.CALIBRATION, _LOWER, _TOO_FEW, shown=(Place.NOTEBOOK, Place.RECALIBRATION)),
    Metric("ece_calibrated", "ECE of a calibrated model", Kind.CALIBRATION, _NEITHER, _TOO_FEW,
           shown=(Place.NOTEBOOK, Place.RECALIBRATION)),
    Metric("ece_excess", "ECE beyond a calibrated model's", Kind.CALIBRATION, _LOWER, _TOO_FEW, limits=(-1, 1),
           shown=(Place.NOTEBOOK, Place.RECALIBRATION)),
    Metric(TRUE_CLASS, TRUE_CLASS, Kind.CASE_SCORE, _HIGHER, "no row where the truth is unknown"),
    Metric("foreground_mse", "MSE of masked brain voxels", Kind.PRETEXT, _LOWER, _NO_VOXEL, limits=(0, inf)),
    Metric("hidden_l1", "L1 in corrupted cuboids", Kind.PRETEXT, _LOWER, _NO_VOXEL, limits=(0, inf)),
    Metric("imputed_mse", "MSE of a whole masked sequence", Kind.PRETEXT, _LOWER, "NaN of a case with one sequence",
           limits=(0, inf)),
    Metric("masked_mse", "MSE of masked voxels", Kind.PRETEXT, _LOWER, _NO_VOXEL, limits=(0, inf)),
    Metric("reconstruction_l1", "Reconstruction L1", Kind.PRETEXT, _LOWER, _NO_VOXEL, "z-score", limits=(0, inf),
           shown=(Place.COMPARISON, Place.OUTCOME, Place.HEADLINE, Place.RUN_LIST)),
    Metric("rotation_accuracy", "Rotations named rightly", Kind.PRETEXT, _HIGHER, "never: every case is turned",
           shown=(Place.COMPARISON, Place.OUTCOME, Place.HEADLINE)),
    Metric("zero_l1", "L1 of zeros there", Kind.PRETEXT, _NEITHER, _NO_VOXEL, limits=(0, inf)),
    Metric("zero_mse", "MSE of zeros there", Kind.PRETEXT, _NEITHER, _NO_VOXEL, limits=(0, inf)),
)  # fmt: skip
"""In the order in which tables show them. Empty: what it is where both masks are, where only truth or prediction is, or one."""


def metrics_of(*tasks: str) -> dict[str, Metric]:
    """Name -> metric of some tasks, in the order of the table."""
    return {entry.name: entry for entry in METRICS if entry.task in tasks}


def shown_in(place: Place, *tasks: str) -> tuple[str, ...]:
    """Names of the metrics shown somewhere, in the order of the table; of some tasks, or of all."""
    return tuple(entry.name for entry in METRICS if place in entry.shown and (not tasks or entry.task in tasks))


def metric(name: str) -> Metric:
    """The metric of a name; the voxels' where markers have one of the same name.

    A run of another version may hold one that is not known here: it is shown under its plain name, and nothing is said of it.
    """
    unknown = Metric(name, name.replace("_", " "), Kind.OVERLAP, Better.NEITHER, "")
    return next((entry for entry in METRICS if entry.name == name), unknown)


def metric_title(name: str) -> str:
    """Name of a metric as figures and tables show it, with its unit."""
    return metric(name).full_title


def require_known(names: Iterable[str], task: str) -> None:
    """Refuse values that nothing would show.

    Raises:
        ParameterError: a name that the table does not hold for this task.
    """
    if unknown := [name for name in names if name not in metrics_of(task)]:
        raise ParameterError(f"metric '{unknown[0]}' of {task} is computed, but has no entry in workbench/evaluation/metrics.py")


def in_order(values: Mapping[str, T], task: str) -> dict[str, T]:
    """Computed values of all metrics of a task, in the order of the table.

    Raises:
        ParameterError: a value without an entry in the table, or an entry without a value.
    """
    require_known(values, task)
    if missing := [name for name in metrics_of(task) if name not in values]:
        raise ParameterError(
            f"metric '{missing[0]}' of {task} has an entry in workbench/evaluation/metrics.py, but is not computed"
        )
    return {name: values[name] for name in metrics_of(task)}

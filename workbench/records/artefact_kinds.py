"""The files of a run folder by pattern: what each is, which step makes it, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Kind:
    """What files of a pattern are, which step makes them, and from what (patterns of other files, or names of roots)."""

    pattern: str
    title: str
    step: str
    made_from: tuple[str, ...] = ()


_LEARNED = ("split", "prepared", "pretrained", "embeddings", "masks", "parents")
_ASKED = ("checkpoint", "prepared")
KINDS = (
    Kind("spec.json", "what was asked", "open", ("cohort",)),
    Kind("environment.json", "environments", "train"),
    Kind("pretrained.json", "account of the pretrained weights", "train", ("pretrained", "split")),
    Kind("checkpoints/encoder.*", "encoder", "evaluate", ("checkpoint",)),
    Kind("checkpoints/*", "weights", "train", _LEARNED),
    Kind("events.jsonl", "scalars over steps", "train", _LEARNED),
    Kind("training.json", "account of the training", "train", _LEARNED),
    Kind("trained_on.parquet", "training cases", "train", ("split",)),
    Kind("predictions/*.logits.b2nd", "segmentation logits", "predict", _ASKED),
    Kind("predictions/*.nii.gz", "predicted mask", "predict", _ASKED),
    Kind("predictions/*.json", "marker logits", "predict", _ASKED),
    Kind("metrics.parquet", "voxel metrics", "evaluate", ("predictions/*.nii.gz", "cohort")),
    Kind("markers.parquet", "marker predictions", "evaluate", ("predictions/*.json", "cohort")),
    Kind("age_only.parquet", "marker predictions from age alone", "evaluate", ("predictions/*.json", "cohort")),
    Kind("volumes_and_place.parquet", "marker predictions from volumes and place", "evaluate", ("predictions/*.json", "cohort")),
    Kind("fitted.json", "thresholds and calibration", "evaluate", ("markers.parquet",)),
    Kind("headline.json", "headline numbers", "evaluate", ("metrics.parquet", "markers.parquet")),
    Kind("subset_*.parquet", "results per subset of sequences", "robustness", (*_ASKED, "cohort")),
    Kind("sensitivity.parquet", "marker predictions under disturbances", "sensitivity", _ASKED),
    Kind("corrupted.parquet", "Dice on corrupted test cases", "sensitivity", (*_ASKED, "cohort")),
    Kind("experts.parquet", "Dice of each expert", "experts", (*_ASKED, "cohort")),
    Kind("importance.parquet", "importance of features", "importance", ("training.json", "features.parquet")),
    Kind("features.parquet", "features", "features", _ASKED),
    Kind("maps/*", "explanation map", "explain", _ASKED),
    Kind("figures/*", "figure", "show", ("metrics.parquet", "markers.parquet", "events.jsonl")),
    Kind("notebook.ipynb", "executed notebook", "notebook"),
    Kind("report.html", "report", "report", ("notebook.ipynb",)),
)
"""The first that matches a path holds. What matches none is of kind 'other'."""


def kind_of(path: str) -> Kind:
    """The kind of a file of a run folder, by its path relative to the folder."""
    return next((kind for kind in KINDS if fnmatchcase(path, kind.pattern)), Kind(path, "other", "unknown"))

"""The kinds of a run's files: the first pattern that matches holds, and what each is made from leads somewhere."""

from __future__ import annotations

import pytest

from workbench.records.artefact_kinds import KINDS, kind_of

ROOTS = {"cohort", "split", "prepared", "pretrained", "embeddings", "masks", "parents", "checkpoint"}
"""What is no file of the run, and the checkpoint that it was judged with."""


@pytest.mark.parametrize(
    ("path", "step", "title"),
    [
        ("checkpoints/encoder.safetensors", "evaluate", "encoder"),
        ("checkpoints/best.safetensors", "train", "weights"),
        ("predictions/A-1.nii.gz", "predict", "predicted mask"),
        ("predictions/A-1.json", "predict", "marker logits"),
        ("subset_metrics.parquet", "robustness", "results per subset of sequences"),
        ("metrics.parquet", "evaluate", "voxel metrics"),
        ("Metrics.parquet", "unknown", "other"),
        ("notes.txt", "unknown", "other"),
    ],
)
def test_a_file_is_of_the_first_kind_that_matches(path: str, step: str, title: str) -> None:
    assert (kind_of(path).step, kind_of(path).title) == (step, title)


def test_every_kind_is_reached_and_made_from_what_there_is() -> None:
    for kind in KINDS:
        assert kind_of(kind.pattern.replace("*", "x")) is kind, "an earlier pattern hides it"
        assert set(kind.made_from) <= ROOTS | {known.pattern for known in KINDS}, kind.pattern

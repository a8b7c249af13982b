"""The chain behind one file of a run, back to the cohort."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_run import make_recorded_run

from workbench.errors import RunError
from workbench.files import file_digest, read_json, write_json
from workbench.records.artefacts_file import ARTEFACTS_FILE
from workbench.records.lineage import lineage, lineage_lines
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_recorded_run(tmp_path)


def test_the_chain_of_a_file_goes_back_to_the_cohort(run: RunFolder) -> None:
    node = lineage(run.folder, "fitted.json")
    lines = list(lineage_lines(node))
    order = ["fitted.json", "markers.parquet", "predictions/*.json|predictions/A.json", "checkpoints/best.safetensors", "split",
             "cohort small"]  # fmt: skip
    at = -1
    for step in order:
        at = next(i for i, line in enumerate(lines) if i > at and any(text in line for text in step.split("|")))
    text = "\n".join(lines)
    assert "training step 40" in text
    assert "fold 0, seed 3" in text
    assert "9" * 32 in text, "the pretrained weights"
    assert run.spec["cohort"]["fingerprint"] in text
    assert sum(line.lstrip().startswith("<- cohort small") and "see above" not in line for line in lines) == 1
    assert lineage(run.folder, run.folder / "fitted.json") == node


def test_pretrained_weights_lead_to_the_run_that_made_them(run: RunFolder) -> None:
    maker = RunFolder.create(run.folder.parents[1] / "before", {**run.spec, "run": "0123", "experiment": "before"})
    maker.claim()
    maker.path("checkpoints", "encoder.safetensors").write_bytes(b"weights")
    maker.set_status("completed")
    write_artefacts(maker)
    document = read_json(run.folder / ARTEFACTS_FILE)
    document["inputs"]["pretrained"]["digest"] = file_digest(maker.folder / "checkpoints" / "encoder.safetensors")
    write_json(run.folder / ARTEFACTS_FILE, document)
    assert "made by run before/0123, checkpoints/encoder.safetensors" in "\n".join(
        lineage_lines(lineage(run.folder, "events.jsonl"))
    )


@pytest.mark.parametrize(
    ("derived", "origin"),
    [
        ({"kind": "pooled", "parents": ["0", "1"]}, "parent runs: kind pooled, runs demo/0, demo/1"),
        ({"kind": "imported", "parents": [], "digest": "d" * 16}, "predictions made elsewhere, imported  " + "d" * 16),
    ],
)
def test_predictions_of_derived_runs_lead_to_where_they_come_from(run: RunFolder, derived: dict, origin: str) -> None:
    spec = {**run.spec, "run": "def", "derived": derived, "parameters": {"fold": "all"}}
    made = RunFolder.create(run.folder.parent, spec)
    made.claim()
    made.path("predictions", "A.nii.gz").write_bytes(b"mask")
    made.path("metrics.parquet").write_bytes(b"table")
    made.set_status("completed")
    files = write_artefacts(made, step=derived["kind"])["files"]
    assert files["metrics.parquet"]["step"] == derived["kind"]
    assert origin in "\n".join(lineage_lines(lineage(made.folder, "metrics.parquet")))


def test_an_unknown_file_is_refused_with_a_hint(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"predictions/A\.nii\.gz"):
        lineage(run.folder, "A.nii.gz")

"""External cases of a pooled run: who predicts them, by which regions they are judged, and what must still be there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import RunError
from workbench.evaluation.thresholds import ALL_FOLDS
from workbench.experiments import pooling_external
from workbench.experiments.pooling_external import judge_external
from workbench.files import write_json, write_parquet
from workbench.prepare.images import native_labels
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.steps.long_tables import METRIC_COLUMNS

MASKED, WHOLE, BARE = "TINY-00000-000", "TINY-00004-000", "TINY-00003-000"
"""External cases with a glioma mask, with a whole-tumour mask, and with none."""


def make(cohort: Cohort, folder: Path, name: str, fold: Any, **more: Any) -> RunFolder:
    known = {"name": "tiny", "path": str(cohort.folder), "fingerprint": cohort.fingerprint(), "phantom": True}
    spec = {"run": name, "method": "unet", "experiment": "e", "parameters": {"fold": fold}, "cohort": known, "threads": 1}
    return RunFolder.create(folder / "e", spec | more)


@pytest.fixture
def folds(tiny_cohort: Cohort, tmp_path: Path) -> list[RunFolder]:
    """Two trained folds that judged the external cases, and a test case each."""
    made = []
    for fold in (0, 1):
        run = make(tiny_cohort, tmp_path, f"fold{fold}", fold)
        write_json(run.path(TRAINING_FILE), {})
        run.checkpoint("best").with_suffix(".safetensors").write_bytes(b"")
        judged = {MASKED: ["WT", "ET"], WHOLE: ["WT"], "TINY-00001-000": ["WT"]}
        rows = [
            {"case": case, "subject": case[:10], "site": "there", "fold": fold, "present": "t1", "region": region,
             "metric": "dice", "split": "test" if case == "TINY-00001-000" else "external", "value": 0.1, "n_truth": 1,
             "n_prediction": 1}
            for case, regions in judged.items() for region in regions
        ]  # fmt: skip
        write_parquet(run.path("metrics.parquet"), pd.DataFrame(rows))
        markers = pd.DataFrame({"case": [MASKED, WHOLE, BARE], "split": "external"})
        write_parquet(run.path("markers.parquet"), markers)
        made.append(run)
    return made


@pytest.fixture
def pooled(tiny_cohort: Cohort, tmp_path: Path, folds: list[RunFolder]) -> RunFolder:
    return make(tiny_cohort, tmp_path, "pooled", "all", derived={"kind": "pooled", "parents": [run.folder.name for run in folds]})


@pytest.fixture
def asked(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str]]:
    """(folds asked together, case) of each prediction; what is predicted is the truth."""
    calls: list[tuple[list[str], str]] = []
    parameters = SimpleNamespace(modality_names=tuple, spacing=4.0)

    def predict(members: Any, case: str, modalities: tuple[str, ...]) -> str:
        assert modalities == tiny_cohort.modalities
        calls.append(([member.run for member in members], case))
        return case

    def write(predicted: str, case: str, folder: Path, source: Path) -> None:
        image, truth = nib.load(source), native_labels(tiny_cohort, case)
        labels = np.zeros(image.shape, np.uint8) if truth is None else truth
        folder.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, image.affine), folder / f"{case}.nii.gz")
        write_json(folder / f"{case}.json", {"markers": {}})

    def load(runs: list[RunFolder]) -> list[Any]:
        return [SimpleNamespace(run=run.folder.name, parameters=parameters) for run in runs]

    monkeypatch.setattr(pooling_external, "load_members", load)
    monkeypatch.setattr(pooling_external, "prepare_cohort", lambda *_, **__: SimpleNamespace(case=lambda name: name))
    monkeypatch.setattr(pooling_external, "predict_together", predict)
    monkeypatch.setattr(pooling_external, "write_case", write)
    return calls


def test_all_folds_predict_together_and_cases_are_judged_as_the_folds_were(
    pooled: RunFolder, folds: list[RunFolder], asked: list[Any]
) -> None:
    table = judge_external(pooled, folds, progress=False)
    assert asked == [(["fold0", "fold1"], case) for case in (MASKED, WHOLE, BARE)], "no test case is predicted again"
    assert list(table.columns) == METRIC_COLUMNS
    dice = table[table["metric"] == "dice"].set_index(["case", "region"])
    assert dice["value"].to_dict() == {(MASKED, "WT"): 1.0, (MASKED, "ET"): 1.0, (WHOLE, "WT"): 1.0}
    assert set(table["fold"]) == {ALL_FOLDS}
    assert set(table["site"]) == {"there"}
    assert set(table["split"]) == {"external"}
    judge_external(pooled, folds, progress=False)
    assert len(asked) == 3, "what is predicted is not predicted again"


def test_without_a_mask_nothing_is_measured(pooled: RunFolder, folds: list[RunFolder], asked: list[Any]) -> None:
    metrics = folds[0].metrics()
    write_parquet(folds[0].path("metrics.parquet"), metrics[metrics["split"] != "external"])
    table = judge_external(pooled, folds, progress=False)
    assert (len(table), list(table.columns), len(asked)) == (0, METRIC_COLUMNS, 3)


def test_a_lost_checkpoint_is_named_with_its_fold(pooled: RunFolder, folds: list[RunFolder], asked: list[Any]) -> None:
    folds[1].checkpoint("best").with_suffix(".safetensors").unlink()
    with pytest.raises(RunError, match=r"^fold1 has no checkpoint any more: .*--without-external"):
        judge_external(pooled, folds, progress=False)
    assert asked == []


def test_a_cohort_that_changed_is_refused(pooled: RunFolder, folds: list[RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cohort, "fingerprint", lambda self: "another")
    with pytest.raises(RunError, match=r"cannot be judged on external cases: its cohort .* is not what it was then"):
        judge_external(pooled, folds, progress=False)

"""Prediction into a folder: which files a case leaves, whose header they have, and what is not done twice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.files import read_json, write_json
from workbench.inference.predict import CasePrediction
from workbench.records.run_folder import RunFolder
from workbench.setup.parameters import ExperimentParameters
from workbench.steps import prediction
from workbench.steps.prediction import held_out, marker_file, predict_all, reference_image, segmentation_file, write_case


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    spec = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}
    return RunFolder.create(tmp_path / "e", spec)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path | None]]:
    """(file, source of its header) of each mask that is written."""
    files: list[tuple[Path, Path | None]] = []
    monkeypatch.setattr(prediction, "export_labels", lambda predicted, case, path, source: files.append((path, source)))
    return files


def test_the_header_is_the_masks_or_else_the_first_sequences(tiny_cohort: Cohort) -> None:
    masked, bare = "TINY-00000-000", "TINY-00003-000"
    assert reference_image(tiny_cohort, masked) == tiny_cohort.path(masked, "segmentation")
    assert reference_image(tiny_cohort, bare) == tiny_cohort.path(bare, "t1")


def test_a_case_leaves_a_mask_and_a_small_file(run: RunFolder, exported: list[Any]) -> None:
    case: Any = SimpleNamespace(name="c")
    logits = {"idh": np.array([1.5], np.float32), "grade": np.array([1, 2, 3], np.float32)}
    found = CasePrediction("c", ("t1",), np.zeros((4, 2, 2, 2), np.float32), logits, (3, 4, 5), "tumour")
    write_case(found, case, run.path("predictions"), Path("seg.nii.gz"))
    assert exported == [(segmentation_file(run, "c"), Path("seg.nii.gz"))]
    assert read_json(marker_file(run, "c")) == {
        "markers": {"idh": [1.5], "grade": [1, 2, 3]}, "centre": [3, 4, 5], "centre_from": "tumour",
    }  # fmt: skip


def test_a_method_that_does_not_segment_leaves_no_mask(run: RunFolder, exported: list[Any]) -> None:
    write_case(CasePrediction("c", ("t1",), None, {}), SimpleNamespace(name="c"), run.path("predictions"), None)  # type: ignore[arg-type]
    assert exported == []
    assert read_json(marker_file(run, "c")) == {"markers": {}}


def test_held_out_cases_are_predicted_once_with_what_their_split_shows(
    run: RunFolder, exported: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training cases are not; logits are kept for validation cases alone."""
    split = {"a": "train", "b": "validation", "c": "test", "d": "external", "e": "test"}
    setup: Any = SimpleNamespace(
        run=run, split=split, modalities=("t1", "t2"), patch=(8, 8, 8), device="cpu", trained_model=lambda: "model",
        cases_by_split={
            name: pd.DataFrame({"case": [case for case, where in split.items() if where == name]})
            for name in ("train", "validation", "test", "external")
        },
        shown_in=lambda name: ("t1",) if name == "validation" else ("t1", "t2"), cohort=SimpleNamespace(
            path=lambda case, name: Path(f"{case}-{name}"), present=lambda case: ("t1",)
        ),
        progress=SimpleNamespace(over=lambda items, *_: items),
        prepared=SimpleNamespace(case=lambda name: SimpleNamespace(name=name)),
        parameters=ExperimentParameters.build("unet", {"mirror": "xz", "window_batch": 3, "overlap": 0.25}).resolve(),
    )  # fmt: skip
    assert [row["case"] for row in held_out(setup)] == ["b", "c", "e", "d"]
    asked: dict[str, tuple[str, ...]] = {}

    def predict(model: Any, case: Any, *, present: tuple[str, ...], **how: Any) -> CasePrediction:
        asked[case.name] = present
        assert (how["mirror"], how["window_batch"], how["overlap"], how["whole"]) == ((0, 2), 3, 0.25, False)
        return CasePrediction(case.name, present, np.zeros((2, 2, 2, 2), np.float32), {"idh": np.zeros(1)})

    kept: list[str] = []
    monkeypatch.setattr(prediction, "predict_case", predict)
    monkeypatch.setattr(prediction, "save_logits", lambda predicted, path: kept.append(path.name))
    write_json(run.path("predictions", "e.json"), {"markers": {}})
    predict_all(setup)
    assert asked == {"b": ("t1",), "c": ("t1", "t2"), "d": ("t1", "t2")}
    assert kept == ["b.logits.b2nd"]
    assert [source for _, source in exported] == [Path("b-segmentation"), Path("c-segmentation"), Path("d-segmentation")]
    setup.trained_model = None  # is not asked for
    predict_all(setup)
    assert len(asked) == 3

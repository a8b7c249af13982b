"""Which models make a run's predictions, and what they say together."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench.errors import RunError
from workbench.files import write_json
from workbench.inference.predict import CasePrediction
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.records.spec import EXTERNAL
from workbench.setup.parameters import ExperimentParameters
from workbench.steps import fold_models
from workbench.steps.fold_models import Member, load_members, member_runs, predict_together


def make(
    folder: Path, name: str, *, method: str = "unet", trained: bool = True, markers: tuple[str, ...] = (), **more: Any
) -> RunFolder:
    spec = {"run": name, "method": method, "experiment": "e", "parameters": {"size": "demo"}, "cohort": {"name": "demo"}}
    run = RunFolder.create(folder / "e", spec | more)
    if trained:
        built = {"modalities": ["t1"], "classes": 4, "markers": list(markers), "patch": [8, 8, 8]}
        write_json(run.path(TRAINING_FILE), {"checkpoint": "best", "model": built})
    return run


def test_a_run_has_its_own_model_and_a_pooled_one_those_of_its_folds(tmp_path: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    pooled = make(tmp_path, "pooled", trained=False, derived={"kind": "pooled", "parents": ["one", "two"]})
    assert [run.folder for run in member_runs(one)] == [one.folder]
    assert [run.folder for run in member_runs(pooled)] == [one.folder, two.folder]
    shutil.rmtree(two.folder)
    with pytest.raises(RunError, match=r"pooled.*its folds two are not beside it; copy them there"):
        member_runs(pooled)
    one.path(TRAINING_FILE).unlink()
    with pytest.raises(RunError, match="one is not trained yet"):
        member_runs(one)


def test_what_has_no_model_to_predict_with_is_refused(tmp_path: Path) -> None:
    imported = make(tmp_path, "imported", method=EXTERNAL, trained=False, derived={"kind": "imported", "parents": []})
    with pytest.raises(RunError, match="imported predictions: there is no model"):
        member_runs(imported)
    with pytest.raises(RunError, match=r"pretrains an encoder.*as 'pretrained'"):
        member_runs(make(tmp_path, "encoder", method="pretrain_swin"))


def test_models_that_do_not_go_together_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are read from the checkpoint that training kept, with the options of the run."""
    runs = [
        make(tmp_path, "one", markers=("idh",)),
        make(tmp_path, "two", markers=("idh", "grade")),
        make(tmp_path, "three", markers=("idh",)),
    ]
    read: list[Path] = []

    def create(method: str, *, modalities: Any, classes: int, markers: Any, **options: Any) -> Any:
        model = SimpleNamespace(modalities=modalities, classes=classes, markers=markers, width=options["width"])
        model.to = model.eval = lambda *_: model
        return model

    def load(stem: Path, model: Any) -> Any:
        read.append(stem)
        return {"model": {"seen": {}}}

    monkeypatch.setattr(fold_models, "create_model", create)
    monkeypatch.setattr(fold_models, "load_weights", load)
    members = load_members([runs[0], runs[2]])
    assert read == [runs[0].checkpoint("best"), runs[2].checkpoint("best")]
    assert [member.patch for member in members] == [(8, 8, 8)] * 2
    assert members[0].model.markers == ("idh",)
    assert members[0].described == {"seen": {}}
    with pytest.raises(RunError, match=r"one and two do not go together: their markers are \('idh',\) and \('idh', 'grade'\)"):
        load_members(runs)


def test_several_models_say_the_mean_of_their_probabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(model: float, case: Any, **how: Any) -> CasePrediction:
        assert how["whole"]
        return CasePrediction(case, how["present"], None, {"idh": np.array([model], np.float32)})

    monkeypatch.setattr(fold_models, "predict_case", predict)
    parameters = ExperimentParameters.build("unet", {"size": "demo"}).resolve()
    one, two = (Member(None, logit, parameters, (8, 8, 8), {}) for logit in (0.0, np.log(9)))  # type: ignore[arg-type]
    alone = predict_together([two], "c", ("t1",), ("t1",))  # type: ignore[arg-type]
    assert alone.markers["idh"] == pytest.approx(np.log(9))
    both = predict_together([one, two], "c", ("t1",), ("t1",))  # type: ignore[arg-type]
    assert both.marker_probabilities()["idh"] == pytest.approx((0.5 + 0.9) / 2)

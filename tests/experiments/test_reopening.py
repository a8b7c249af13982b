"""A run folder becomes an experiment again, or is refused with the reason; runs are judged under subsets afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.experiments.experiment import Experiment
from workbench.experiments.reopening import reopen, robustness_of, sensitivity_of
from workbench.files import read_json, write_json
from workbench.records.run_folder import SUBSET_MARKERS_FILE, RunFolder
from workbench.setup.parameters import ExperimentParameters

QUICK = {
    "size": "demo", "spacing": 6.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "width": 4, "levels": 3, "patch": 16,
    "sampling": "patch", "threads": 1, "batch_size": 1, "modality_dropout": 0.0, "maps": 0,
}  # fmt: skip


def experiment(cohort: Cohort, folder: Path, **values: object) -> Experiment:
    parameters = {**QUICK, "cohort": str(cohort.folder), "runs": str(folder), **values}
    return Experiment(ExperimentParameters.build("unet", parameters), progress=False)


@pytest.fixture(scope="module")
def judged(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A U-Net as it is set up; nothing is prepared or trained."""
    return experiment(tiny_cohort, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copied(judged: Experiment, tmp_path: Path) -> Callable[..., Path]:
    """Function that makes a copy of the run whose spec says something else; its cohort stays where it is."""

    def make(**changes: Any) -> Path:
        copy = Path(shutil.copytree(judged.run.folder, tmp_path / "runs" / "default" / judged.run.folder.name))
        spec = read_json(copy / "spec.json")
        spec["cohort"]["path"] = str(judged.cohort.folder.resolve())
        write_json(copy / "spec.json", spec | changes)
        return copy

    return make


def test_a_pretraining_run_is_refused(judged: Experiment, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(judged.run.folder, tmp_path / judged.run.folder.name))
    write_json(copy / "spec.json", read_json(copy / "spec.json") | {"method": "amaes_pretrain"})
    for judge in (robustness_of, sensitivity_of):
        with pytest.raises(RunError, match=r"amaes_pretrain, which pretrains and predicts nothing"):
            judge([copy])


def test_a_finished_run_can_be_judged_later_and_its_cohort_must_be_the_same(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = experiment(tiny_cohort, tmp_path, subsets="none", seed=5).train().robustness()
    assert late.run.subset_metrics() is None
    assert "none" in late.result_table("subsets").data
    table = robustness_of([late.run.folder])
    assert (late.run.folder / SUBSET_MARKERS_FILE).is_file()
    assert {"dice WT"} <= set(table["judged by"])
    assert len(list(tmp_path.rglob("spec.json"))) == 1, "no other run was made"
    both = sensitivity_of([late.run.folder, late.run.folder])
    assert set(both["trained on"]) == {"clean"}
    assert set(both["test"]) >= {"clean", "sequences 2 mm aside", "masks without 30 % of lesions"}
    assert {"dice WT"} <= set(both["judged by"])
    shown = CliRunner().invoke(app, ["sensitivity", str(late.run.folder), "--json"])
    printed = [row["value"] for row in json.loads(shown.stdout)]
    assert printed == pytest.approx(both["value"][: len(both) // 2].tolist(), nan_ok=True)
    again = reopen(late.run.folder)
    assert again.run.folder.resolve() == late.run.folder.resolve()
    with pytest.raises(ParameterError, match="test and external"):
        robustness_of([late.run.folder], split="train")
    with monkeypatch.context() as moved:
        moved.setattr(RunFolder, "cohort_path", tmp_path / "nowhere")
        with pytest.raises(RunError, match="was it moved"):
            reopen(late.run.folder)
    monkeypatch.setattr(Cohort, "fingerprint", lambda self: "another")
    with pytest.raises(RunError, match="not what it was then"):
        reopen(late.run.folder)


def test_a_run_is_opened_with_the_parameters_it_was_made_with(judged: Experiment, copied: Callable[..., Path]) -> None:
    """Wherever it lies now."""
    again = reopen(judged.run.folder)
    assert again.run.folder.resolve() == judged.run.folder.resolve()
    assert again.parameters.identity() == judged.parameters.identity()
    moved = reopen(copied())
    assert moved.run.folder.resolve() != judged.run.folder.resolve()
    assert moved.run.spec["run"] == judged.run.spec["run"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"derived": {"kind": "imported", "parents": []}}, "holds imported predictions: there is no network"),
        ({"derived": {"kind": "pooled", "parents": ["a", "b"]}}, "made of the folds a, b: there is no one network to ask"),
        ({"method": "radiomics"}, "is of radiomics, which has no network"),
    ],
)
def test_what_has_no_network_is_refused(changes: dict[str, Any], reason: str, copied: Callable[..., Path]) -> None:
    with pytest.raises(RunError, match=reason):
        reopen(copied(**changes))


def test_a_run_of_another_version_or_of_another_cohort_is_refused(judged: Experiment, copied: Callable[..., Path]) -> None:
    older = {name: value for name, value in judged.run.spec["parameters"].items() if name != "overlap"}
    folder = copied(parameters=older, code_version="0.0.1")
    with pytest.raises(RunError, match=r"another version of the workbench \(0\.0\.1\), whose parameters are not these"):
        reopen(folder)
    cohort = read_json(folder / "spec.json")["cohort"]
    spec = dict(judged.run.spec)
    write_json(folder / "spec.json", spec | {"cohort": cohort | {"fingerprint": "0" * 16}})
    with pytest.raises(RunError, match="is not what it was then"):
        reopen(folder)
    write_json(folder / "spec.json", spec | {"cohort": cohort | {"path": "nowhere"}})
    with pytest.raises(RunError, match="cannot be read; was it moved"):
        reopen(folder)

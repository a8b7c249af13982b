"""The trained models behind a run: its own, or those of the folds of a pooled run, which predict together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench.contracts import PRETRAINING
from workbench.errors import RunError
from workbench.files import read_json
from workbench.inference.ensemble import average_predictions
from workbench.inference.predict import CasePrediction, predict_case
from workbench.models.catalogue import card
from workbench.models.method import MethodModule
from workbench.models.registry import create_model
from workbench.prepare.store import PreparedCase
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.records.spec import IMPORTED, POOLED
from workbench.setup.parameters import ExperimentParameters, as_recorded
from workbench.training.checkpoints import load_weights


@dataclass(frozen=True)
class Member:
    """A trained model, ready to predict."""

    run: RunFolder
    model: MethodModule
    parameters: ExperimentParameters
    patch: tuple[int, int, int]
    described: dict[str, Any]
    """What the checkpoint says of the model."""


def member_runs(run: RunFolder) -> list[RunFolder]:
    """The runs whose models make a run's predictions: the run itself, or the folds of a pooled one.

    Raises:
        RunError: there is no model: imported predictions, a pretraining, a run that is not trained, a fold that is gone.
    """
    derived = run.spec.get("derived") or {}
    if derived.get("kind") == IMPORTED:
        raise RunError(f"run {run.folder} holds imported predictions: there is no model to predict with")
    runs = [run]
    if derived.get("kind") == POOLED:
        gone = [name for name in derived["parents"] if not (run.folder.parent / name).is_dir()]
        if gone:
            raise RunError(f"pooled run {run.folder}: its folds {', '.join(gone)} are not beside it; copy them there")
        runs = [RunFolder.open(run.folder.parent / name) for name in derived["parents"]]
    if PRETRAINING in card(run.spec["method"]).tasks:
        raise RunError(
            f"run {run.folder} pretrains an encoder and predicts nothing: give its checkpoints/encoder.safetensors to a "
            "method as 'pretrained'"
        )
    for member in runs:
        if not (member.folder / TRAINING_FILE).is_file():
            raise RunError(f"run {member.folder} is not trained yet")
    return runs


def load_members(runs: Sequence[RunFolder]) -> list[Member]:
    """The models of some runs with their best weights, on the device there is.

    Raises:
        RunError: models of several folds that do not go together: other sequences, classes or markers.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    members = []
    for run in runs:
        training, method = read_json(run.folder / TRAINING_FILE), run.spec["method"]
        given = {name: value for name, value in run.spec["parameters"].items() if name != "method"}
        parameters = ExperimentParameters.build(method, as_recorded(method, given))
        built = training["model"]
        model = create_model(
            method, modalities=tuple(built["modalities"]), classes=built["classes"], markers=tuple(built["markers"]),
            **parameters.options(),
        )  # fmt: skip
        described = load_weights(run.checkpoint(training["checkpoint"]), model)["model"]
        x, y, z = (int(n) for n in built["patch"])
        members.append(Member(run, model.to(device).eval(), parameters, (x, y, z), described))
    first = members[0]
    for other in members[1:]:
        for what in ("modalities", "classes", "markers"):
            if getattr(first.model, what) != getattr(other.model, what):
                raise RunError(
                    f"the models of {first.run.folder.name} and {other.run.folder.name} do not go together: their {what} are "
                    f"{getattr(first.model, what)} and {getattr(other.model, what)}"
                )
    return members


def predict_together(
    members: Sequence[Member], case: PreparedCase, modalities: Sequence[str], present: Sequence[str] | None = None
) -> CasePrediction:
    """One case by all models: of several the mean of their probabilities, each having looked at the case by itself."""
    found = [
        predict_case(
            member.model, case, modalities=modalities, present=present, patch=member.patch, **member.parameters.inference(),
        )
        for member in members
    ]  # fmt: skip
    return found[0] if len(found) == 1 else average_predictions(found, of="probabilities")

"""`workbench extend`: a finished training taken further, as a run of its own that names its parent.

The parent stays what it is. The child takes up its last checkpoint (weights, optimiser, moving average, step) and trains on to
the new number of epochs. By its schedule, which is a share of its length, the parent's learning rate has fallen to nothing. The
added steps are therefore a cycle of their own: they warm up to the peak again and decay over the added steps alone, in the
method's last stage (a warm restart: Loshchilov and Hutter, SGDR, ICLR 2017). This is not the run that one gets by training for
the new length from the start, and the child says so. Steps, samples and operations count from the parent's beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.execution.notebook import run_notebook
from workbench.files import read_json
from workbench.models.catalogue import card
from workbench.records.run_folder import RunFolder
from workbench.records.spec import EXTENDED
from workbench.setup.parameters import DIGEST_PREFIX, ExperimentParameters, as_recorded, pretrained_digest

CHANGEABLE = (
    "epochs", "patience", "validate_every", "learning_rate", "warmup", "workers", "resamples", "maps", "cam", "subsets",
)  # fmt: skip
"""Parameters that an extension may set; all others are the parent's."""


def extend_run(folder: str | Path, given: Mapping[str, Any], *, timeout: float = 0.0, progress: bool = True) -> RunFolder:
    """Train a completed run further, in a child run; repeating it resumes the child, or finds it completed.

    Args:
        folder: the parent's run folder.
        given: parameters of the child, text or typed: `epochs`, its length counted from the parent's beginning, and what else is
            in `CHANGEABLE`. Paths of files that the parent's method reads are given again, the files must be the same.
        timeout: as for `run_notebook`.
        progress: as for `run_notebook`.

    Raises:
        ParameterError: a parameter that an extension cannot change, or no more epochs than the parent has.
        RunError: the parent is not completed, is no training, has lost its checkpoint, or its cohort changed.
    """
    parent = RunFolder.open(folder)
    values = _inherited(parent) | _checked(parent, given)
    epochs = ExperimentParameters.build(parent.spec["method"], values).epochs
    derived = {"kind": EXTENDED, "parents": [parent.spec["run"]], "after": _steps_done(parent, epochs)}
    return run_notebook(parent.spec["method"], values, timeout=timeout, progress=progress, derived=derived)


def _inherited(parent: RunFolder) -> dict[str, Any]:
    """The parent's parameters with the places of cohort and runs folder."""
    derived = parent.spec.get("derived") or {}
    if not _has_network(parent) or derived.get("kind", EXTENDED) != EXTENDED:
        kind = derived.get("kind", parent.spec["method"])
        raise RunError(f"run {parent.folder} is no training that could be extended ({kind})")
    if (state := parent.effective_state()) != "completed":
        raise RunError(f"run {parent.folder} is {state}: only a completed run is extended; run it again to resume it")
    parent.unchanged_cohort("cannot be extended")
    return as_recorded(parent.spec["method"], parent.parameters_here())


def _has_network(parent: RunFolder) -> bool:
    try:
        return card(parent.spec["method"]).network
    except ParameterError:
        return False  # imported from elsewhere


def _checked(parent: RunFolder, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters, held against the parent's."""
    values, before = dict(given), parent.spec["parameters"]
    for name in ("pretrained", "embeddings"):  # known by what the file holds; the path may be another one
        if str(before.get(name, "")).startswith(DIGEST_PREFIX) and name in values:
            if pretrained_digest(str(values[name]), name) != before[name]:
                raise ParameterError(
                    f"parameter '{name}': {values[name]} is not the file that run {parent.spec['run']} was given"
                )
        elif name in values:
            raise ParameterError(f"parameter '{name}': run {parent.spec['run']} was given no such file")
    fixed = [name for name in values if name not in CHANGEABLE and name not in ("pretrained", "embeddings")]
    known = ExperimentParameters.for_method(parent.spec["method"]).model_fields
    if unknown := [name for name in fixed if name not in known]:
        raise ParameterError(f"parameter '{unknown[0]}' is unknown to {parent.spec['method']}")
    if fixed:
        raise ParameterError(
            f"parameter '{fixed[0]}' cannot change when a run is extended: its weights were trained with "
            f"{fixed[0]}={before.get(fixed[0])}. What can: {', '.join(CHANGEABLE)}"
        )
    if "epochs" not in values:
        raise ParameterError(f"parameter 'epochs' is missing: to how many epochs? The run has {before['epochs']}")
    return values


def _steps_done(parent: RunFolder, epochs: int) -> int:
    """Optimiser steps that the parent has done, fewer than `epochs` are."""
    path = parent.folder / "checkpoints" / "last.json"
    if not path.is_file():
        raise RunError(f"run {parent.folder} cannot be extended: its last checkpoint is gone (pruned?)")
    try:
        document = read_json(path)
        done, per_epoch = int(document["state"]["step"]), int(document["settings"]["steps_per_epoch"])
    except (WorkbenchError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"run {parent.folder} cannot be extended: {path} is damaged ({error})") from error
    if epochs * per_epoch <= done:
        raise ParameterError(
            f"parameter 'epochs' = {epochs}: run {parent.spec['run']} has done {done / per_epoch:g} epochs already; give more"
        )
    return done

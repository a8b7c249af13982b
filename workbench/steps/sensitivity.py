"""How much a trained model's markers depend on registration and on the tumour gate being right.

A network that compares T2 with FLAIR inside a predicted tumour can fail in two ways that no metric of a clean test set shows:
the two sequences do not lie on each other, or the predicted tumour is wrong. Each disturbance changes one thing at inference,
on the test cases, with the weights as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.contracts import MARKER_TASK
from workbench.evaluation.markers import auc_interval
from workbench.evaluation.summaries import AVAILABLE
from workbench.files import write_parquet
from workbench.inference.windows import crop
from workbench.labels import REGIONS
from workbench.models.method import changed_gate
from workbench.prepare.store import PreparedCase
from workbench.records.provenance import register
from workbench.sampling.corruption import moved, registration_errors
from workbench.seeding import stream
from workbench.setup.run_setup import RunSetup
from workbench.steps.long_tables import MARKER_COLUMNS, marker_rows
from workbench.steps.marker_window import MarkerWindow, marker_window

if TYPE_CHECKING:
    from workbench.models.method import MethodModule

SENSITIVITY_FILE = "sensitivity.parquet"
UNDISTURBED = "as it is"


@dataclass(frozen=True)
class Disturbance:
    """One change at inference."""

    name: str
    shift: float = 0.0
    """FLAIR is moved by so many mm against the other sequences, along a direction drawn per case."""
    aside: float = 0.0
    """Each sequence but the first that a case shows lies so many mm aside, as training can have it (`sampling.corruption`)."""
    gate: str = ""
    """'none' (open everywhere), 'truth' (the reference mask), 'eroded' or 'shifted'; '' = as the model makes it."""
    amount: float = 0.0
    """How far the gate is eroded or shifted, mm."""


DISTURBANCES = (
    Disturbance(UNDISTURBED),
    Disturbance("FLAIR shifted 1 mm", shift=1.0),
    Disturbance("FLAIR shifted 2 mm", shift=2.0),
    Disturbance("FLAIR shifted 3 mm", shift=3.0),
    Disturbance("sequences 1 mm aside", aside=1.0),
    Disturbance("sequences 2 mm aside", aside=2.0),
    Disturbance("sequences 3 mm aside", aside=3.0),
    Disturbance("gate from the reference mask", gate="truth"),
    Disturbance("no gate", gate="none"),
    Disturbance("gate eroded 3 mm", gate="eroded", amount=3.0),
    Disturbance("gate shifted 6 mm", gate="shifted", amount=6.0),
    Disturbance("gate shifted 15 mm", gate="shifted", amount=15.0),
)


def sensitivity_rows(setup: RunSetup) -> pd.DataFrame:
    """Marker predictions of the test cases under each disturbance; kept in the run folder, made once.

    Returns:
        The columns of markers.parquet and `disturbance`. Disturbances of a gate are left out for a method without one, shifts
        of FLAIR for a case without it, sequences aside for a case that has one.
    """
    path = setup.run.folder / SENSITIVITY_FILE
    if path.is_file():
        return pd.read_parquet(path)
    model = setup.trained_model()
    held_out = setup.cases_by_split["test"]
    tables = []
    for _, row in setup.progress.over(held_out.iterrows(), "disturbing", len(held_out)) if setup.markers else ():
        case = setup.prepared.case(row["case"])
        window = marker_window(setup, case)
        for disturbance in DISTURBANCES:
            logits = disturbed_logits(model, setup, case, window, disturbance)
            if logits:
                tables.append(marker_rows(setup, row, logits).assign(disturbance=disturbance.name))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*MARKER_COLUMNS, "disturbance"])
    write_parquet(path, table)
    register(setup.run.folder, SENSITIVITY_FILE)
    return table


def sensitivity_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What each disturbance does to a marker.

    Args:
        rows: of `sensitivity_rows`.

    Returns:
        marker, class, disturbance; auc with low and high, and undisturbed, the AUC of the same cases left alone (NaN where not
        estimable); n, n_subjects; change: mean absolute change of the logit; flipped: share of cases whose decision at a half
        changes.
    """
    found = []
    rows = rows.assign(present=AVAILABLE)  # each case with what it has, as in the ordinary evaluation
    for (marker, name), part in rows.groupby(["marker", "class"], sort=False):
        before = part[part["disturbance"] == UNDISTURBED].set_index("case")
        for disturbance, group in part.groupby("disturbance", sort=False):
            after = group.set_index("case")
            reference = before.loc[after.index]
            area = auc_interval(group)
            alone = auc_interval(reference.reset_index())
            decisions, decided = (table["probability"] >= 0.5 for table in (reference, after))
            found.append(
                {
                    "marker": marker,
                    "class": name,
                    "disturbance": disturbance,
                    "auc": area.value,
                    "low": area.low,
                    "high": area.high,
                    "undisturbed": alone.value,
                    "n": len(group),
                    "n_subjects": group["subject"].nunique(),
                    "change": float((after["logit"] - reference["logit"]).abs().mean()),
                    "flipped": float((decisions != decided).mean()),
                }
            )
    columns = ["marker", "class", "disturbance", "auc", "low", "high", "undisturbed", "n", "n_subjects", "change", "flipped"]
    return pd.DataFrame(found, columns=columns)


def disturbed_logits(
    model: MethodModule, setup: RunSetup, case: PreparedCase, window: MarkerWindow, disturbance: Disturbance
) -> dict[str, np.ndarray]:
    """Marker logits under one disturbance; empty where it does not apply to this model or case."""
    modalities, images = setup.modalities, window.images
    spacing = setup.parameters.spacing
    if disturbance.shift:
        if "flair" not in modalities or not bool(window.present[0, modalities.index("flair")]):
            return {}
        images = images.clone()
        channel = modalities.index("flair")
        offset = _direction(setup, case) * disturbance.shift / spacing
        images[0, channel] = torch.from_numpy(moved(images[0, channel].cpu().numpy(), offset))
    if disturbance.aside:
        shown = [name for name, there in zip(modalities, window.present[0].tolist(), strict=True) if there]
        if len(shown) < 2:
            return {}
        images = images.clone()
        for name, error in registration_errors(setup.parameters.seed, case.name, shown, disturbance.aside).items():
            channel = modalities.index(name)
            images[0, channel] = torch.from_numpy(moved(images[0, channel].cpu().numpy(), error / spacing))
    change: Callable[[Tensor], Tensor] | None = None
    if disturbance.gate:
        if not model.gated:
            return {}
        change = _gate_change(setup, case, window, disturbance, spacing)
        if change is None:
            return {}
    with torch.inference_mode(), changed_gate(model, change):
        found = model(images, window.present, modalities, tasks=(MARKER_TASK,)).markers
    return {name: value[0].float().cpu().numpy() for name, value in found.items()}


def _gate_change(
    setup: RunSetup, case: PreparedCase, window: MarkerWindow, disturbance: Disturbance, spacing: float
) -> Callable[[Tensor], Tensor] | None:
    if disturbance.gate == "none":
        return torch.ones_like
    if disturbance.gate == "truth":
        labels = case.labels()
        if labels is None:
            return None
        mask = torch.from_numpy(np.isin(labels, REGIONS["WT"]).astype(np.float32))[None, None].to(setup.device)
        truth = crop(mask, window.start, window.shape)
        return lambda gate: F.interpolate(truth, size=gate.shape[2:], mode="area").to(gate)
    if disturbance.gate == "eroded":
        return lambda gate: eroded(gate, disturbance.amount / (spacing * window.shape[0] / gate.shape[2]))
    direction = _direction(setup, case)
    return lambda gate: shifted(gate, direction * disturbance.amount / (spacing * window.shape[0] / gate.shape[2]))


def eroded(gate: Tensor, voxels: float) -> Tensor:
    """Grey-scale erosion of (1, 1, x, y, z) with a cube of at least one voxel to each side."""
    radius = max(1, round(voxels))
    return -F.max_pool3d(-gate, 2 * radius + 1, stride=1, padding=radius)


def shifted(gate: Tensor, offset: np.ndarray) -> Tensor:
    """(1, 1, x, y, z) moved by whole voxels (at least one along the longest side of `offset`); zeros move in."""
    steps = np.rint(offset).astype(int)
    if not steps.any():
        longest = int(np.abs(offset).argmax())
        steps[longest] = 1 if offset[longest] >= 0 else -1
    return crop(gate, [-int(step) for step in steps], gate.shape[2:])


def _direction(setup: RunSetup, case: PreparedCase) -> np.ndarray:
    """A unit vector, the same for a case whatever is shifted."""
    vector = stream(setup.parameters.seed, "disturbance", case.name).normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))

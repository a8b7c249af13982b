"""The score by which training chooses its checkpoint; the second of training's two inversions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from workbench.contracts import SEGMENTATION
from workbench.inference.predict import predict_case
from workbench.labels import region_mask, regions_of
from workbench.models.catalogue import card
from workbench.setup.run_setup import RunSetup


class Validation:
    """Callable that scores a model on the validation cases: mean Dice over regions, plus mean AUC where it can be had.

    On the prepared grid, hence quick and close to, but not equal to, the Dice reported on the native grid. A region counts
    where its truth is not empty; a marker counts where the validation cases show both classes. Where nothing can be scored, e.g.
    a marker method whose validation cases are all of one class, its length is 0 and the last checkpoint is taken.
    """

    def __init__(self, setup: RunSetup) -> None:
        self.setup = setup
        rows = setup.cases_by_split["validation"]
        self.segments = SEGMENTATION in card(setup.parameters.method).tasks
        both = any(_positive(rows[name], name).nunique() == 2 for name in setup.markers)
        self.rows = rows if both or (self.segments and rows["segmentation"].notna().any()) else rows.iloc[:0]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """Name of the score."""
        parts = ["mean Dice"] * self.segments + ["mean AUC"] * bool(self.setup.markers)
        return " + ".join(parts)

    def __call__(self, model: Any) -> float:
        """The score; higher is better."""
        setup = self.setup
        dice: list[float] = []
        logits: dict[str, list[tuple[float, float]]] = {name: [] for name in setup.markers}
        for _, row in self.rows.iterrows():
            setup.run.raise_on_stop()
            case = setup.prepared.case(row["case"])
            shown = [name for name in setup.learned_modalities if name in case.modalities]
            predicted = predict_case(
                model, case, modalities=setup.modalities, present=shown, patch=setup.patch, overlap=0.25,
                device=setup.device, whole=setup.parameters.sampling == "whole",
                precision=setup.parameters.precision,
            )  # fmt: skip
            truth = case.labels()
            if truth is not None and predicted.logits is not None:
                labels = predicted.logits.argmax(axis=0).astype(np.uint8)
                dice += [
                    region_dice(labels, truth, region)
                    for region in regions_of(case.label_set)
                    if region_mask(truth, region).any()
                ]
            for name in setup.markers:
                value = row[name]
                if name in predicted.markers and not pd.isna(value):
                    positive = float(value == 4) if name == "grade" else float(value)
                    logits[name].append((positive, float(np.ravel(predicted.markers[name])[-1])))
        parts = [float(np.mean(dice))] if dice else []
        areas = [area for pairs in logits.values() if (area := _auc(pairs)) is not None]
        if areas:
            parts.append(float(np.mean(areas)))
        return float(np.sum(parts))


def _positive(values: pd.Series, marker: str) -> pd.Series:
    """Known values as 0 or 1; grade 4 against the others."""
    known = values.dropna().astype(float)
    return known == (4 if marker == "grade" else 1)


def region_dice(labels: np.ndarray, truth: np.ndarray, region: str) -> float:
    """Dice of one region of two label maps of the same grid; one of them has it."""
    a, b = region_mask(labels, region), region_mask(truth, region)
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def _auc(pairs: list[tuple[float, float]]) -> float | None:
    truth = [truth for truth, _ in pairs]
    return float(roc_auc_score(truth, [logit for _, logit in pairs])) if len(set(truth)) == 2 else None

"""The score by which training chooses its checkpoint: the highest is kept, as `training.loop` compares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from workbench.evaluation.markers import class_rows
from workbench.evaluation.segmentation import region_dice
from workbench.inference.predict import predict_case
from workbench.labels import region_mask, regions_of
from workbench.setup.run_setup import RunSetup


class Validation:
    """Callable that scores a model on the validation cases: mean Dice over regions, plus mean AUC where it can be had.

    On the prepared grid, hence quick and close to, but not equal to, the Dice reported on the native grid. A region counts
    where its truth is not empty; a marker counts where the validation cases show both classes, of grades 2, 3 and 4 the mean
    over the classes, each against the rest as in `class_rows`: raw logits of a softmax are not comparable between cases. Where
    nothing can be scored, e.g. a marker method whose validation cases are all of one class, its length is 0 and the last
    checkpoint is taken.
    """

    def __init__(self, setup: RunSetup) -> None:
        self.setup = setup
        rows = setup.cases_by_split["validation"]
        both = any(setup.told_apart(name, rows).nunique() >= 2 for name in setup.markers)
        self.rows = rows if both or (setup.segments and rows["segmentation"].notna().any()) else rows.iloc[:0]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """Name of the score."""
        parts = ["mean Dice"] * self.setup.segments + ["mean AUC"] * bool(self.setup.markers)
        return " + ".join(parts)

    def __call__(self, model: Any) -> float:
        """The score; higher is better."""
        setup = self.setup
        dice: list[float] = []
        found: dict[str, list[tuple[str, float, float, float]]] = {name: [] for name in setup.markers}
        for _, row in self.rows.iterrows():
            setup.run.raise_on_stop()
            case = setup.prepared.case(row["case"])
            shown = [name for name in setup.learned_modalities if name in case.modalities]
            # not mirrored: it only chooses among checkpoints, and comes often
            predicted = predict_case(
                model, case, modalities=setup.modalities, present=shown, patch=setup.patch, overlap=0.25,
                device=setup.device, whole=setup.parameters.sampling == "whole", precision=setup.parameters.precision,
                window_batch=setup.parameters.window_batch,
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
                if name in predicted.markers and not pd.isna(row[name]):
                    found[name] += class_rows(name, row[name], np.ravel(predicted.markers[name]))
        parts = [float(np.mean(dice))] if dice else []
        areas = [area for rows in found.values() if (area := _auc(rows)) is not None]
        if areas:
            parts.append(float(np.mean(areas)))
        return float(np.sum(parts))


def _auc(rows: list[tuple[str, float, float, float]]) -> float | None:
    """Mean over a marker's classes, each against the rest, of which the cases show both."""
    areas = []
    for name in dict.fromkeys(name for name, *_ in rows):
        truth, logits = zip(*((truth, logit) for of, truth, logit, _ in rows if of == name), strict=True)
        if len(set(truth)) == 2:
            areas.append(roc_auc_score(truth, logits))
    return float(np.mean(areas)) if areas else None

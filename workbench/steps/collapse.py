"""Collapse monitors of a pretraining on its validation cases: while it trains, and of the encoder that is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.evaluation.collapse import Collapse, judge_collapse
from workbench.inference.windows import centred_start, crop
from workbench.models.pretraining import PretrainingModule
from workbench.setup.run_setup import RunSetup
from workbench.steps.marker_window import case_tensors

PREFIX = "collapse/"
"""Of the scalars in events.jsonl: `collapse/effective_rank`, ..."""
TOKENS = 256
"""Tokens of a case that the rank is measured on, evenly spread over it: enough to fill every direction of several cases."""


def measure_collapse(setup: RunSetup, model: PretrainingModule, rows: pd.DataFrame) -> Collapse | None:
    """The monitors over some cases, in a patch around the middle of each; None where the method has no token features.

    Every case is read with all the sequences that validation cases may show, and with each of them alone.
    """
    may = setup.shown_in("validation")
    tokens, whole, parts, part_of = [], [], [], []
    for number, name in enumerate(map(str, rows["case"])):
        case = setup.prepared.case(name)
        images, present = case_tensors(setup, case)
        present = present & torch.tensor([[m in may for m in setup.modalities]]).to(present)
        images = crop(images, centred_start(case.shape, setup.patch), setup.patch)
        images, present = model.arrange(images, present, setup.modalities)
        found = _features(model, images, present)
        if found is None:
            return None
        tokens.append(found[:: max(1, len(found) // TOKENS)])
        whole.append(found.mean(0))
        there = present[0].nonzero()[:, 0].tolist()
        for channel in there if len(there) > 1 else ():
            single = torch.zeros_like(present)
            single[:, channel] = True
            alone = _features(model, images, single)
            assert alone is not None
            parts.append(alone.mean(0))
            part_of.append(number)
    if not whole:
        return None
    stacked = np.stack(parts) if parts else np.zeros((0, whole[0].shape[0]))
    return judge_collapse(np.concatenate(tokens), np.stack(whole), stacked, part_of, [str(s) for s in rows["subject"]])


def _features(model: PretrainingModule, images: Any, present: Any) -> np.ndarray | None:
    """(T, D) of the one case."""
    with torch.no_grad():
        found = model.token_features(images, present)
    return None if found is None else found[0].float().cpu().numpy()


def collapse_scalars(found: Collapse | None) -> dict[str, float]:
    """The monitors as scalars for the run's events; only what is a number."""
    if found is None:
        return {}
    values = {
        f"{PREFIX}{name}": float(value) for name, value in found.as_dict().items() if name not in ("directions", "subjects")
    }
    return {name: value for name, value in values.items() if np.isfinite(value)}

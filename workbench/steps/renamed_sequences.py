"""The same images under other names: what a method that knows sequences by their text makes of a name it has never seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from workbench.cohort.table import cohort_title
from workbench.errors import ParameterError
from workbench.evaluation.segmentation import region_dice
from workbench.inference.windows import centred_start, crop, paste, whole_shape
from workbench.labels import regions_of
from workbench.models.brainfm.modality_text import similarity, text_vectors
from workbench.models.brainfm.open_channels import OpenChannels
from workbench.setup.run_setup import RunSetup
from workbench.steps.marker_window import case_tensors


def renamed_sequences(setup: RunSetup, names: Sequence[str], split: str = "test") -> pd.DataFrame:
    """Mean Dice of single sequences that are shown under their own name, and under others.

    One window in the middle of each case with a mask, on the prepared grid, no intervals: a probe, not a result. If the text
    matters, a name of like meaning costs less than one of another meaning.

    Args:
        setup: a trained run of a method with `open_modalities`.
        names: the other names; none of them may be one of the experiment's sequences.
        split: whose cases.

    Returns:
        A row per sequence and name: similarity of the two texts (the built-in vectors), mean Dice over the largest region of the
        label set, cases. A name that the method refuses (one-hot modality embedding) has no cases.

    Raises:
        ParameterError: the method knows sequences by their channel, or a name is one of the experiment's sequences.
    """
    model = setup.trained_model()
    if not isinstance(model, OpenChannels):
        raise ParameterError(f"{setup.parameters.method} takes only the sequences it was built for")
    if taken := [name for name in names if name in setup.modalities]:
        raise ParameterError(f"{', '.join(taken)} is a sequence of this experiment: choose names that it has never seen")
    refused = model.refused(names)
    dice: dict[tuple[str, str], list[float]] = {}
    for name in map(str, setup.cases_by_split[split]["case"]):
        case = setup.prepared.case(name)
        truth = case.labels()
        if truth is None:
            continue
        region = regions_of(case.label_set)[0]
        images, present = case_tensors(setup, case)
        window = whole_shape(case.shape, setup.patch, model.divisor, model.minimum)
        start = centred_start(case.shape, window)
        for channel, own in enumerate(setup.modalities):
            if not bool(present[0, channel]):
                continue
            seen = crop(images[:, [channel]], start, window)
            for shown in (own, *names):
                if shown in refused:
                    dice.setdefault((own, shown), [])
                    continue
                with torch.no_grad():
                    logits = model(seen, torch.ones(1, 1, dtype=torch.bool, device=seen.device), (shown,)).segmentation
                found = paste(logits.float(), start, case.shape)[0].argmax(0).cpu().numpy().astype(np.uint8)
                found[~case.brain()] = 0
                dice.setdefault((own, shown), []).append(region_dice(found, truth, region))
    rows = [
        {
            "sequence": own, "shown as": shown,
            "similarity of the texts": float(similarity(text_vectors([own]), text_vectors([shown]))[0, 0]),
            "mean Dice": float(np.nanmean(values)) if np.isfinite(values).any() else float("nan"),
            "cases": int(np.isfinite(values).sum()),
        }
        for (own, shown), values in dice.items()
    ]  # fmt: skip
    columns = ["sequence", "shown as", "similarity of the texts", "mean Dice", "cases"]
    table = pd.DataFrame(rows, columns=columns).set_index(["sequence", "shown as"]).round(3)
    table.columns.name = cohort_title(setup.cohort.info.name, setup.cohort.info.phantom)
    return table

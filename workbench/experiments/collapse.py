"""Collapse monitors of a pretraining on its validation cases: while it trains, and of the encoder that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

from workbench.errors import RunError
from workbench.evaluation.collapse import Collapse, judge_collapse
from workbench.experiments.marker_window import case_tensors
from workbench.inference.windows import centred_start, crop
from workbench.models.pretraining import PretrainingModule
from workbench.views.theme import cohort_title

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment

PREFIX = "collapse/"
"""Of the scalars in events.jsonl: `collapse/effective_rank`, ..."""
TOKENS = 256
"""Tokens of a case that the rank is measured on, evenly spread over it: enough to fill every direction of several cases."""


def measure_collapse(experiment: Experiment, model: PretrainingModule, rows: pd.DataFrame) -> Collapse | None:
    """The monitors over some cases, in a patch around the middle of each; None where the method has no token features.

    Every case is read with all the sequences that validation cases may show, and with each of them alone.
    """
    may = experiment.shown_in("validation")
    tokens, whole, parts, part_of = [], [], [], []
    for number, name in enumerate(map(str, rows["case"])):
        case = experiment.prepared.case(name)
        images, present = case_tensors(experiment, case)
        present = present & torch.tensor([[m in may for m in experiment.modalities]]).to(present)
        images = crop(images, centred_start(case.shape, experiment.patch), experiment.patch)
        images, present = model.arrange(images, present, experiment.modalities)
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


def collapse_report(experiment: Experiment) -> pd.DataFrame:
    """Display the verdict on the best checkpoint's features, and return the monitors: while it trained, and of that checkpoint.

    Raises:
        RunError: the run is not trained, or its method has no token features.
    """
    if not experiment.trained:
        raise RunError(f"run {experiment.run.folder} is not trained yet: call .train()")
    model = experiment.model.to(experiment.device).eval()
    assert isinstance(model, PretrainingModule)
    rows = experiment.cases_by_split["validation"]
    found = measure_collapse(experiment, model, rows)
    if found is None:
        raise RunError(
            f"{experiment.parameters.method} has no token features, or there is no validation case: nothing to monitor"
        )
    events = experiment.run.events()
    history = events[events["name"].str.startswith(PREFIX)].drop_duplicates(["name", "step"], keep="last")
    table = history.assign(name=history["name"].str.removeprefix(PREFIX)).pivot(index="step", columns="name", values="value")
    table.index = [f"step {step}" for step in table.index]
    table.loc[f"kept: step {experiment.training['best_step']}"] = pd.Series(found.as_dict())
    titles = {
        "effective_rank": f"effective rank of tokens (at most {found.directions})",
        "between_subjects": "similarity between subjects",
        "within_subjects": "one sequence to all, same subject",
        "off_diagonal": "off-diagonal covariance",
    }
    info = experiment.cohort.info
    display(Markdown(f"**{found.sentence}** ({len(rows)} validation cases of {cohort_title(info.name, info.phantom)})"))
    table = table.reindex(columns=list(titles)).rename(columns=titles)
    table.columns.name = cohort_title(info.name, info.phantom)
    return table.round(3)

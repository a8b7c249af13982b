"""What a notebook shows of a mixture of experts: each expert alone beside the fused output, and what the networks cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
from IPython.display import Markdown

from workbench.cohort.table import cohort_title
from workbench.evaluation.intervals import difference_intervals, mean_intervals
from workbench.evaluation.metrics import metric
from workbench.models.mome.mome import MixtureMethod
from workbench.reports.sentences import sentences
from workbench.setup.run_setup import RunSetup
from workbench.steps.cost import cost_table, task_networks
from workbench.steps.expert_scores import expert_scores
from workbench.views.estimates import estimate_text


def expert_table(setup: RunSetup) -> pd.DataFrame | Markdown:
    """Per split, sequence and region: Dice of the expert alone, fused, and the paired difference, each with its interval."""
    scores = expert_scores(setup)
    if scores.empty:
        why = "has no experts" if not isinstance(setup.network, MixtureMethod) else "has no test case with a mask"
        return sentences(f"*{setup.parameters.method} {why}: there is nothing to compare.*")
    place = {name: index for index, name in enumerate(setup.modalities)}
    scores = scores.sort_values("sequence", key=lambda names: names.map(place), kind="stable").sort_values(
        "split", key=lambda names: names != "test", kind="stable"
    )
    rows = {}
    for key, group in scores.groupby(["split", "sequence", "region"], sort=False):
        columns = np.column_stack([group["alone"], group["fused"], group["fused"] - group["alone"]])
        found = [
            *mean_intervals(columns[:, :2], group["subject"], [metric("dice").limits] * 2),
            *difference_intervals(columns[:, 2:], group["subject"]),
        ]
        rows[key] = {"n": len(group)} | {
            name: estimate_text(each.value, each.low, each.high, subjects=each.n_subjects)
            for name, each in zip(("Dice, expert alone", "Dice, fused", "fused - alone"), found, strict=True)
        }
    table = pd.DataFrame(rows).T
    table.index.names = ["split", "sequence read", "region"]
    info = setup.cohort.info
    table.columns.name = f"{cohort_title(info.name, info.phantom)}, one image each, working grid"
    return table


def experiment_costs(setup: RunSetup) -> pd.DataFrame:
    """`cost_table` at the run's own plan, counted; the task-specific set is that of the cohort's data sets and sequences."""
    networks = task_networks(setup.cohort.cases, setup.modalities)
    plan = {name: getattr(setup.network.options, name) for name in ("width", "levels")}
    side = max(setup.patch)
    batch = setup.parameters.batch_size
    table = cost_table(setup.modalities, setup.network.classes, len(networks), options=plan, side=side, batch=batch)
    return table.map(lambda value: f"{value:,.3g}")

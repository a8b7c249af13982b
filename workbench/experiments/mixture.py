"""What a mixture of experts owes to its parts: each expert alone beside the fused output, and what the networks cost.

An expert that has drifted during the joint training (the paper calls it degeneration) scores low alone on its own sequence: the
curriculum is against that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from IPython.display import Markdown

from workbench.evaluation.intervals import mean_intervals
from workbench.experiments.cost import Cost, measured_cost, planned_cost
from workbench.experiments.evaluating import judged_regions
from workbench.experiments.robustness import judged_cases
from workbench.experiments.validation import region_dice
from workbench.files import read_json, write_json, write_parquet
from workbench.inference.predict import predict_case
from workbench.labels import region_mask
from workbench.models.mome.mome import MixtureMethod, expert_alone
from workbench.records.provenance import register
from workbench.sampling.batches import datasets
from workbench.views.theme import cohort_title, estimate_text

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment

EXPERTS_FILE = "experts.parquet"
COLUMNS = ["case", "subject", "site", "split", "sequence", "region", "alone", "fused"]
GIB = 2**30


def expert_scores(experiment: Experiment) -> pd.DataFrame:
    """Dice of each expert alone and of the fused output, both from one image of the expert's own sequence.

    On the test and external cases (six with `subsets=few`), for regions that the truth has, on the working grid. Written to
    `experts.parquet`, case by case, so that it can be interrupted; empty for a method without experts.

    Returns:
        Columns case, subject, site, split, sequence, region, alone, fused.
    """
    path = experiment.run.folder / EXPERTS_FILE
    if path.is_file():
        return pd.read_parquet(path)
    model = experiment.model.to(experiment.device).eval()
    if not isinstance(model, MixtureMethod):
        return pd.DataFrame(columns=COLUMNS)
    _ = experiment.training  # raises where there is none
    cases = judged_cases(experiment, "few" if experiment.parameters.subsets == "few" else "all")
    found: list[dict[str, Any]] = []
    for row in experiment.progress.over(cases, "scoring experts", len(cases)):
        kept = experiment.run.path("experts", f"{row['case']}.json")
        if not kept.is_file():
            write_json(kept, _scores(experiment, model, row))
        found += read_json(kept)
    table = pd.DataFrame(found, columns=COLUMNS)
    write_parquet(path, table)
    for row in cases:
        experiment.run.path("experts", f"{row['case']}.json").unlink()
    (experiment.run.folder / "experts").rmdir()
    register(experiment.run.folder, EXPERTS_FILE)
    return table


def _scores(experiment: Experiment, model: MixtureMethod, row: pd.Series) -> list[dict[str, Any]]:
    case = experiment.prepared.case(row["case"])
    truth = case.labels()
    if truth is None:
        return []
    there = [name for name, has in zip(case.modalities, case.present, strict=True) if has and name in model.modalities]
    regions = [name for name in judged_regions(experiment, row) if region_mask(truth, name).any()]
    p, rows = experiment.parameters, []
    for sequence in there:
        dice = {}
        for way, network in (("alone", expert_alone(model, sequence)), ("fused", model)):
            predicted = predict_case(
                network, case, modalities=network.modalities, present=(sequence,), patch=experiment.patch, overlap=p.overlap,
                device=experiment.device, whole=p.sampling == "whole", precision=p.precision,
            )  # fmt: skip
            labels = predicted.labels()
            assert labels is not None
            dice[way] = {region: region_dice(labels, truth, region) for region in regions}
        who = {name: row[name] for name in ("case", "subject", "site")} | {"split": experiment.split[row["case"]]}
        rows += [
            who | {"sequence": sequence, "region": region, "alone": dice["alone"][region], "fused": dice["fused"][region]}
            for region in regions
        ]
    return rows


def expert_table(experiment: Experiment) -> pd.DataFrame | Markdown:
    """Per split, sequence and region: Dice of the expert alone, fused, and the paired difference, each with its interval."""
    scores = expert_scores(experiment)
    if scores.empty:
        why = "has no experts" if not isinstance(experiment.model, MixtureMethod) else "has no test case with a mask"
        return Markdown(f"*{experiment.parameters.method} {why}: there is nothing to compare.*")
    place = {name: index for index, name in enumerate(experiment.modalities)}
    scores = scores.sort_values("sequence", key=lambda names: names.map(place), kind="stable").sort_values(
        "split", key=lambda names: names != "test", kind="stable"
    )
    rows = {}
    for key, group in scores.groupby(["split", "sequence", "region"], sort=False):
        columns = np.column_stack([group["alone"], group["fused"], group["fused"] - group["alone"]])
        found = mean_intervals(columns, group["subject"], resamples=experiment.parameters.resamples)
        rows[key] = {"n": len(group)} | {
            name: estimate_text(each.value, each.low, each.high)
            for name, each in zip(("Dice, expert alone", "Dice, fused", "fused - alone"), found, strict=True)
        }
    table = pd.DataFrame(rows).T
    table.index.names = ["split", "sequence read", "region"]
    info = experiment.cohort.info
    table.columns.name = f"{cohort_title(info.name, info.phantom)}, one image each, working grid"
    return table


def task_networks(cohort_cases: pd.DataFrame, modalities: tuple[str, ...]) -> list[tuple[str, str]]:
    """The (data set, sequence) pairs that have images: one task-specific network each. Where data sets are unknown, sites."""
    groups = cohort_cases.groupby(datasets(cohort_cases), sort=True)
    return [(str(source), name) for source, rows in groups for name in modalities if rows[name].notna().any()]


def cost_table(
    modalities: tuple[str, ...], classes: int, networks: int, *, options: dict[str, Any] | None = None, side: int = 128,
    batch: int = 2, run: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """What the compared networks cost at one plan: MoME in its three memory forms, MoME+, pooled and task-specific U-Nets.

    Args:
        modalities: sequences, one expert each.
        classes: of the segmentation.
        networks: how many task-specific networks a full set is, see `task_networks`; each is as large as the pooled one.
        options: width and levels; None = the paper's.
        side: of the cubic patch.
        batch: samples per step.
        run: also run steps on the CPU for time and peak memory; at the paper's size that needs a large machine.

    Returns:
        One row per choice; parameters in millions, memory in GiB (float32, SGD with momentum), operations in TFLOP per step. A
        task-specific set is trained one network at a time: its memory is one network's, its operations and time those of all.
    """
    count = measured_cost if run else planned_cost
    rows = {}
    for title, method, extra in (
        ("MoME", "mome", {}),
        ("MoME, experts checkpointed", "mome", {"experts": "checkpointed"}),
        ("MoME, experts frozen", "mome", {"experts": "frozen"}),
        ("MoME+", "mome_plus", {}),
        ("pooled U-Net", "pooled_unet", {}),
    ):
        cost = count(method, {**(options or {}), **extra}, modalities=modalities, classes=classes, side=side, batch=batch)
        rows[title] = _cost_row(cost, 1, run)
    rows[f"task-specific U-Nets ({networks})"] = _cost_row(cost, networks, run)
    table = pd.DataFrame(rows).T
    table.index.name = f"{side}^3, batch {batch}"
    return table


def _cost_row(cost: Cost, networks: int, run: bool) -> dict[str, float]:
    row = {
        "parameters (M)": networks * cost.parameters / 1e6,
        "TFLOP a step": networks * cost.flops / 1e12,
        "kept activations (GiB)": cost.kept / GIB,
        "memory at least (GiB)": cost.memory / GIB,
    }
    if run:
        row |= {"peak memory (GiB)": cost.peak / GIB, "seconds a step": networks * cost.seconds}
    return row


def experiment_costs(experiment: Experiment) -> pd.DataFrame:
    """`cost_table` at the run's own plan, counted; the task-specific set is that of the cohort's data sets and sequences."""
    networks = task_networks(experiment.cohort.cases, experiment.modalities)
    plan = {name: getattr(experiment.model.options, name) for name in ("width", "levels")}
    side = max(experiment.patch)
    batch = experiment.parameters.batch_size
    table = cost_table(experiment.modalities, experiment.model.classes, len(networks), options=plan, side=side, batch=batch)
    return table.map(lambda value: f"{value:,.3g}")

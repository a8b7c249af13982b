"""What a notebook shows of the evaluation under every subset of sequences: tables as text, and stills."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from workbench.cohort.table import cohort_title
from workbench.evaluation.metrics import TRUE_CLASS, metric_title
from workbench.evaluation.robustness import TOLERANCE, subset_order
from workbench.labels import REGIONS
from workbench.setup.run_setup import RunSetup
from workbench.steps.subsets import subset_results, untrained_subsets
from workbench.views.estimates import estimate_text
from workbench.views.figures.robustness import subset_title
from workbench.views.figures.robustness_stills import number_still, subset_still
from workbench.views.tables import marker_title

SPLIT = "test"


def subset_table(setup: RunSetup) -> pd.DataFrame:
    """Rows: subsets of the test split; columns: n, Dice of each region and AUC of each marker with intervals."""
    found = subset_results(setup)
    columns: dict[str, pd.Series] = {}
    segmentation, markers = _of_split(found["segmentation"]), _of_split(found["markers"])
    counts = []
    if len(segmentation):
        dice = segmentation[segmentation["metric"] == "dice"]
        counts.append(dice.set_index("present")["n"])
        for region in sorted(dice["region"].unique(), key=list(REGIONS).index):
            columns[f"Dice {region}"] = _texts(dice[dice["region"] == region])
    if len(markers):
        counts.append(markers.set_index("present")["n"])
        for (marker, name), part in markers.groupby(["marker", "class"], sort=False):
            columns[f"AUC {marker_title(str(marker), str(name))}"] = _texts(part)
    if not columns:
        return pd.DataFrame()
    order = subset_order({p for column in columns.values() for p in column.index}, setup.modalities)
    table = pd.DataFrame(columns).reindex(order).fillna("-")
    n = pd.concat(counts).groupby(level=0).max()
    table.insert(0, "n", n.reindex(order).astype(int))
    untrained = untrained_subsets(setup)
    table.index = pd.Index([subset_title(present, untrained) for present in order], name="shown")
    table.columns.name = _title(setup)
    return table


def added_table(setup: RunSetup) -> pd.DataFrame:
    """Rows: region or marker and the sequence that is added; columns: mean gain, share of cases made worse, pairs."""
    added = _of_split(subset_results(setup)["added"])
    if added.empty:
        return pd.DataFrame()
    rows = [
        {
            "judged by": _judged_by(row["metric"], row["region"]),
            "added": subset_title(row["added"]) if row["added"] != "any" else "any sequence",
            "n": int(row["n"]),
            "pairs of subsets": int(row["pairs"]),
            "mean change": estimate_text(row["gain"], row["gain_low"], row["gain_high"], 3, subjects=row["n_subjects"]),
            f"share worse by more than {TOLERANCE:g}": estimate_text(
                row["harmed"], row["harmed_low"], row["harmed_high"], subjects=row["n_subjects"]
            ),
        }
        for _, row in added.iterrows()
    ]
    table = pd.DataFrame(rows).set_index(["judged by", "added"])
    table.columns.name = _title(setup)
    return table


def subset_figure(setup: RunSetup) -> Figure | None:
    """Heat map: Dice of each region and AUC of each marker under every subset; None where nothing was judged."""
    found = subset_results(setup)
    segmentation, markers = _of_split(found["segmentation"]), _of_split(found["markers"])
    parts, columns = [], []
    if len(segmentation):
        dice = segmentation[segmentation["metric"] == "dice"]
        regions = sorted(dice["region"].unique(), key=list(REGIONS).index)
        columns += [f"Dice {region}" for region in regions]
        parts.append(dice.assign(column="Dice " + dice["region"]))
    if len(markers):
        named = [f"AUC {m}" + (f" {c}" if m == "grade" else "") for m, c in zip(markers["marker"], markers["class"], strict=True)]
        columns += list(dict.fromkeys(named))
        parts.append(markers.assign(column=named, value=markers["value"].where(markers["estimable"].astype(bool))))
    if not parts:
        return None
    table = pd.concat([part[["present", "column", "value", "n"]] for part in parts], ignore_index=True)
    return subset_still(
        table, subsets=subset_order(table["present"], setup.modalities), modalities=setup.modalities, columns=columns,
        title=_heading(setup), label="mean over test cases (n. e.: not estimable)", untrained=untrained_subsets(setup),
    )  # fmt: skip


def number_of_sequences_figure(setup: RunSetup) -> Figure | None:
    """Mean Dice, or probability of the true class where the method does not segment, by the number of sequences shown."""
    number = _of_split(subset_results(setup)["number"])
    if number.empty:
        return None
    metric = "dice" if (number["metric"] == "dice").any() else TRUE_CLASS
    rows = number[number["metric"] == metric]
    return number_still(
        rows.assign(series=rows["region"]), title=_heading(setup), ylabel=f"{metric_title(metric)}, mean over subsets"
    )


def _of_split(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == SPLIT] if len(table) else table


def _texts(rows: pd.DataFrame) -> pd.Series:
    texts = [estimate_text(r["value"], r["low"], r["high"], subjects=r["n_subjects"]) for _, r in rows.iterrows()]
    return pd.Series(texts, index=rows["present"], dtype=object)


def _judged_by(metric: str, region: str) -> str:
    return f"Dice {region}" if metric == "dice" else f"{metric}, {region}"


def _title(setup: RunSetup) -> str:
    info = setup.cohort.info
    few = ", few cases" if setup.parameters.subsets == "few" else ""
    return f"{cohort_title(info.name, info.phantom)}{few}"


def _heading(setup: RunSetup) -> str:
    return f"{setup.parameters.method} on {_title(setup)}, fold {setup.parameters.fold}: test cases"

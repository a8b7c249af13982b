"""What a notebook shows of results by group: datasets, kinds of lesion, seen and unseen sites."""

from __future__ import annotations

import numpy as np
import pandas as pd
from IPython.display import Markdown

from workbench.contracts import JUDGED, SEGMENTATION
from workbench.evaluation.groups import GROUPINGS, groups_of, markers_by_group, segmentation_by_group
from workbench.evaluation.metrics import Place, metric_title, shown_in
from workbench.evaluation.summaries import leading
from workbench.reports.sentences import sentences
from workbench.setup.run_setup import RunSetup
from workbench.views.estimates import estimate_text

_ROWS = ["grouping", "group", "split", "judged"]


def group_results(setup: RunSetup) -> dict[str, pd.DataFrame]:
    """The tables of `evaluation.groups` for this run: 'segmentation' and 'markers'; empty where nothing was judged."""
    run, resamples = setup.run, setup.parameters.resamples
    metrics, markers, sites = run.metrics(), run.markers(), trained_sites(setup)
    return {
        "segmentation": pd.DataFrame() if metrics is None else segmentation_by_group(metrics, sites, resamples=resamples),
        "markers": pd.DataFrame() if markers is None else markers_by_group(markers, sites, resamples=resamples),
    }


def trained_sites(setup: RunSetup) -> set[str]:
    """The sites of the training cases."""
    return set(map(str, setup.cases_by_split["train"]["site"]))


def only_one_group(setup: RunSetup) -> Markdown | None:
    """A sentence where the tested cases form one group, however they are grouped; None where there is something to tell apart."""
    found: dict[str, set[str]] = {name: set() for name in GROUPINGS}
    cases: set[str] = set()
    for table in (setup.run.metrics(), setup.run.markers()):
        if table is not None:
            cases |= set(table.loc[table["split"].isin(JUDGED), "case"])
            for name, groups in groups_of(table, trained_sites(setup)).items():
                found[name] |= set(groups)
    if any(len(groups) > 1 for groups in found.values()):
        return None
    said = {"dataset": "one dataset", "lesion": "one kind of lesion", "sites": "sites"}
    parts = [f"{said[name]} ({', '.join(groups)})" for name, groups in found.items() if groups]
    silent = [name for name in ("dataset", "lesion") if not found[name]]
    rest = f" The cohort's table does not say their {' or '.join(silent)}." if silent else ""
    return sentences(
        f"*There is only one group: the {len(cases)} judged cases are of {' and '.join(parts) or 'no split'}.{rest}*"
    )


def group_table(setup: RunSetup) -> pd.DataFrame:
    """Rows grouping, group, split, and the region or marker judged; mean (of a distance median) with interval per metric, and n.

    Only groupings with more than one group are listed.
    """
    parts = []
    for name, table in group_results(setup).items():
        if table.empty:
            continue
        table = leading(table) if name == SEGMENTATION else table
        judged = table["region"].astype(str) if name == SEGMENTATION else table["marker"] + " " + table["class"]
        parts.append(
            table.assign(judged=judged, statistic=table.get("statistic", "mean"))[
                table["metric"].isin(shown_in(Place.GROUPS, name))
            ]
        )
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    several = table.groupby("grouping")["group"].nunique()
    table = table[table["grouping"].isin(several.index[several > 1])]
    if table.empty:
        return pd.DataFrame()
    texts = [estimate_text(row["value"], row["low"], row["high"], subjects=row["n_subjects"]) for _, row in table.iterrows()]
    titles = table["metric"].map(metric_title) + np.where(table["statistic"] == "median", ", median", "")
    table = table.assign(text=texts, metric=titles)
    result = table.pivot(index=_ROWS, columns="metric", values="text").fillna("-")
    result = result.reindex(
        index=pd.MultiIndex.from_frame(table[_ROWS].drop_duplicates()).sortlevel(0, sort_remaining=False)[0],
        columns=list(dict.fromkeys(table["metric"])),
    )
    counts = table.groupby(_ROWS, sort=False)
    result.insert(0, "n", counts["n"].max())
    result.insert(1, "subjects", counts["n_subjects"].max())
    return result

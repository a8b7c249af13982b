"""Results by group: per dataset, per kind of lesion, and on seen and unseen sites.

A mean over a mixed cohort hides what it is made of: where gliomas outnumber infarcts, it is the score on gliomas. Each group's
mean has its own n and a 95 % interval from resampling its subjects. Groups are described, not compared: their cases differ in
more than the group's name, so the paired tests of `comparison` do not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import pandas as pd

from workbench.contracts import JUDGED
from workbench.evaluation.intervals import RESAMPLES
from workbench.evaluation.summaries import summarise_markers, summarise_segmentation

SITE_KIND = "sites"
GROUPINGS = ("dataset", "lesion", SITE_KIND)
SEEN, UNSEEN = "seen in training", "not seen in training"
"""The groups of `sites`: those of the test split of which other subjects were trained on, and all others."""
UNKNOWN = "unknown"
_KEYS = ["grouping", "group", "split"]


def groups_of(table: pd.DataFrame, trained_sites: Collection[str]) -> dict[str, list[str]]:
    """Grouping -> its groups among the tested rows; a grouping whose column is missing or null throughout is left out.

    Args:
        table: rows of metrics.parquet or markers.parquet.
        trained_sites: sites of the training cases. A site may have so few subjects that all of them are tested.
    """
    named = _named(table, trained_sites)
    return {name: _ordered(named[name]) for name in GROUPINGS if name in named}


def segmentation_by_group(
    metrics: pd.DataFrame, trained_sites: Collection[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Mean of each metric per grouping, group, split and region: grouping, group and the columns of `summarise_segmentation`.

    Test and external cases, each judged with all the sequences it has; of other splits there is no row.

    Args:
        metrics: rows of metrics.parquet; the columns dataset and lesion may be missing.
        trained_sites: sites of the training cases.
        resamples: bootstrap resamples of subjects.
        seed: same seed, same intervals.
    """
    return _by_group(
        metrics, trained_sites, lambda part: summarise_segmentation(part, by_present=False, resamples=resamples, seed=seed)
    )


def markers_by_group(
    markers: pd.DataFrame, trained_sites: Collection[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """The same of markers: grouping, group and the columns of `summarise_markers`."""
    return _by_group(
        markers, trained_sites, lambda part: summarise_markers(part, by_present=False, resamples=resamples, seed=seed)
    )


def _ordered(values: pd.Series) -> list[str]:
    """Seen before unseen sites, everything else by name."""
    return sorted(map(str, values.unique()), key=lambda name: (name == UNSEEN, name))


def _by_group(
    table: pd.DataFrame, trained_sites: Collection[str], summarise: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    named = _named(table, trained_sites)
    parts = []
    for grouping in (name for name in GROUPINGS if name in named):
        for group in _ordered(named[grouping]):
            rows = named[named[grouping] == group]
            parts.append(summarise(rows.drop(columns=SITE_KIND)).assign(grouping=grouping, group=group))
    columns = list(summarise(table.iloc[:0]).columns)
    made = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*columns, "grouping", "group"])
    return made[[*_KEYS, *(name for name in columns if name not in _KEYS)]]


def _named(table: pd.DataFrame, trained_sites: Collection[str]) -> pd.DataFrame:
    """The tested rows with a column per grouping that says something; unknown values are a group of their own."""
    tested = table[table["split"].isin(JUDGED)]
    seen = (tested["split"] == "test") & tested["site"].isin(list(trained_sites))
    named = tested.assign(**{SITE_KIND: seen.map({True: SEEN, False: UNSEEN})})
    for column in ("dataset", "lesion"):
        if column not in named:
            continue
        if named[column].isna().all():
            named = named.drop(columns=column)
        else:
            named[column] = named[column].fillna(UNKNOWN).astype(str)
    return named

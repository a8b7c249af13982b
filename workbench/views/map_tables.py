"""Explanation maps in numbers: shares of attribution by region beside chance, and the weight of each sequence by region."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from workbench.contracts import MODALITY_TITLES
from workbench.records.run_folder import ATTRIBUTION_FILE
from workbench.views.map_names import map_order, map_title

_ORDER = ("ET", "NCR", "ED", "RC", "WT", "lesion", "outside")
_OUTSIDE = "brain outside tumour"


def read_map_table(path: Path) -> pd.DataFrame:
    """One of the two files; empty where a run has none, or an old one of other columns."""
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path, dtype={"case": str})
    wanted = (
        {"map", "region", "share", "chance"} if path.name == Path(ATTRIBUTION_FILE).name else {"region", "modality", "weight"}
    )
    return table if wanted <= set(table.columns) else pd.DataFrame()


def reading_order(names: pd.Series) -> list[str]:
    """The regions that occur, in the order in which they are read."""
    found = list(dict.fromkeys(names))
    return [name for name in _ORDER if name in found] + [name for name in found if name not in _ORDER]


def _region_title(region: str) -> str:
    return _OUTSIDE if region == "outside" else region


def mean_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Means over cases: map, region, share, chance, n (cases whose map is not empty); in the order in which they are read."""
    known = table.dropna(subset=["share"])
    means = known.groupby(["map", "region"], sort=False).agg(
        share=("share", "mean"), chance=("chance", "mean"), n=("case", "nunique")
    )
    maps = sorted(dict.fromkeys(known["map"]), key=map_order)
    wanted = [(name, region) for name in maps for region in reading_order(known["region"]) if (name, region) in means.index]
    return means.loc[wanted].reset_index()


def attribution_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per map, a column per region: 'share (chance)' as means over cases. Empty for an empty table.

    `n` counts the cases whose map is not zero everywhere; a map that is so in all cases has a row of dashes.
    """
    if table.empty or table["share"].isna().all():
        return pd.DataFrame()
    means = mean_shares(table)
    means["text"] = [f"{s:.1%} ({c:.1%})" for s, c in zip(means["share"], means["chance"], strict=True)]
    result = means.pivot(index="map", columns="region", values="text")
    every = sorted(dict.fromkeys(table["map"]), key=map_order)
    result = result.reindex(index=every, columns=reading_order(means["region"])).fillna("–")
    result.insert(0, "n", means.groupby("map")["n"].max().reindex(every, fill_value=0))
    result.index = pd.Index([map_title(str(name)) for name in result.index], name="map")
    result.columns = pd.Index([_region_title(str(name)) for name in result.columns], name="share (chance)")
    return result


def weight_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row per sequence, a column per region: mean weight over cases, each case counting once. Empty for an empty table."""
    if table.empty:
        return pd.DataFrame()
    means = table.groupby(["modality", "region"], sort=False)["weight"].mean().unstack()
    means = means.loc[list(dict.fromkeys(table["modality"])), reading_order(table["region"])]
    means.index = pd.Index([MODALITY_TITLES.get(str(name), str(name)) for name in means.index], name="sequence")
    means.columns = pd.Index([_region_title(str(name)) for name in means.columns], name="mean weight")
    return means

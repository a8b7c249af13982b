"""Explanation maps in numbers, as figures: shares of attribution beside chance, and weights of the sequences as a heat map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.views.cases.map_names import map_title
from workbench.views.cases.map_tables import mean_shares, reading_order, weight_table
from workbench.views.theme import colour, theme


def attribution_figure(table: pd.DataFrame, *, title: str) -> Figure | None:
    """Bars of the mean share of each map inside each region; a tick on each bar is chance. None where there is nothing.

    Args:
        table: columns case, map, region, share, chance, as `attribution.csv` holds them.
        title: method and cohort.
    """
    if table.empty or table["share"].isna().all():
        return None
    means = mean_shares(table)
    maps, regions = list(dict.fromkeys(means["map"])), [r for r in reading_order(means["region"]) if r != "outside"]
    figure = Figure(figsize=(7.2, 1.2 + 0.42 * len(maps)), layout="constrained", dpi=110)
    ax = figure.subplots()
    height = 0.8 / len(regions)
    for number, region in enumerate(regions):
        rows = means[means["region"] == region].set_index("map").reindex(maps)
        place = np.arange(len(maps)) + (number - (len(regions) - 1) / 2) * height
        ax.barh(place, rows["share"], height * 0.9, color=colour(number), label=region)
        ax.vlines(rows["chance"], place - height / 2, place + height / 2, color=theme("light").text, linewidth=1.6)
    ax.plot([], [], color=theme("light").text, linewidth=1.6, label="chance: the region's share of the voxels")
    n = means.groupby("map")["n"].max()
    ax.set(
        yticks=range(len(maps)), yticklabels=[f"{map_title(name)}, n {n[name]}" for name in maps],
        xlabel="mean share of the map's sum inside the region",
    )  # fmt: skip
    ax.set_xlim(0, max(0.05, 1.08 * float(means.loc[means["region"] != "outside", ["share", "chance"]].max().max())))
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(regions) + 1, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def weight_figure(table: pd.DataFrame, *, title: str) -> Figure | None:
    """Heat map of the mean weight of each sequence in each region, numbers in the cells. None where there is nothing.

    Args:
        table: columns case, region, modality, weight, voxels, as `modality_weights.csv` holds them.
        title: method and cohort.
    """
    means = weight_table(table)
    if means.empty:
        return None
    counts = table.groupby("region")["case"].nunique()
    regions = reading_order(table["region"])
    figure = Figure(figsize=(2.2 + 1.15 * len(regions), 1.6 + 0.42 * len(means)), layout="constrained", dpi=110)
    ax = figure.subplots()
    top = max(float(means.max().max()), 2 / len(means))
    shown = ax.imshow(means.to_numpy(), cmap="cividis", vmin=0, vmax=top, aspect="auto")
    for row, values in enumerate(means.to_numpy()):
        for column, value in enumerate(values):
            ax.text(
                column, row, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 * top else "white", fontsize=9
            )
    ax.set(
        yticks=range(len(means)), yticklabels=list(means.index), xticks=range(len(regions)),
        xticklabels=[f"{'outside' if r == 'outside' else r}\nn {counts[r]}" for r in regions],
    )  # fmt: skip
    ax.tick_params(length=0, labelsize=9)
    figure.colorbar(shown, ax=ax, label=f"mean weight (even: {1 / len(means):.2f})").ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=10)
    return figure

"""A cohort looked at in a notebook: its tables, what is wrong with it, plots of its fingerprint, and its images."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.figure import Figure

from workbench.cohort.check import check_cohort
from workbench.cohort.show import fingerprint_tables
from workbench.cohort.table import INFO_FILE, Cohort, cohort_title
from workbench.reports.stills import still
from workbench.setup.opening import open_cohort
from workbench.setup.parameters import ExperimentParameters
from workbench.views.cases.browser import browse
from workbench.views.cases.stills import figure_of
from workbench.views.cases.view import open_case
from workbench.views.markup import Html
from workbench.views.theme import colour

TITLES = {
    "summary": "In short",
    "markers": "Markers by site (subjects)",
    "availability": "Sequences by site (cases)",
    "sequences": "Which sequences come together (cases)",
    "age": "Age and sex by class",
    "geometry": "Grids (from the headers)",
}


class Exploration:
    """A cohort, opened for looking.

    Args:
        cohort: cohort folder; empty = the embedded phantom, made on first use.
    """

    def __init__(self, cohort: str | Path = "") -> None:
        folder = Path(cohort) if cohort else None
        if folder is not None and (folder / INFO_FILE).is_file():
            self.cohort = Cohort.open(folder)
        else:
            self.cohort = open_cohort(ExperimentParameters.build("unet", {"size": "demo", "cohort": str(cohort)}))
        self.title = cohort_title(self.cohort.info.name, self.cohort.info.phantom)

    def __repr__(self) -> str:
        return repr(self.cohort)

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return fingerprint_tables(self.cohort, volumes=True)

    def problems(self) -> Any:
        """What `workbench cohort check` finds, errors first."""
        rows = [problem.as_dict() for problem in check_cohort(self.cohort)]
        if not rows:
            return HTML(Html("<p>{}: nothing is wrong with its {} cases.</p>").format(self.title, len(self.cohort)))
        return pd.DataFrame(rows).sort_values("severity", kind="stable").reset_index(drop=True)

    def tables(self) -> None:
        """Display the fingerprint tables, each under its title."""
        for name, title in TITLES.items():
            table = self._tables[name]
            if name == "markers":
                table = table.pivot_table(
                    index=["marker", "class"], columns="site", values="subjects", fill_value=0, aggfunc="sum"
                )
            display(HTML(Html("<h4>{} - {}</h4>").format(title, self.title)), table)

    def plots(self) -> Image:
        """Age by class, and volume of each region."""
        figure = Figure(figsize=(10, 3.6), layout="constrained", dpi=110)
        left, right = figure.subplots(1, 2)
        _ages(left, self.cohort.cases)
        _volumes(right, self._tables["volumes"])
        for ax in (left, right):
            ax.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{self.title}, n = {len(self.cohort)} cases", fontsize=10)
        return still(figure)

    def browse(self, case: str = "", modality: str = "") -> Any:
        """Widgets: pick case, sequence, slice, overlay."""
        browser = browse(self.cohort, case=case)
        if modality:
            browser.modality.value = modality
        return browser

    def pictures(self, cases: int = 3) -> None:
        """Display the first cases as stills, for reading without a running kernel."""
        for name in self.cohort.cases["case"].head(cases):
            display(still(figure_of(open_case(self.cohort, str(name)))))


def _ages(ax: Any, cases: pd.DataFrame) -> None:
    known = cases[cases["age"].notna()]
    bins = np.arange(0, 101, 5)
    for index, (value, name) in enumerate(((1, "IDH mutant"), (0, "IDH wild type"))):
        ages = known.loc[known["idh"] == value, "age"].to_numpy(dtype=float)
        if ages.size:
            ax.hist(ages, bins=bins, alpha=0.6, color=colour(index), label=f"{name} (n = {ages.size})")
    rest = known.loc[known["idh"].isna(), "age"].to_numpy(dtype=float)
    if rest.size:
        ax.hist(rest, bins=bins, alpha=0.4, color="0.5", label=f"IDH unknown (n = {rest.size})")
    ax.set(xlabel="age (years)", ylabel="cases")
    if len(known):
        ax.legend(fontsize=8, frameon=False)
    else:
        ax.text(0.5, 0.5, "no ages are known", ha="center", transform=ax.transAxes)


def _volumes(ax: Any, volumes: pd.DataFrame) -> None:
    regions = list(dict.fromkeys(volumes["region"])) if len(volumes) else []
    for index, region in enumerate(regions):
        ml = volumes.loc[volumes["region"] == region, "ml"].to_numpy(dtype=float)
        seen = ml[ml > 0]
        ax.scatter(index + np.linspace(-0.2, 0.2, seen.size), seen, s=14, alpha=0.7, color=colour(index))
        if seen.size:
            ax.plot([index - 0.3, index + 0.3], [np.median(seen)] * 2, color="black", linewidth=1.5)
    if regions:
        ax.set_yscale("log")
        counts = [int((volumes.loc[volumes["region"] == region, "ml"] > 0).sum()) for region in regions]
        ax.set_xticks(range(len(regions)), [f"{r}\nn = {n}" for r, n in zip(regions, counts, strict=True)])
        ax.set(ylabel="volume (ml), line = median")
    else:
        ax.text(0.5, 0.5, "no masks", ha="center", transform=ax.transAxes)

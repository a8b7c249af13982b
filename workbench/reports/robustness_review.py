"""Runs reviewed together under every subset of sequences: what `notebooks/robustness.ipynb` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown

from workbench.cohort.table import cohort_title
from workbench.contracts import JUDGED
from workbench.errors import ParameterError, WorkbenchError
from workbench.evaluation.metrics import metric
from workbench.evaluation.robustness import (
    added_sequence,
    by_number,
    by_subset,
    judgements,
    scores_of,
    split_names,
    subset_order,
    tolerance_of,
)
from workbench.records.index import RunRow, list_runs
from workbench.records.protocol import protocol_remarks
from workbench.records.run_folder import RunFolder
from workbench.reports.sentences import sentences
from workbench.reports.stills import still
from workbench.views.estimates import estimate_text
from workbench.views.figures.robustness import judgement_title, score_title, subset_title, unequal_cases
from workbench.views.figures.robustness_stills import number_still, subset_still
from workbench.views.tables import cautions


class RobustnessReview:
    """The runs of a folder that were judged under subsets of sequences, on one cohort.

    Args:
        runs: folder of all runs.
        experiment: only this group of runs; empty = all.
        cohort: only runs on the cohort of this name; empty = the cohort of the newest judged run.
        split: test or external.

    Raises:
        ParameterError: `split` is neither.
    """

    def __init__(self, runs: str | Path = "runs", *, experiment: str = "", cohort: str = "", split: str = "test") -> None:
        if split not in JUDGED:
            raise ParameterError(f"split '{split}' is not judged under subsets; there are test and external")
        self.split = split
        self.problems: list[str] = []
        self.tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}
        found: list[RunRow] = []
        for row in list_runs(runs):
            if not row.readable or experiment not in ("", row.experiment) or cohort not in ("", row.cohort):
                continue
            try:
                folder = RunFolder.open(Path(runs) / row.run)
                metrics, markers = folder.subset_metrics(), folder.subset_markers()
            except (WorkbenchError, OSError) as error:
                self.problems.append(f"{row.title}: {error}")
                continue
            if metrics is not None and markers is not None:
                found.append(row)
                self.tables[row.run] = (metrics, markers)
        fingerprint = found[0].fingerprint if found else ""
        left = [row for row in found if row.fingerprint != fingerprint]
        if left:
            self.problems.append(f"left out, since they are of another cohort: {', '.join(row.title for row in left)}")
        self.rows = [row for row in reversed(found) if row.fingerprint == fingerprint]  # oldest first
        methods = [row.name for row in self.rows]
        self.titles = {row.run: row.name if methods.count(row.name) == 1 else row.title for row in self.rows}
        names = {self.rows[0].cohort: self.rows[0].phantom} if self.rows else {}
        self.cohort = next((cohort_title(name, phantom) for name, phantom in names.items()), "")

    def __repr__(self) -> str:
        return f"RobustnessReview({len(self.rows)} runs on {self.cohort or 'no cohort'}, {self.split} split)"

    def overview(self) -> Any:
        """The runs, and what belongs beside them: other cohorts, unequal effort, weights that saw the test subjects."""
        if not self.rows:
            problems = "".join(f"\n- {problem}" for problem in self.problems)
            return sentences(
                "*No run was judged under subsets yet: `workbench run unet -p size=demo` makes one, `workbench robustness RUN` "
                f"judges one that was made without.*{problems}"
            )
        cases = unequal_cases({self.titles[row.run]: self.tables[row.run] for row in self.rows}, self.split)
        lines = [f"{self.titles[row.run]}: {row.run}, {row.state}" for row in self.rows]
        notes = [*self.problems, *protocol_remarks(self.rows), *([cases] if cases else []), *cautions(self.rows)]
        return sentences(f"**{self.cohort}, {self.split} split**\n\n" + "\n".join(f"- {line}" for line in [*lines, *notes]))

    def judgements(self) -> list[str]:
        """What these runs can be judged by, e.g. 'dice:WT', 'auc:idh:mutant'."""
        return list(dict.fromkeys(key for row in self.rows for key in judgements(*self.tables[row.run])))

    def heatmap(self, judged: str = "dice:WT") -> Any:
        """One column per run, one row per subset."""
        table = self._by_subset(judged)
        if table.empty:
            return self._nothing(judged)
        order = subset_order(table["present"], self._modalities(table))
        entry = metric(judged.split(":")[0])
        figure = subset_still(
            table, subsets=order, modalities=self._modalities(table), columns=[self.titles[row.run] for row in self.rows],
            title=f"{judgement_title(judged)}: {self.cohort}, {self.split} split", label=f"mean {judgement_title(judged)}",
            limits=entry.limits if entry.bounded else _limits(table),
        )  # fmt: skip
        return still(figure)

    def table(self, judged: str = "dice:WT") -> Any:
        """The numbers of the heat map with their intervals."""
        table = self._by_subset(judged)
        if table.empty:
            return self._nothing(judged)
        texts = [estimate_text(r["value"], r["low"], r["high"], subjects=r["n_subjects"]) for _, r in table.iterrows()]
        wide = table.assign(text=texts).pivot(index="present", columns="column", values="text")
        order = subset_order(wide.index, self._modalities(table))
        wide = wide.reindex(index=order, columns=[self.titles[row.run] for row in self.rows]).fillna("-")
        wide.insert(0, "n", table.groupby("present")["n"].agg(_counts).reindex(order))
        wide.index = pd.Index([subset_title(present) for present in order], name="shown")
        wide.columns.name = f"{judgement_title(judged)}, {self.cohort}"
        return wide

    def numbers(self, judged: str = "dice:WT") -> Any:
        """Mean over all subsets of 1, 2, 3, ... sequences, one line per run."""
        parts = [by_number(scores).assign(series=title) for title, scores in self._scores(judged)]
        if not parts:
            return self._nothing(judged)
        return still(number_still(pd.concat(parts), title=f"{self.cohort}, {self.split} split", ylabel=score_title(judged)))

    def added(self, judged: str = "dice:WT") -> Any:
        """What one more sequence does, per run: mean change, and the share of pairs that get worse."""
        rows = []
        worse = f"share worse by more than {tolerance_of(judged.split(':')[0]):g}"
        for title, scores in self._scores(judged):
            for _, row in added_sequence(scores).iterrows():
                people = int(row["n_subjects"])
                rows.append(
                    {
                        "run": title, "added": subset_title(row["added"]) if row["added"] != "any" else "any sequence",
                        "n": int(row["n"]), "pairs of subsets": int(row["pairs"]),
                        "mean change": estimate_text(row["gain"], row["gain_low"], row["gain_high"], 3, subjects=people),
                        worse: estimate_text(row["harmed"], row["harmed_low"], row["harmed_high"], subjects=people),
                    }
                )  # fmt: skip
        if not rows:
            return self._nothing(judged)
        table = pd.DataFrame(rows).set_index(["run", "added"])
        table.columns.name = f"{score_title(judged)}, {self.cohort}"
        return table

    def withheld(self, judged: str = "dice:WT") -> Any:
        """What a sequence does that training never showed, in the runs that withheld one, beside the runs that did not.

        Rows: a withheld sequence and each run; columns: shown alone, all others without it, all with it, and what adding it
        changes over all pairs of subsets.
        """
        names = sorted({name for row in self.rows for name in _withheld(row)})
        rows = []
        for name in names:
            for row in self.rows:
                if judged not in judgements(*self.tables[row.run]):
                    continue
                means = self._by_subset(judged)
                means = means[means["column"] == self.titles[row.run]]
                added = added_sequence(scores_of(*self.tables[row.run], judged, self.split)).set_index("added")
                rows.append(
                    {
                        "withheld": subset_title(name), "run": self.titles[row.run],
                        "trained": "never saw it" if name in _withheld(row) else "saw it",
                        "alone": _mean_text(means, [name]), "all others": self._rest(means, name, with_it=False),
                        "all with it": self._rest(means, name, with_it=True),
                        "change by adding it": _change_text(added, name),
                    }
                )  # fmt: skip
        if not rows:
            return sentences(
                "*None of these runs withheld a sequence: `workbench run METHOD -p withhold=flair` trains without one that the "
                "test then shows.*"
            )
        table = pd.DataFrame(rows).set_index(["withheld", "run"])
        table.columns.name = f"{judgement_title(judged)}, {self.cohort}"
        return table

    def _rest(self, means: pd.DataFrame, name: str, *, with_it: bool) -> str:
        """All sequences of the fullest subset, with or without `name`."""
        fullest = max((split_names(p) for p in means["present"] if name in split_names(p)), key=len, default=())
        return _mean_text(means, [other for other in fullest if with_it or other != name])

    def _by_subset(self, judged: str) -> pd.DataFrame:
        parts = [
            by_subset(*self.tables[row.run], judged, self.split).assign(column=self.titles[row.run])
            for row in self.rows
            if judged in judgements(*self.tables[row.run])
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def _scores(self, judged: str) -> list[tuple[str, pd.DataFrame]]:
        found = [
            (self.titles[row.run], scores_of(*self.tables[row.run], judged, self.split))
            for row in self.rows
            if judged in judgements(*self.tables[row.run])
        ]
        return [(title, scores) for title, scores in found if len(scores)]

    @staticmethod
    def _modalities(table: pd.DataFrame) -> list[str]:
        longest = sorted(set(table["present"]), key=lambda present: -len(split_names(present)))
        return list(dict.fromkeys(name for present in longest for name in split_names(present)))

    def _nothing(self, judged: str) -> Markdown:
        there = ", ".join(self.judgements()) or "nothing"
        return sentences(f"*No run was judged by {judged} on the {self.split} split; there is {there}.*")


def _withheld(row: RunRow) -> tuple[str, ...]:
    return tuple(name.strip() for name in str(row.parameters.get("withhold", "")).split(",") if name.strip())


def _mean_text(means: pd.DataFrame, names: list[str]) -> str:
    found = means[[set(split_names(present)) == set(names) for present in means["present"]]]
    if found.empty or pd.isna(found["value"].iloc[0]):
        return "-"
    value, low, high, n, people = found[["value", "low", "high", "n", "n_subjects"]].iloc[0]
    return f"{estimate_text(value, low, high, subjects=int(people))}, n {int(n)}"


def _change_text(added: pd.DataFrame, name: str) -> str:
    if name not in added.index:
        return "-"
    value, low, high, people = (float(n) for n in added.loc[name, ["gain", "gain_low", "gain_high", "n_subjects"]].to_numpy())
    return estimate_text(value, low, high, 3, subjects=int(people))


def _counts(numbers: pd.Series) -> int | str:
    """The cases behind the means of a row; where runs differ, fewest to most."""
    fewest, most = int(numbers.min()), int(numbers.max())
    return most if fewest == most else f"{fewest} to {most}"


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    return float(table["value"].min()), float(table["value"].max())

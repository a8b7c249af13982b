"""Which runs a page compares: the list to choose them from, and what is said of runs that are gone or do not belong together."""

from __future__ import annotations

from app.state import AppState, Binding
from app.store import Store
from workbench.cohort.table import cohort_title
from workbench.records.index import RunRow
from workbench.views.panes import TextMultiChoice


class RunPicker:
    """A list of the completed runs, bound to `state.runs`.

    Args:
        state: `runs` is followed and written.
        store: where runs are read from.
    """

    def __init__(self, state: AppState, store: Store) -> None:
        self.state, self.store = state, store
        self.widget = TextMultiChoice(
            label="Runs (none chosen: the latest of each method)",
            options={},
            sizing_mode="stretch_width",
            max_width=460,
            margin=(0, 16, 0, 0),
        )
        self._binding = Binding(state, runs=self.widget)

    def rows(self) -> list[RunRow]:
        """The runs to compare: those chosen that can be read, else the latest of each method."""
        return self.store.compared(self.state.runs)[0]

    def follow(self) -> None:
        """Offer the completed runs there are now, and show those of the state."""
        known = {f"{row.title} ({row.experiment})": row.run for row in self.store.runs() if row.state == "completed"}
        with self._binding.following():
            self.widget.param.update(options=known, value=[run for run in self.state.runs if run in known.values()])


def gone(state: AppState, store: Store) -> list[str]:
    """A note on the runs that the state names and that are not there, empty where all are."""
    missing = [run for run in state.runs if store.row(run) is None]
    return [f"Not in the runs folder (any more): {', '.join(missing)}."] if missing else []


def unequal_cohorts(rows: list[RunRow], what: str = "numbers") -> list[str]:
    """A note where some runs were made from different cohorts, else empty.

    Args:
        rows: the runs that are compared.
        what: of the runs is not comparable then.
    """
    different = len({row.fingerprint for row in rows}) > 1
    return [f"These runs were made from different cohorts: their {what} are not comparable."] if different else []


def cohorts(rows: list[RunRow]) -> str:
    """The cohorts behind some runs, for a subtitle."""
    return " and ".join(dict.fromkeys(cohort_title(row.cohort, row.phantom) for row in rows))

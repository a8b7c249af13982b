"""Cross-validation through the same road as a single run: every fold is an ordinary run, and the pooled run is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.cohort.folds import make_folds, read_folds
from workbench.cohort.table import FOLDS_FILE
from workbench.errors import RunError, WorkbenchError
from workbench.execution.notebook import run_notebook
from workbench.experiments.pooling import pool
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import open_cohort, open_run
from workbench.setup.parameters import ExperimentParameters

ALL = "all"
"""Value of the parameter `fold` that means every fold, and the pooled run of them."""


def cross_validate(
    method: str,
    values: Mapping[str, Any],
    *,
    timeout: float = 0.0,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> RunFolder:
    """Run every fold of the cohort, one after the other, then make the pooled run.

    A completed fold is skipped, an interrupted one resumed. A fold that fails does not stop the others; one that is cancelled or
    interrupted does, since somebody wants the machine back.

    Args:
        method: name of the method.
        values: parameters without `fold`, text or typed.
        timeout: minutes of wall time for each fold; 0 = none.
        progress: show progress on standard error.
        say: where to say which fold is next.

    Returns:
        The pooled run (see `pooling.pool`).

    Raises:
        ParameterError: unknown or ill-typed parameters, before anything starts.
        RunError: folds failed, each named with its reason; the others are completed.
    """
    given = {name: value for name, value in values.items() if name != "fold"}
    cohort = open_cohort(ExperimentParameters.build(method, given), progress=progress)
    count = len(read_folds(cohort) if (cohort.folder / FOLDS_FILE).is_file() else make_folds(cohort))
    runs: list[RunFolder] = []
    failures: list[str] = []
    for fold in range(count):
        wanted = {**given, "fold": fold}
        say(f"fold {fold} of {count}")
        _, run = open_run(ExperimentParameters.build(method, wanted), progress=progress)
        try:
            runs.append(run_notebook(method, wanted, timeout=timeout, progress=progress))
        except WorkbenchError as error:
            failures.append(f"fold {fold}: {error}")
            say(failures[-1])
            if run.status["state"] in ("cancelled", "interrupted"):
                failures.append("the folds after it were not started")
                break
    if failures:
        done = f"{len(runs)} of {count} folds of {method} are completed"
        raise RunError("\n".join([f"{done}; there is no pooled run yet:", *failures]))
    return pool(runs, progress=progress)

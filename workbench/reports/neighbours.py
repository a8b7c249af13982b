"""A run beside the others of its experiment: same cohort, same fold, other methods or other settings."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython.display import Markdown

from workbench.cohort.table import cohort_title
from workbench.errors import WorkbenchError
from workbench.evaluation.metrics import metric_title
from workbench.records.run_folder import RunFolder
from workbench.records.spec import SPEC_FILE
from workbench.reports.comparison import JudgedRun, pair_rows, with_remarks
from workbench.reports.sentences import sentences
from workbench.setup.run_setup import RunSetup
from workbench.views.ablation_tables import p_text, shift_text
from workbench.views.estimates import estimate_text


def neighbours(run: RunFolder) -> list[RunFolder]:
    """The evaluated runs of the same experiment, cohort and fold, by method; without the run itself."""
    found = []
    for spec in sorted(run.folder.parent.glob(f"*/{SPEC_FILE}")):
        try:
            other = RunFolder.open(spec.parent)
            same = _question(other) == _question(run) and other.folder.resolve() != run.folder.resolve()
            if same and other.metrics() is not None:
                found.append(other)
        except WorkbenchError:  # an unreadable run is `workbench runs`' matter
            continue
    return sorted(found, key=lambda other: (other.spec["method"], other.folder.name))


def _question(run: RunFolder) -> tuple[str, str]:
    """What two runs must agree in to be compared: the cohort, to the byte, and who is tested."""
    return str(run.spec["cohort"]["fingerprint"]), str(run.spec["parameters"].get("fold", 0))


def comparison_table(setup: RunSetup, split: str = "test") -> pd.DataFrame | Markdown:
    """This run minus each of its neighbours, on the same cases.

    Rows: the other run, region or marker, metric; the difference with its 95 % interval and the p value after Holm's correction
    over the whole table, the shift with Wilcoxon's p and the shares of subjects; one row for a marker that is not estimable. A
    sentence where there is nothing to compare with.
    """
    others = neighbours(setup.run)
    info = setup.cohort.info
    if not others:
        where = f"experiment `{setup.parameters.experiment}`, fold {setup.parameters.fold}"
        return sentences(
            f"*No other evaluated run on {cohort_title(info.name, info.phantom)} in {where}: run another method with the same "
            "cohort, fold and experiment to compare.*"
        )
    tables, left_out, own = [], [], JudgedRun.of(setup.run, split)
    for other in others:
        try:
            tables.append(pair_rows(own, JudgedRun.of(other, split), split, setup.parameters.resamples))
        except WorkbenchError as error:
            left_out.append(f"{other.spec['method']} {other.folder.name}: {_reason(error)}")
    if not tables:
        return sentences("\n".join(f"- Not compared with {line}." for line in left_out))
    table = with_remarks(pd.concat(tables, ignore_index=True))
    unknown = table["difference"].isna()
    rows = table[~unknown | ~table.duplicated(["second", "of"])]  # of what is not estimable, one row is enough
    result = pd.DataFrame([_row(row) for _, row in rows.iterrows()]).set_index(["minus", "of", "metric"])
    result.columns.name = f"{setup.parameters.method} on {cohort_title(info.name, info.phantom)}, {split}"
    return result


def _reason(error: WorkbenchError) -> str:
    """Why two runs were not compared, for a reader who sees both names already."""
    return "it has no region or marker in common with this run" if "in common" in str(error) else str(error)


def _row(row: pd.Series) -> dict[str, Any]:
    unknown = pd.isna(row["difference"])
    return {
        "minus": row["second"],
        "of": row["of"],
        "metric": "-" if unknown else metric_title(row["metric"]),
        "this run": "not estimable" if unknown else f"{row['value_first']:.3f}",
        "the other": "not estimable" if unknown else f"{row['value_second']:.3f}",
        "difference": "-" if unknown else estimate_text(row["difference"], row["low"], row["high"], subjects=row["n_subjects"]),
        "n": row["n"],
        "p (Holm)": p_text(row["p_holm"]),
        "shift, Wilcoxon, subjects": shift_text(row),
        "remark": row["remark"],
    }

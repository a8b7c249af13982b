"""`workbench ablation`: what each switch of a sweep changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.commands.printing import PLAIN, Json, Penalty, Runs, print_value, say

if TYPE_CHECKING:  # pandas is not needed for --help
    import pandas as pd

    from workbench.reports.ablation_review import AblationReview

ablation_app = typer.Typer(**PLAIN)


@ablation_app.command()
def ablation(
    sweep: Annotated[str, typer.Argument(help="name of the sweep", show_default=False)],
    runs: Runs = Path("runs"),
    split: Annotated[str, typer.Option(help="test or external")] = "test",
    against: Annotated[str, typer.Option(help="condition to compare with; default: the baseline, else the first")] = "",
    outcomes: Annotated[str, typer.Option(help="metrics of the family, with commas, e.g. dice,auc; default: all")] = "",
    penalty: Penalty = "grid_diagonal",
    as_json: Json = False,
) -> None:
    """Print what each switch of a sweep changes: paired deltas, intervals, tests. Exit 1: something was refused."""
    from workbench.evaluation.metrics import metric_title
    from workbench.reports.ablation_review import AblationReview
    from workbench.views.ablation_tables import completeness, delta_notes, delta_table, failures, shift_table

    review = AblationReview(runs, sweep, split=split, against=against, outcomes=outcomes, penalty=penalty)
    if as_json:
        print_value(review.as_document())
    else:
        say(f"{review.plan.name}{review.given}, {review.cohort}, {split} split: {completeness(review.cells)}")
        for line in [*failures(review.cells), *review.problems]:
            say(line)
        found = [metric for metric in review.outcomes if (review.deltas.table["metric"] == metric).any()]
        for metric in found:
            for block in dict.fromkeys(review.deltas.arms["block"]):
                print_value(f"{metric_title(metric)}, {block}")
                for line in _lines(delta_table(review.deltas, block, metric), shift_table(review.deltas, block, metric), review):
                    print_value(line)
                print_value("")
        for note in dict.fromkeys(note for metric in found for note in delta_notes(review.deltas, metric)):
            say(note)
        if not found:
            for line in review.deltas.refused:
                say(f"Refused: {line}")
            say("no finished pair of runs can be compared yet")
    raise typer.Exit(1 if review.deltas.refused or review.problems else 0)


def _lines(deltas: pd.DataFrame, shifts: pd.DataFrame, review: AblationReview) -> Iterator[str]:
    """The rows of both tables, a line per region or marker."""
    for arm, row in deltas.iterrows():
        texts, runs = row.drop("runs"), row["runs"]
        if not runs:
            yield f"  {arm}: {', '.join(f'{of} {text}' for of, text in texts.items())}"
        elif texts.nunique() == 1 and len(texts) > 1:  # nothing finished yet, or refused
            yield f"  {arm} against {review.against}, {runs} runs: {texts.iloc[0]}"
        else:
            yield f"  {arm} against {review.against}, {runs} runs"
            width = max(map(len, texts.index))
            for of, text in zip(texts.index.astype(str), texts, strict=True):
                yield f"    {of:<{width}}  {text}"
                if arm in shifts.index and of in shifts:
                    yield f"    {'':<{width}}  {shifts.at[str(arm), of]!s}"

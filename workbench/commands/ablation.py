"""`workbench ablation`: what each switch of a sweep changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.commands.printing import PLAIN, Json, Runs, print_value, say

ablation_app = typer.Typer(**PLAIN)


@ablation_app.command()
def ablation(
    sweep: Annotated[str, typer.Argument(help="name of the sweep", show_default=False)],
    runs: Runs = Path("runs"),
    split: Annotated[str, typer.Option(help="test or external")] = "test",
    against: Annotated[str, typer.Option(help="condition to compare with; default: the baseline, else the first")] = "",
    outcomes: Annotated[str, typer.Option(help="metrics of the family, with commas, e.g. dice,auc; default: all")] = "",
    as_json: Json = False,
) -> None:
    """Print what each switch of a sweep changes: paired deltas, intervals, tests. Exit 1: something was refused."""
    from workbench.evaluation.metrics import metric_title
    from workbench.reports.ablation_review import AblationReview
    from workbench.views.ablation_tables import completeness, delta_notes, delta_table, failures

    review = AblationReview(runs, sweep, split=split, against=against, outcomes=outcomes)
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
                for arm, row in delta_table(review.deltas, block, metric).iterrows():
                    texts, runs = row.drop("runs"), row["runs"]
                    if not runs:
                        print_value(f"  {arm}: {', '.join(f'{of} {text}' for of, text in texts.items())}")
                    elif texts.nunique() == 1 and len(texts) > 1:  # nothing finished yet, or refused
                        print_value(f"  {arm} against {review.against}, {runs} runs: {texts.iloc[0]}")
                    else:
                        print_value(f"  {arm} against {review.against}, {runs} runs")
                        print_value("\n".join(f"    {of:<{max(map(len, texts.index))}}  {text}" for of, text in texts.items()))
                print_value("")
        for note in dict.fromkeys(note for metric in found for note in delta_notes(review.deltas, metric)):
            say(note)
        if not found:
            for line in review.deltas.refused:
                say(f"Refused: {line}")
            say("no finished pair of runs can be compared yet")
    raise typer.Exit(1 if review.deltas.refused or review.problems else 0)

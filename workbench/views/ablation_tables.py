"""An ablation as tables: the cells as they stand, and the paired deltas with intervals; text and HTML, no figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench.contracts import ROUGH_BELOW
from workbench.evaluation.ablation import Deltas, outcome_key
from workbench.evaluation.detection import penalty_text
from workbench.evaluation.metrics import Kind, metric_title
from workbench.evaluation.metrics import metric as entry_of
from workbench.records.sweep_cells import SweepCell, counts
from workbench.views.estimates import ROUGH_NOTE, estimate_text
from workbench.views.markup import Html
from workbench.views.tables import marker_title
from workbench.views.theme import STATE_SIGNS, state_colour, theme

MINUS = "−"
SIGNIFICANT = 0.05
WIDE = 8
"""Folds times seeds from which on a cell has room for its sign only."""
_SIGNS = STATE_SIGNS | {"missing": "–"}


def outcome_title(metric: str, of: str) -> str:
    """'Dice, WT'; 'AUC, IDH mutation'."""
    marker, _, name = of.partition(":")
    return f"{metric_title(metric)}, {marker_title(marker, name) if name else of}"


def signed(value: float, metric: str = "dice", *, plus: bool = False) -> str:
    """A number with a real minus sign: two digits of mm, three of everything else; with `plus` its sign always stands."""
    text = f"{abs(value):.{2 if entry_of(metric).kind in (Kind.DISTANCE, Kind.VOLUME) else 3}f}"
    if not float(text):
        return text
    return f"{MINUS}{text}" if value < 0 else f"+{text}" if plus else text


def delta_text(row: Any) -> str:
    """'−0.035 (−0.062 to −0.003)', or why there is no number."""
    if not np.isfinite(row["difference"]):
        return "not estimable"
    plus = signed(row["difference"], row["metric"], plus=True)
    interval = estimate_text(
        row["difference"], row["low"], row["high"], subjects=int(row["n_subjects"]), show=lambda v: signed(v, row["metric"])
    )
    return plus + interval[interval.index(" (") :]


def shift_text(row: Any) -> str:
    """'shift −0.03 (−0.06 to −0.01), Wilcoxon p 0.031; 12 % of subjects better, 85 % worse'; a dash where nothing was tested."""
    if not np.isfinite(row["shift"]):
        return "–"
    shift = estimate_text(
        row["shift"], row["shift_low"], row["shift_high"], subjects=int(row["n_subjects"]),
        show=lambda v: signed(v, row["metric"]),
    )  # fmt: skip
    tested = f", Wilcoxon p {p_text(row['p_wilcoxon']).replace('<', '< ')}" if np.isfinite(row["p_wilcoxon"]) else ""
    shares = f"; {row['better']:.0%} of subjects better, {row['worse']:.0%} worse" if np.isfinite(row["better"]) else ""
    return f"shift {shift}{tested}{shares.replace('%', ' %')}"


def p_text(p: float) -> str:
    """'0.012', '<0.001'; a dash where nothing was tested."""
    return "–" if p is None or not np.isfinite(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def clear(row: Any) -> bool:
    """Whether a difference is told from 0 by its corrected p and by its interval (which covers the luck of several seeds)."""
    return bool(row["p_holm"] < SIGNIFICANT and (row["low"] > 0 or row["high"] < 0))


def arm_note(arm: Any) -> str:
    """Why an arm has no number; empty where it may have one."""
    if arm["refused"]:
        return "refused"
    return "no finished pair of runs yet" if not arm["cells"] else ""


def outcome_options(deltas: Deltas, outcomes: Sequence[str]) -> dict[str, str]:
    """Title -> key ('dice:WT', 'auc:idh:mutant') of every outcome that was compared, metrics in the order of `outcomes`."""
    found = deltas.table[["metric", "of"]].drop_duplicates()
    place = {metric: index for index, metric in enumerate(outcomes)}
    pairs = sorted(found.itertuples(index=False, name=None), key=lambda pair: place.get(pair[0], len(place)))
    return {outcome_title(metric, of): outcome_key(metric, of) for metric, of in pairs}


def delta_table(deltas: Deltas, block: str, metric: str) -> pd.DataFrame:
    """Rows: the arms of a block; columns: finished pairs of runs, and the delta of each region or marker with interval and p.

    First comes what the reference itself reaches: a difference means little where both are poor. Where there is no block every
    arm is a pair with a reference of its own, and there is no such row.

    Args:
        deltas: of `evaluation.ablation`.
        block: whose arms.
        metric: which deltas.
    """
    arms = deltas.arms[deltas.arms["block"] == block]
    rows = deltas.table[(deltas.table["block"] == block) & (deltas.table["metric"] == metric)]
    titles = {of: outcome_title(metric, of).partition(", ")[2] for of in dict.fromkeys(rows["of"])}
    records = []
    if block and titles:
        levels = {title: _level(rows[rows["of"] == of]) for of, title in titles.items()}
        records.append({f"against {deltas.reference}": deltas.reference, "runs": "", **levels})
    for _, arm in arms.iterrows():
        record = {f"against {deltas.reference}": arm["arm"], "runs": f"{arm['cells']}/{arm['planned']}"}
        mine = rows[rows["arm"] == arm["arm"]].set_index("of")
        for of, title in titles.items():
            record[title] = arm_note(arm) or "–"
            if of in mine.index:
                line = mine.loc[of]
                tested = "" if not np.isfinite(line["p_holm"]) else f", p {p_text(line['p_holm']).replace('<', '< ')}"
                record[title] = f"{delta_text(line)}{tested}, n {int(line['n'])}"
        records.append(record)
    return pd.DataFrame(records).set_index(f"against {deltas.reference}") if records else pd.DataFrame()


def shift_table(deltas: Deltas, block: str, metric: str) -> pd.DataFrame:
    """Rows: the arms of a block that have a number; columns: the shift of each region with its interval and Wilcoxon's p, and the
    shares of subjects. Empty of a metric that is no mean over cases."""
    rows = deltas.table[(deltas.table["block"] == block) & (deltas.table["metric"] == metric) & deltas.table["shift"].notna()]
    if rows.empty:
        return pd.DataFrame()
    titles = [outcome_title(metric, of).partition(", ")[2] for of in rows["of"]]
    texts = [shift_text(row) for _, row in rows.iterrows()]
    wide = rows.assign(title=titles, text=texts).pivot(index="arm", columns="title", values="text").fillna("–")
    wide = wide.reindex(index=list(dict.fromkeys(rows["arm"])), columns=list(dict.fromkeys(titles)))
    return wide.rename_axis(index=f"against {deltas.reference}", columns=None)


def _level(rows: pd.DataFrame) -> str:
    """'0.412', or '0.398 to 0.412' where arms are not paired with the same runs of the reference."""
    known = rows["value_reference"].dropna()
    texts = [signed(value, rows["metric"].iloc[0]) for value in (known.min(), known.max())] if len(known) else ["–"]
    return " to ".join(dict.fromkeys(texts))


def delta_notes(deltas: Deltas, metric: str, *, pairs: bool = False) -> list[str]:
    """What must be known to read the deltas of a metric; `pairs`: they are of `evaluation.pairwise`."""
    several = bool(len(deltas.table)) and int(deltas.table["seeds"].max()) > 1
    drawn = "subjects and seeds" if several else "subjects"
    best = entry_of(metric).better
    test = {
        "auc": "p: DeLong's test by Student's t, of pairs within a fold (different folds are different models: never pooled)",
        "brier": "the Brier score is not tested",
    }.get(metric, "p: of this mean, by flipping the signs of the subjects' differences")
    what = (
        "first run minus second, paired by subject"
        if pairs
        else (f"switch minus {deltas.reference}, paired by subject over the same folds and seeds")
    )
    notes = [
        f"Differences are {what}; {best} is better. "
        f"Intervals are 95 % and resample {drawn}; {test}, after Holm's correction over all {deltas.family} tests."
    ]
    rows = deltas.table[deltas.table["metric"] == metric]
    if rows["shift"].notna().any():
        notes.append(
            "Shift: the median of the means of every two subjects' differences (Hodges-Lehmann), which Wilcoxon's signed-rank "
            "test is of; that p is not corrected and no part of the family."
        )
    if len(rows) and rows["n_subjects"].min() < ROUGH_BELOW:
        notes.append(ROUGH_NOTE)
    few = {", ".join(filter(None, (r["block"], r["arm"], r["of"]))): r["too_few"] for _, r in rows.iterrows() if r["too_few"]}
    notes += [
        f"{', '.join(named for named, text in few.items() if text == said)}: {said}." for said in dict.fromkeys(few.values())
    ]
    if said := penalty_text(metric, deltas.penalty):
        notes.append(f"{said} Such cases move the mean; the shift hardly.")
    if metric == "dice":
        notes.append("Cases without the region count too: as 1 where nothing was predicted either, else as 0.")
    if several:
        notes.append(
            "P values take the trained models as given and speak of other patients only; intervals also cover the luck of the "
            "seeds, so one can hold 0 where p is small. A difference counts here where both exclude 0."
        )
    elif len(deltas.table):
        notes.append(
            "One training a side: neither interval nor p covers its luck. A sweep over several seeds does."
            if pairs
            else "One seed: neither interval nor p covers the luck of a training. Several seeds do."
        )
    remarks = dict.fromkeys(
        ", ".join(filter(None, (row["block"], row["arm"]))) + f": {row['remark']}"
        for _, row in deltas.arms.iterrows()
        if row["remark"]
    )
    if not pairs and (deltas.arms["cells"] < deltas.arms["planned"]).any():
        notes.append("Not all runs are finished: differences will still move, and p with the number of tests.")
    return [*notes, *remarks, *(f"Refused: {line}" for line in deltas.refused)]


def completeness(cells: Sequence[SweepCell]) -> str:
    """'20 of 24 runs finished; 1 running, 1 failed, 2 missing'."""
    found = counts(cells)
    done = found.pop("completed", 0)
    rest = ", ".join(f"{count} {state}" for state, count in found.items())
    return f"{done} of {len(cells)} runs finished" + (f"; {rest}" if rest else "")


def failures(cells: Sequence[SweepCell]) -> list[str]:
    """One line per cell that ended badly: which, and why."""
    return [
        f"{cell.block}, {cell.arm}, fold {cell.planned.fold}, seed {cell.planned.seed} {cell.state}: "
        + (cell.row.reason or "no reason noted")
        for cell in cells
        if cell.state in ("failed", "cancelled", "interrupted", "unreadable")
    ]


def cell_matrix(
    cells: Sequence[SweepCell], *, name: str = "light", link: Callable[[SweepCell], str] | None = None, block: str = ""
) -> Html:
    """HTML table of one block: a row per condition, a column per fold and seed, each cell's state as sign and word.

    Args:
        cells: of one block.
        name: 'light' or 'dark'.
        link: address of a cell's run; none: no links.
        block: its title, above the corner.
    """
    places = sorted({(cell.planned.fold, cell.planned.seed) for cell in cells})
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    there = {(cell.arm, cell.planned.fold, cell.planned.seed): cell for cell in cells}
    look, folds, short = theme(name), [fold for fold, _ in places], len(places) > WIDE
    corner, room = (Html("{}<br>fold, seed").format(block), 7) if short else (Html.escape(block), 10)
    edge = f"border-bottom:1px solid {look.line};padding:4px {room}px;text-align:left;font-weight:normal;white-space:nowrap"
    nothing = Html("")
    head = nothing.join(
        Html('<th colspan="{}" style="{};border-left:1px solid {}">fold {}</th>').format(folds.count(fold), edge, look.line, fold)
        for fold in dict.fromkeys(folds)
    )
    seeds = nothing.join(
        Html('<th style="{};color:{}">{}{}</th>').format(edge, look.muted, "" if short else "seed ", seed) for _, seed in places
    )
    body = nothing.join(
        Html('<tr><th scope="row" style="{};font-weight:600">{}</th>{}</tr>').format(
            edge, arm, nothing.join(_cell(there.get((arm, *place)), name, link, edge, short) for place in places)
        )
        for arm in arms
    )
    return Html(
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-size:13px;color:{};margin:4px 0">'
        '<thead><tr><th rowspan="2" style="{}">{}</th>{}</tr><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table>{}</div>"
    ).format(look.text, edge, corner, head, seeds, body, _legend(cells, name) if short else nothing)


def _legend(cells: Sequence[SweepCell], name: str) -> Html:
    """What the signs of a table that has no room for words stand for, with how many there are."""
    entries = Html(", ").join(
        Html('<span style="color:{}">{} {}</span> {}').format(state_colour(state, name), _SIGNS.get(state, ""), state, count)
        for state, count in counts(cells).items()
    )
    return Html('<div style="font-size:13px;color:{};margin:2px 0 6px">{}</div>').format(theme(name).text, entries)


def _cell(cell: SweepCell | None, name: str, link: Callable[[SweepCell], str] | None, edge: str, short: bool) -> Html:
    if cell is None:
        return Html('<td style="{}" title="not planned"></td>').format(edge)
    words = cell.progress or cell.state
    if short:  # of a running cell how far it is, of others nothing: the sign and its colour say it
        words = " ".join(words.split()[-2:]) if words.endswith("%") else ""
    text = Html.escape(f"{_SIGNS.get(cell.state, '')} {words}".strip())
    if link is not None and cell.state != "missing":
        text = Html('<a href="{}" style="color:inherit">{}</a>').format(link(cell), text)
    said = f"{cell.planned.run}: {cell.row.reason or cell.state}"
    return Html('<td style="{};color:{}" title="{}">{}</td>').format(edge, state_colour(cell.state, name), said, text)

"""Coverage of every 95 % interval and false alarms of every test at 5 % that the workbench shows, by simulation.

    python -m tests.science.coverage                 # until every row has its samples; Ctrl-C and start again at will
    python -m tests.science.coverage --minutes 20    # as far as that
    python -m tests.science.coverage --readme        # write the summary of the table into README.md

The table `coverage.parquet` beside this file holds one row per study, quantity and setting, and is what a further call takes up.
A block of samples is drawn from a stream of its own, so that the table depends on the number of blocks only. Rows that were made
by other statistics than today's (`statistics`: a digest of `workbench/evaluation`) are made anew, unless `--keep`.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint
from tqdm import tqdm

import workbench.evaluation
from tests.science.coverage_measures import STUDIES, TOGETHER, Outcome
from tests.science.coverage_populations import Setting
from workbench.seeding import derive_seed, stream

TABLE = Path(__file__).with_suffix(".parquet")
README = Path(__file__).with_name("README.md")
SUBJECTS = (6, 15, 30, 100, 500)
SETTINGS = [Setting(n, prevalence, clustered) for n in SUBJECTS for prevalence in (0.03, 0.3) for clustered in (False, True)]
BLOCK = 20
"""Samples of one block."""
SAMPLES, SLOW_SAMPLES = 1000, 400
"""Samples of a row: of studies that judge many columns at once, and of the others."""
SILENT = 20
"""Samples after which a study whose tables show nothing in a setting is done."""
LEAST = 30
"""Samples with an interval (or p) below which a rate is not judged: not estimable, or untried where more samples are to come."""
TARGETS = {"interval": (0.93, 0.97), "test": (0.035, 0.065), "exact test": (0.0, 0.065)}
"""Coverage, and false alarms: of exact tests at most so many."""
KEY = ["study", "quantity", "kind", "n", "prevalence", "clustered"]
TALLIES = ["samples", "shown", "hits", "above", "below", "no_width", "width"]
BEGIN, END = "<!-- coverage -->", "<!-- end of coverage -->"


def run_block(study: str, setting: Setting, block: int, samples: int = BLOCK) -> pd.DataFrame:
    """Tallies of one block of samples, a row per quantity.

    Returns:
        The columns `KEY` and `TALLIES`: hits are intervals that hold the truth, or p below 0.05; above and below: the truth lies
        above or below the interval; no_width: intervals of none; width: sum of their widths.
    """
    where = ("coverage", study, setting.n, str(setting.prevalence), str(setting.clustered), block)
    outcomes = STUDIES[study](setting, stream(0, *where), derive_seed(0, *where) % 2**31, samples)
    rows = [{"study": study, "n": setting.n, "prevalence": setting.prevalence, "clustered": setting.clustered, **_tally(one)}
            for one in outcomes]  # fmt: skip
    return pd.DataFrame(rows).groupby(KEY, sort=False, as_index=False)[TALLIES].sum()


def _tally(one: Outcome) -> dict[str, object]:
    found: dict[str, object] = dict.fromkeys(TALLIES, 0) | {"quantity": one.quantity, "kind": one.kind, "samples": 1}
    if not one.shown:
        return found | {"width": 0.0}
    if one.kind != "interval":
        return found | {"shown": 1, "hits": int(one.p < 0.05), "width": 0.0}
    slack = 1e-9 * max(1.0, abs(one.truth))
    above, below = one.truth > one.high + slack, one.truth < one.low - slack
    sides = {"above": int(above), "below": int(below), "hits": int(not above and not below)}
    return found | sides | {"shown": 1, "no_width": int(one.high <= one.low), "width": float(one.high - one.low)}


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The table with rate, its 99 % bounds (Wilson), and verdict: 'ok', 'low', 'high', 'not estimable', or 'untried'."""
    rate = table["hits"] / table["shown"].where(table["shown"] > 0)
    low, high = proportion_confint(table["hits"], table["shown"].clip(lower=1), alpha=0.01, method="wilson")
    least, most = (table["kind"].map({kind: target[side] for kind, target in TARGETS.items()}) for side in (0, 1))
    few = table["shown"] < LEAST
    untried = few & (table["shown"] > 0) & (table["samples"] < 2 * LEAST)
    verdict = np.select([untried, few, np.asarray(high) < least, np.asarray(low) > most],
                        ["untried", "not estimable", "low", "high"], "ok")  # fmt: skip
    return table.assign(rate=rate, rate_low=np.asarray(low), rate_high=np.asarray(high), verdict=verdict)


def statistics_digest() -> str:
    """Of the sources of `workbench.evaluation`."""
    files = sorted(Path(workbench.evaluation.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def merged(*tables: pd.DataFrame) -> pd.DataFrame:
    """Tallies of all tables, summed by row; the rows of every setting in the order of the studies. Where other statistics had a
    part in a row (`--keep`), that row is of 'several'."""
    whole = pd.concat([table for table in tables if len(table)], ignore_index=True)
    by_row = whole.groupby(KEY, sort=False, as_index=False)
    one_digest = whole.groupby(KEY, sort=False)["statistics"].agg(
        lambda found: found.iloc[0] if found.nunique() == 1 else "several"
    )
    summed = by_row[TALLIES].sum().assign(statistics=one_digest.to_numpy())[[*KEY, "statistics", *TALLIES]]
    order = {name: index for index, name in enumerate(STUDIES)}
    return summed.sort_values(["study", "n", "prevalence", "clustered"], key=lambda column: column.map(order)
                              if column.name == "study" else column, kind="stable", ignore_index=True)  # fmt: skip


def simulate(studies: Sequence[str], minutes: float, keep: bool) -> pd.DataFrame:
    """Run blocks until each row has its samples or the time is up; the table is saved now and then.

    Rows are taken in turn, but one whose blocks take four times as long gets half as many.
    """
    digest, end = statistics_digest(), time.monotonic() + 60 * minutes
    table = pd.read_parquet(TABLE) if TABLE.exists() else pd.DataFrame(columns=[*KEY, "statistics", *TALLIES])
    if not keep:
        table = table[(table["statistics"] == digest) | ~table["study"].isin(list(studies))]
    gc.freeze()  # what is loaded by now is not searched for garbage again
    state = {(study, setting): _progress(table, study, setting) for study in studies for setting in SETTINGS}
    cost = dict.fromkeys(state, 0.0)
    fresh, saved = [], time.monotonic()
    with tqdm(total=sum(target(*cell) for cell in state), initial=sum(done for done, _ in state.values())) as bar:
        while (waiting := [cell for cell in state if _unfinished(cell, *state[cell])]) and time.monotonic() < end:
            study, setting = cell = min(waiting, key=lambda one: state[one][0] * np.sqrt(cost[one]))
            done, shown = state[cell]
            began = time.process_time()
            tallies = run_block(study, setting, done // BLOCK)
            cost[cell] = time.process_time() - began
            fresh.append(tallies.assign(statistics=digest))
            state[cell] = (done + BLOCK, shown + int(tallies["shown"].sum()))
            bar.update(BLOCK)
            if time.monotonic() - saved > 60:
                table, fresh, saved = _saved(table, fresh), [], time.monotonic()
    return _saved(table, fresh)


def _saved(table: pd.DataFrame, fresh: list[pd.DataFrame]) -> pd.DataFrame:
    table = merged(table, *fresh) if len(table) or fresh else table
    table.to_parquet(TABLE, index=False, compression="zstd")
    return table


def _progress(table: pd.DataFrame, study: str, setting: Setting) -> tuple[int, int]:
    """Samples drawn so far in one study and setting, and intervals and p values shown of them."""
    here = (table["study"] == study) & (table["n"] == setting.n) & (table["prevalence"] == setting.prevalence)
    rows = table[here & (table["clustered"] == setting.clustered)]
    return (int(rows["samples"].max()), int(rows["shown"].sum())) if len(rows) else (0, 0)


def target(study: str, setting: Setting) -> int:
    """Samples that a study is to have in a setting."""
    return (SAMPLES if study in TOGETHER else SLOW_SAMPLES) // (2 if setting.n == max(SUBJECTS) else 1)


def _unfinished(cell: tuple[str, Setting], done: int, shown: int) -> bool:
    return done < (SILENT if not shown else target(*cell))


def summary(table: pd.DataFrame) -> str:
    """What people read: lowest and highest rate of each quantity by number of subjects, and every row outside its target."""
    found = judged(table)
    lines = ["| Study | Shown | " + " | ".join(f"n = {n}" for n in SUBJECTS) + " |", "|---" * (2 + len(SUBJECTS)) + "|"]
    for (study, quantity), rows in found.groupby(["study", "quantity"], sort=False):
        cells = [_range(rows[rows["n"] == n]) for n in SUBJECTS]
        lines.append(f"| {study} | {quantity} | " + " | ".join(cells) + " |")
    if missing := [study for study in STUDIES if study not in set(found["study"])]:
        lines += ["", "Untried altogether: " + "; ".join(missing) + "."]
    outside = found[found["verdict"].isin(["low", "high"])]
    lines += [
        "",
        f"Outside: {len(outside)} of {int(found['verdict'].isin(['ok', 'low', 'high']).sum())} rows that can be judged.",
        "",
    ]
    for (study, quantity), rows in outside.groupby(["study", "quantity"], sort=False):
        said = [f"n = {row['n']}, {row['prevalence']:g}{', clustered' * bool(row['clustered'])}: {100 * row['rate']:.1f}"
                for row in rows.to_dict("records")]  # fmt: skip
        lines.append(f"- {study}, {quantity}: " + "; ".join(said))
    return "\n".join(lines)


def _range(rows: pd.DataFrame) -> str:
    rates = 100 * rows.loc[~rows["verdict"].isin(["not estimable", "untried"]), "rate"]
    if rates.empty:
        return "untried" if rows.empty or (rows["verdict"] == "untried").any() else "not estimable"
    mark = " **!**" if rows["verdict"].isin(["low", "high"]).any() else ""
    return (f"{rates.min():.0f}" if len(rates) == 1 else f"{rates.min():.0f} to {rates.max():.0f}") + mark


def with_summary(text: str, table: pd.DataFrame) -> str:
    """A text whose part between the marks is the table's summary."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{summary(table)}\n{END}{rest.split(END)[1]}"


def main(arguments: Iterable[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--only", nargs="+", choices=list(STUDIES), default=list(STUDIES), help="some studies")
    parser.add_argument("--keep", action="store_true", help="add to rows that other statistics made")
    parser.add_argument("--readme", action="store_true", help="simulate nothing, write README.md")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    if not chosen.readme:
        simulate(chosen.only, chosen.minutes, chosen.keep)
    README.write_text(with_summary(README.read_text(encoding="utf-8"), pd.read_parquet(TABLE)), encoding="utf-8")


if __name__ == "__main__":
    main()

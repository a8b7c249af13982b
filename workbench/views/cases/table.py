"""The table of cases: one row per case with a run's metrics and marker predictions, or a cohort's cases alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from workbench.cohort.table import Cohort, cohort_title
from workbench.contracts import MARKER_POSITIVE, MARKER_TITLES, MARKERS, MODALITY_TITLES, SEGMENTATION
from workbench.evaluation.metrics import Better, Kind, Place, metric, metrics_of, shown_in
from workbench.views.cases.map_tables import attribution_table, weight_table
from workbench.views.cases.view import CaseView
from workbench.views.markup import Html, html_table

MARKER_SHORT = {"idh": "IDH", "codel": "1p/19q", "tert": "TERT", "mgmt": "MGMT", "grade": "grade"}
_REGION_ORDER = ("WT", "TC", "ET", "ED", "NCR", "RC", "lesion")
_IDENTITY = ["case", "subject", "site", "split"]
_ORIGIN = ["dataset", "lesion"]
"""Shown where they are known of any case; a run from before there were such columns has none."""


def metric_column(name: str, region: str) -> str:
    """Name of a metric's column: 'Dice WT', 'HD95 TC (mm)'."""
    entry = metric(name)
    return f"{entry.title} {region}" + (f" ({entry.unit})" if entry.kind is Kind.DISTANCE else "")


def column_digits(column: str) -> int:
    """Decimals of a column's numbers: its metric's; two of probabilities."""
    entries = metrics_of(SEGMENTATION).values()
    return next((entry.digits for entry in entries if column.startswith(f"{entry.title} ")), 2)


def marker_columns(marker: str, label: str) -> tuple[str, str]:
    """Names of a marker class' columns: predicted probability and truth."""
    name = f"{MARKER_SHORT.get(marker, marker)} {label}".strip()
    return f"p {name}", name


def fullest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each case the rows predicted from most modalities (a table may also hold predictions from subsets of them)."""
    count = table["present"].fillna("").map(lambda names: len(str(names).split("+")))
    return table[count == count.groupby(table["case"]).transform("max")]


def run_table(metrics: pd.DataFrame | None, markers: pd.DataFrame | None, split: str, further: str = "dice") -> pd.DataFrame:
    """One row per case of a split: identity, the metrics of cases per region (and `further`), marker probabilities and truth.

    Args:
        metrics: long table of a run, or None.
        markers: long table of a run, or None.
        split: the split wanted.
        further: a metric to show beside those of `evaluation.metrics` that belong here.
    """
    tables = [t[t["split"] == split] for t in (metrics, markers) if t is not None]
    tables = [fullest(t) for t in tables if not t.empty]
    if not tables:
        return pd.DataFrame(columns=_IDENTITY)
    origin = [name for name in _ORIGIN if any(name in t and t[name].notna().any() for t in tables)]
    result = pd.concat([t.reindex(columns=_IDENTITY + origin) for t in tables]).drop_duplicates("case").reset_index(drop=True)
    columns: dict[str, pd.Series] = {}
    for table in tables:
        if "metric" in table:
            shown = [m for m in dict.fromkeys((*shown_in(Place.CASES, SEGMENTATION), further)) if m in set(table["metric"])]
            regions = [r for r in _REGION_ORDER if r in set(table["region"])]
            main = [r for r in regions if r not in ("ED", "NCR")]
            for name in shown:
                for region in main or regions:
                    rows = table[(table["metric"] == name) & (table["region"] == region)]
                    columns[metric_column(name, region)] = rows.drop_duplicates("case").set_index("case")["value"]
        else:
            columns |= _marker_columns(table)
    for name, values in columns.items():
        result[name] = result["case"].map(values)
    return result[["case", *columns, *origin, *_IDENTITY[1:]]]


def _marker_columns(table: pd.DataFrame) -> dict[str, pd.Series]:
    columns = {}
    order = {name: place for place, name in enumerate(MARKERS)}
    pairs = sorted(
        {(m, c) for m, c in zip(table["marker"], table["class"], strict=True)}, key=lambda p: (order.get(p[0], 99), p[1])
    )
    for marker, label in pairs:
        rows = table[(table["marker"] == marker) & (table["class"] == label)].drop_duplicates("case").set_index("case")
        probability, truth = marker_columns(marker, label)
        columns[probability] = rows["probability"]
        columns[truth] = rows["truth"].map(yes_no)
    return columns


def yes_no(truth: Any) -> str:
    """A binary truth in words; '?' where it is unknown."""
    return "?" if pd.isna(truth) else ("yes" if truth >= 0.5 else "no")


def cohort_table(cohort: Cohort) -> pd.DataFrame:
    """One row per case of a cohort: identity, sequences, and what is known of its markers."""
    cases = cohort.cases
    table = cases[["case", "subject", "site"]].astype(object)
    for column in _ORIGIN:
        if cases[column].notna().any():
            table[column] = cases[column].fillna("?").astype(object)
    table["sequences"] = [", ".join(MODALITY_TITLES.get(m, m) for m in cohort.present(case)) for case in cases["case"]]
    table["mask"] = [str(labels) if isinstance(labels, str) else "none" for labels in cases["labels"]]
    for marker in MARKERS:
        if cases[marker].notna().any():
            name = MARKER_SHORT[marker]
            table[name] = ["?" if pd.isna(v) else (f"{v}" if marker == "grade" else yes_no(v)) for v in cases[marker]]
    for column in ("age", "sex"):
        if cases[column].notna().any():
            table[column] = cases[column].astype(object).where(cases[column].notna(), None)
    return table.reset_index(drop=True)


def worst_first(table: pd.DataFrame, name: str, region: str) -> list[dict[str, str]]:
    """Tabulator's sorters that put the worst case first; none where the table has no such column."""
    column, entry = metric_column(name, region), metric(name)
    if column not in table.columns:
        column = next((c for c in table.columns if c.startswith(f"{entry.title} ")), "")
    if not column:
        return []
    return [{"field": column, "dir": "asc" if entry.better is Better.HIGHER else "desc"}]


def facts_html(
    view: CaseView,
    metrics: pd.DataFrame | None = None,
    markers: pd.DataFrame | None = None,
    attribution: pd.DataFrame | None = None,
    weights: pd.DataFrame | None = None,
) -> Html:
    """What is known of a case, as HTML: subject, sequences, volumes and metrics per region, markers predicted and true, and
    what its explanation maps say by region (`attribution` and `weights`, as `map_tables.read_map_table` gives them)."""
    row, info = view.row, view.cohort.info
    absent = [m for m in view.cohort.modalities if m not in view.modalities]
    facts = {
        "Cohort": cohort_title(info.name, info.phantom),
        "Case": view.case,
        "Subject": row["subject"],
        "Site": row["site"],
        **{title: row[name] for name, title in (("dataset", "Dataset"), ("lesion", "Lesion")) if not pd.isna(row[name])},
        "Age, sex": ", ".join(_text(row[c]) for c in ("age", "sex") if not pd.isna(row[c])) or "unknown",
        "Sequences": ", ".join(MODALITY_TITLES.get(m, m) for m in view.modalities)
        + (f" (not acquired: {', '.join(MODALITY_TITLES.get(m, m) for m in absent)})" if absent else ""),
    }
    notice = (
        Html('<p class="phantom">Phantom: synthetic images made by a computer. Not a patient, no clinical evidence.</p>')
        if info.phantom
        else Html("")
    )
    listed = Html("").join(Html("<tr><th>{}</th><td>{}</td></tr>").format(k, v) for k, v in facts.items())
    parts = [Html("<table>{}</table>").format(listed), _regions_html(view, metrics), _markers_html(view, markers)]
    parts += [_maps_html(view, attribution, attribution_table), _maps_html(view, weights, weight_table)]
    return Html('{}<div class="facts">{}</div>').format(notice, Html("").join(parts))


def _regions_html(view: CaseView, metrics: pd.DataFrame | None) -> Html:
    volumes = view.volumes_ml()
    if not volumes:
        return Html("<p>No mask and no prediction.</p>")
    mine = None if metrics is None else metrics[metrics["case"] == view.case]
    found = {} if mine is None or mine.empty else fullest(mine).set_index(["region", "metric"])["value"].to_dict()
    entries = [metric(name) for name in shown_in(Place.CASES, SEGMENTATION)] if found else []
    head = ["Region", *(f"{name} (ml)" for name in volumes), *(entry.full_title for entry in entries)]
    rows = []
    for region in view.regions:
        cells = [region, *(f"{volumes[name][region]:.1f}" for name in volumes)]
        cells += [_number(found.get((region, entry.name)), entry.digits) for entry in entries]
        rows.append(cells)
    return html_table(head, rows)


def _markers_html(view: CaseView, markers: pd.DataFrame | None) -> Html:
    mine = None if markers is None else markers[markers["case"] == view.case]
    rows = [] if mine is None or mine.empty else fullest(mine).to_dict("records")
    predicted: dict[str, str] = {}
    for r in rows:
        text = f"p({r['class']}) = {r['probability']:.2f}"
        predicted[r["marker"]] = f"{predicted[r['marker']]}, {text}" if r["marker"] in predicted else text
    listed = []
    for marker in MARKERS:
        truth = view.row[marker]
        if marker not in predicted and pd.isna(truth):
            continue
        known = "unknown" if pd.isna(truth) else _truth_text(marker, int(truth))
        listed.append([MARKER_TITLES[marker], known, predicted.get(marker, "–")])
    return html_table(["Marker", "Truth", "Prediction"], listed) if listed else Html("")


def _maps_html(view: CaseView, table: pd.DataFrame | None, make: Callable[[pd.DataFrame], pd.DataFrame]) -> Html:
    """A table of `map_tables` of this case alone; the number of cases, which is one, is left out."""
    shown = pd.DataFrame() if table is None or table.empty else make(table[table["case"] == view.case])
    if shown.empty:
        return Html("")
    shown = shown.drop(columns="n", errors="ignore")
    head = [f"{str(shown.index.name).capitalize()}, {shown.columns.name}", *map(str, shown.columns)]
    rows = [
        [str(name), *(value if isinstance(value, str) else _number(value, 2) for value in row)]
        for name, row in zip(shown.index, shown.to_numpy(), strict=True)
    ]
    return html_table(head, rows)


def _truth_text(marker: str, truth: int) -> str:
    if marker == "grade":
        return str(truth)
    return MARKER_POSITIVE[marker] if truth else f"not {MARKER_POSITIVE[marker]}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""A part of a cohort as a cohort of its own: `workbench cohort filter`."""

from __future__ import annotations

import ast
from pathlib import Path

import pandas as pd

from workbench.cohort.table import Cohort
from workbench.cohort.writing import refuse_existing, relative_root, write_cohort
from workbench.errors import ParameterError

_METHODS = {"isna", "notna", "isin", "between", "str", "contains", "startswith", "endswith", "lower", "upper", "strip"}
_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.BinOp, ast.BitAnd,
    ast.BitOr, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.In, ast.NotIn, ast.List, ast.Tuple, ast.Constant, ast.Name, ast.Load, ast.Call, ast.keyword, ast.Attribute,
)  # fmt: skip
"""What a query may be made of: comparisons, conditions, arithmetic, and the few methods of `_METHODS`. It cannot run code."""


def select_cases(cohort: Cohort, query: str) -> pd.DataFrame:
    """The rows of the table of cases for which a condition holds; an unknown value fulfils no comparison.

    Args:
        cohort: the cohort.
        query: a pandas query over the columns, e.g. ``idh == 1 and site != "north" and flair.notna()``.

    Raises:
        ParameterError: the query is no condition over the columns; the message says why.
    """
    columns = [str(name) for name in cohort.cases.columns]
    _check_query(query, columns)
    try:
        value = cohort.cases.eval(query, engine="python")
    except Exception as error:  # pandas raises nearly everything on a query that makes no sense
        raise ParameterError(f"the query `{query}` cannot be evaluated: {type(error).__name__}: {error}") from error
    if not isinstance(value, pd.Series) or not pd.api.types.is_bool_dtype(value.dtype):
        raise ParameterError(f"the query `{query}` is no condition: it must be true or false for each case, as `age > 50` is")
    return cohort.cases[value.fillna(False).astype(bool)].reset_index(drop=True)


def filter_cohort(cohort: Cohort, query: str, out: str | Path, *, name: str = "", overwrite: bool = False) -> Cohort:
    """Write the cases that fulfil a query as a new cohort over the same images. Folds are not taken over.

    Args:
        cohort: the cohort to choose from.
        query: see `select_cases`.
        out: folder of the new cohort.
        name: its name; default the name of `out`.
        overwrite: replace a cohort that is already there.

    Raises:
        ParameterError: a bad query, one that no case fulfils, or `out` is the cohort itself.
        WorkbenchError: `out` holds a cohort already, or cannot be written.
    """
    out = Path(out)
    if out.resolve() == cohort.folder.resolve():
        raise ParameterError(f"{out} is the cohort itself; choose another folder for the part of it")
    refuse_existing(out, overwrite)
    cases = select_cases(cohort, query)
    if cases.empty:
        raise ParameterError(
            f"no case of cohort {cohort.info.name} fulfils `{query}`; see the values with `workbench cohort show`"
        )
    sites = set(cases["site"])
    info = cohort.info.model_copy(
        update={
            "name": name or out.resolve().name,
            "image_root": relative_root(cohort.image_root, out),
            "source": f"{cohort.info.name} where {query}",
            "external_sites": tuple(site for site in cohort.info.external_sites if site in sites),
        }
    )
    truth = cohort.truth
    if truth is not None:
        truth = truth[truth["case"].isin(cases["case"])].reset_index(drop=True)
    return write_cohort(out, info, cases, overwrite=overwrite, truth=truth)


def _check_query(query: str, columns: list[str]) -> None:
    try:
        tree = ast.parse(query.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ParameterError(f"the query `{query}` is not understood: {error}") from error
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise ParameterError(f"the query `{query}` may hold conditions on columns only, not {type(node).__name__}")
        if isinstance(node, ast.Name) and node.id not in columns:
            raise ParameterError(f"the query `{query}` names '{node.id}'; the columns are {', '.join(columns)}")
        if isinstance(node, ast.Attribute) and node.attr not in _METHODS:
            raise ParameterError(f"the query `{query}` uses '.{node.attr}'; there are {', '.join(sorted(_METHODS))}")
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            raise ParameterError(f"the query `{query}` may not call functions")

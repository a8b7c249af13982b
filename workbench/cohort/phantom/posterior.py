"""The exact posterior of every marker given everything class-dependent that was drawn, and the best scores it allows.

By Bayes over (class, grade): P(state | site) times the likelihood of the signs, the place, the volume, the front's width and the
ventricles (and the solid tumour's diffusion and blood volume, where those maps are made), or of the mode's carrier alone;
`with_age` adds the age. The ventricles widen with age, so without the age they carry
some of it: that is integrated out numerically.

After surgery the images still depend on the class through the same draws only. Place, border, ventricles and (through cavity and
residual) the size keep their factors; the signs keep theirs in a session that shows them (`signs_show`) and are summed out in one
that does not. What is given is thus the posterior of the session on its own, exact for what was drawn and can still show; the
size before surgery is seen less well afterwards, so that the best score of the images themselves can only be lower. The single
carriers of the other modes lie in what is left of the tumour and show in every session.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.cohort.phantom.classes import (
    FOCUSED,
    GRADES,
    STATES,
    log_density,
    map_log_density,
    sign_model,
    state_probabilities,
    volume_log_density,
    width_log_density,
)
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import CLASSES, LAYERED
from workbench.errors import ParameterError

BINARY = ("idh", "codel", "tert")
_NODES = 200


def _safe_log(values: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(values, dtype=float))


def state_log_likelihood(truth: pd.DataFrame, options: PhantomOptions, signal: str, *, with_age: bool) -> np.ndarray:
    """log P(what was drawn | class, grade) for each row of `truth` and each of `STATES`: (rows, states)."""
    result = np.zeros((len(truth), len(STATES)))
    if signal in FOCUSED:
        carried = truth["carrier"].to_numpy(dtype=bool)
        for column, (klass, _) in enumerate(STATES):
            rate = options.carrier_sensitivity if klass != "glioblastoma" else options.carrier_false
            result[:, column] = _safe_log(np.where(carried, rate, 1 - rate))
        return result
    shown = truth["signs_show"].to_numpy(dtype=bool) if "signs_show" in truth else None
    by_class = {klass: _class_log_likelihood(truth, options, klass, with_age=with_age) for klass in CLASSES}
    for column, (klass, grade) in enumerate(STATES):
        signs = _sign_log_likelihood(truth, options, klass, grade, signal) + _map_log_likelihood(truth, options, klass)
        # Signs that surgery removed are summed out: they are independent of the rest given the state, so their factor is 1.
        result[:, column] = by_class[klass] + (np.where(shown, signs, 0.0) if shown is not None else signs)
    return result


def _sign_log_likelihood(truth: pd.DataFrame, options: PhantomOptions, klass: str, grade: int, signal: str) -> np.ndarray:
    p_mismatch, p_ring, p_patchy, p_heterogeneous = sign_model(options, klass, grade, signal)
    mismatch = truth["mismatch"].to_numpy(dtype=bool)
    ring = (truth["enhancement"] == "ring").to_numpy()
    patchy = (truth["enhancement"] == "patchy").to_numpy()
    heterogeneous = truth["heterogeneous"].to_numpy(dtype=bool)
    first = np.where(mismatch, p_mismatch, np.where(ring, p_ring, 1 - p_mismatch - p_ring))
    second = np.where(ring, 1.0, np.where(patchy, p_patchy, 1 - p_patchy))
    third = np.where(mismatch, 1.0, np.where(heterogeneous, p_heterogeneous, 1 - p_heterogeneous))
    return _safe_log(first) + _safe_log(second) + _safe_log(third)


def _map_log_likelihood(truth: pd.DataFrame, options: PhantomOptions, klass: str) -> np.ndarray:
    result = np.zeros(len(truth))
    for name in options.extra:
        result += map_log_density(options, klass, name, truth[f"solid_{name}"].to_numpy(dtype=float))
    return result


def _class_log_likelihood(truth: pd.DataFrame, options: PhantomOptions, klass: str, *, with_age: bool) -> np.ndarray:
    own = options.classes[klass]
    result = volume_log_density(options, klass, truth["volume_ml"].to_numpy(dtype=float))
    result = result + width_log_density(options, klass, truth["width_mm"].to_numpy(dtype=float))
    result = result + _safe_log(truth["lobe"].map(own.lobes).fillna(0.0).to_numpy(dtype=float))
    layered = truth["lobe"].isin(LAYERED).to_numpy()
    cortical = truth["cortical"].to_numpy(dtype=bool)
    result = result + _safe_log(np.where(layered, np.where(cortical, own.cortical, 1 - own.cortical), 1.0))
    ages = truth["age"].to_numpy(dtype=float)
    if with_age:  # the ventricles depend on the age alone: once it is known they tell nothing more
        return result + log_density(ages, *own.age, options.age_range)
    per_year, spread = options.ventricles
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low, high = options.age_range
    grid = (high + low) / 2 + (high - low) / 2 * nodes
    prior = np.exp(log_density(grid, *own.age, options.age_range)) * weights * (high - low) / 2
    shift = truth["ventricle_mm"].to_numpy(dtype=float)[:, None] - per_year * (grid - 50)[None, :]
    return result + _safe_log((np.exp(-0.5 * (shift / spread) ** 2) * prior).sum(1))


def posterior(truth: pd.DataFrame, options: PhantomOptions, signal: str, *, with_age: bool) -> pd.DataFrame:
    """P(marker | what was drawn): columns idh, codel, tert, grade2, grade3, grade4, one row per row of `truth`.

    In the permuted modes nothing drawn tells anything: the posterior is the share among the cases the markers were dealt to
    (`truth` must then hold all cases, with the markers as they were dealt).
    """
    if signal in ("permuted", "site_permuted"):
        return _shares(truth, by_site=signal == "site_permuted")
    prior = np.stack([state_probabilities(options, site, signal) for site in truth["site"]])
    logs = _safe_log(prior) + state_log_likelihood(truth, options, signal, with_age=with_age)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    klass = np.array([state[0] for state in STATES])
    grade = np.array([state[1] for state in STATES])
    tert = np.array([options.classes[name].tert for name in klass])
    result = pd.DataFrame(index=truth.index)
    result["idh"] = weights[:, klass != "glioblastoma"].sum(1)
    result["codel"] = weights[:, klass == "oligodendroglioma"].sum(1)
    result["tert"] = weights @ tert
    for value in GRADES:
        result[f"grade{value}"] = weights[:, grade == value].sum(1)
    return result.clip(0.0, 1.0)


def _shares(truth: pd.DataFrame, *, by_site: bool) -> pd.DataFrame:
    people = truth.drop_duplicates("subject")  # the markers were dealt to subjects, whatever the number of their sessions
    values = people[list(BINARY)].astype(float)
    for value in GRADES:
        values[f"grade{value}"] = (people["grade"] == value).astype(float)
    if by_site:
        shares = values.groupby(people["site"]).mean().loc[truth["site"]]
        return shares.set_index(truth.index)
    return pd.DataFrame([values.mean()] * len(truth), index=truth.index)


def best_possible(
    truth: pd.DataFrame, marker: str, cases: pd.Series | list[str] | None = None, *, with_age: bool = False
) -> np.ndarray:
    """The exact posterior on file, for `cases` in their order (all where None).

    Args:
        truth: `Cohort.truth` of a phantom.
        marker: idh, codel, tert: (n,) probability of the positive class; grade: (n, 3) for grades 2, 3, 4; grade4: (n,).

    Raises:
        ParameterError: no such marker in a phantom, or a case that the truth does not hold.
    """
    suffix = "_with_age" if with_age else ""
    columns = [f"posterior_grade{g}{suffix}" for g in GRADES] if marker == "grade" else [f"posterior_{marker}{suffix}"]
    if any(column not in truth.columns for column in columns):
        raise ParameterError(f"a phantom has no marker '{marker}'; there are idh, codel, tert, grade")
    table = truth.set_index("case")
    if cases is not None:
        if unknown := [case for case in cases if case not in table.index]:
            raise ParameterError(f"the phantom's truth holds no case '{unknown[0]}'")
        table = table.loc[list(cases)]
    values = table[columns].to_numpy(dtype=float)
    return values if marker == "grade" else values[:, 0]

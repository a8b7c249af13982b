"""Who is trained on, who chooses, who is tested: patient-grouped, stratified folds, written once per cohort.

Stratification is iterative stratification of multi-label data (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011) over
subjects. The labels of a subject are its site, dataset and kind of lesion, each of its markers (unknown counts as a value of its
own) and what its annotators could draw. The rarest label still to be dealt out is dealt first, each of its subjects to the fold
that lacks this label most; ties go to the fold that lacks subjects most, then to chance. Crossing site and markers into
one class, as a stratified k-fold needs, leaves classes of one subject in cohorts of this size; here each is balanced by itself.
One thing is added to the published rule: a full fold takes no more, so that folds differ by at most one subject.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.cohort.table import FOLDS_FILE, Cohort
from workbench.contracts import MARKERS
from workbench.errors import InputError, ParameterError, Problem, WorkbenchError, listed
from workbench.files import read_json, write_json
from workbench.seeding import stream

TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
STRATIFIED_BY: tuple[str, ...] = ("site", *MARKERS, "labels", "dataset", "lesion")
NUMBER_OF_FOLDS = 5
_REMEDY = "make the folds anew with `workbench cohort fold --overwrite`; runs made with the old folds are then not comparable"


@dataclass(frozen=True)
class Folds:
    """The folds of a cohort: `folds.json`.

    Attributes:
        groups: the subjects of each fold, sorted; every non-external subject of the cohort is in exactly one.
        external: subjects of the cohort's external sites; in no fold, never used for training or validation.
        requested: number of folds asked for; more than `len(groups)` where there were too few subjects.
        seed: seed of the ties.
    """

    groups: tuple[tuple[str, ...], ...]
    external: tuple[str, ...]
    requested: int
    seed: int

    def __len__(self) -> int:
        return len(self.groups)

    def fold_of(self, subject: str) -> int | None:
        """The fold a subject is tested in; None for an external one.

        Raises:
            WorkbenchError: the folds know no such subject.
        """
        for index, group in enumerate(self.groups):
            if subject in group:
                return index
        if subject in self.external:
            return None
        raise WorkbenchError(f"the folds know no subject '{subject}'")

    def split(self, cohort: Cohort, fold: int) -> pd.Series:
        """The split of every case: index = case, values 'train', 'validation', 'test' or 'external'.

        Test is fold k, validation the next one (k + 1, after the last comes the first), train the others. With two folds
        there is no validation: the other fold is trained on.

        Raises:
            ParameterError: no such fold.
            InputError: a case's subject is in no fold.
        """
        count = len(self.groups)
        if not 0 <= fold < count:
            raise ParameterError(f"fold {fold} does not exist; the folds of cohort {cohort.info.name} are 0 to {count - 1}")
        role = dict.fromkeys(self.external, EXTERNAL)
        for index, group in enumerate(self.groups):
            here = TEST if index == fold else VALIDATION if count > 2 and index == (fold + 1) % count else TRAIN
            role |= dict.fromkeys(group, here)
        values = cohort.cases["subject"].map(role)
        if values.isna().any():
            lost = sorted(cohort.cases["subject"][values.isna()].unique())
            raise InputError(_stranger_problem(lost))
        return pd.Series(values.to_numpy(dtype=object), index=pd.Index(cohort.cases["case"], name="case"), name="split")


def make_folds(
    cohort: Cohort, folds: int = NUMBER_OF_FOLDS, seed: int = 0, overwrite: bool = False, *, write: bool = True
) -> Folds:
    """Deal the subjects into folds and write `folds.json`; where it is there already, read it and check that it is the same.

    The result depends on the subjects' data, `folds` and `seed` only, not on the order of the table.

    Args:
        cohort: the cohort.
        folds: number of folds, at least 2; fewer are made, with a warning, where there are fewer subjects.
        seed: seed of the ties.
        overwrite: replace the folds on file.
        write: leave them in `folds.json`; else they are only dealt, as they would be.

    Raises:
        ParameterError: fewer than two folds asked for.
        InputError: fewer than two subjects outside the external sites; or the folds on file do not fit the table or were
            made with another number of folds or seed.
        WorkbenchError: the file cannot be written.
    """
    if folds < 2:
        raise ParameterError(f"folds is {folds}; at least 2 are needed, one to train on and one to test")
    path = cohort.folder / FOLDS_FILE
    if path.exists() and not overwrite:
        known = read_folds(cohort)
        if (known.requested, known.seed) != (folds, seed):
            raise InputError(
                Problem(
                    file=FOLDS_FILE,
                    message=f"the folds on file were made with folds={known.requested}, seed={known.seed}; "
                    f"asked for were folds={folds}, seed={seed}",
                    remedy=_REMEDY,
                )
            )
        return known
    external = external_subjects(cohort)
    inner = cohort.cases[~cohort.cases["subject"].isin(external)]
    subjects = sorted(inner["subject"].unique())
    if len(subjects) < 2:
        left = f" outside the external sites ({', '.join(cohort.info.external_sites)})" if external else ""
        raise InputError(
            Problem(
                message=f"cohort {cohort.info.name} has {len(subjects)} subject{left}; "
                "folds need at least 2, one to train on and one to test",
                remedy="add subjects, or only predict on this cohort",
            )
        )
    count = min(folds, len(subjects))
    _warn_of_few(cohort.info.name, len(subjects), folds, count)
    groups = _deal(_labels(inner, subjects), subjects, count, seed)
    made = Folds(tuple(groups), tuple(sorted(external)), folds, seed)
    if not write:
        return made
    try:
        write_json(path, _as_dict(made))
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be written: {error.strerror or error}") from error
    return made


def _warn_of_few(name: str, subjects: int, folds: int, count: int) -> None:
    without = "with two folds there is no validation set"
    if count < folds:
        told = f"; {without}" if count == 2 else ""
        warnings.warn(f"cohort {name} has {subjects} subjects for {folds} folds: {count} folds are made{told}", stacklevel=3)
    elif count == 2:
        warnings.warn(f"cohort {name}: {without}", stacklevel=3)


def read_folds(cohort: Cohort) -> Folds:
    """Read `folds.json` and check it against the table of cases.

    Raises:
        WorkbenchError: there is none, or it cannot be read.
        InputError: it is malformed, a subject is in two folds, or its subjects are not those of the table; the problems
            name subjects and folds.
    """
    path = cohort.folder / FOLDS_FILE
    if not path.is_file():
        raise WorkbenchError(
            f"cohort {cohort.info.name} has no folds yet; make them with `workbench cohort fold {cohort.folder}`"
        )
    folds = _parse(read_json(path), path)
    problems = _twice(folds) + _misfits(folds, cohort)
    if problems:
        raise InputError(*problems)
    return folds


def external_subjects(cohort: Cohort) -> set[str]:
    """Subjects with any case at an external site: all of their cases are external."""
    sites = cohort.cases["site"].isin(cohort.info.external_sites)
    return set(cohort.cases.loc[sites, "subject"])


def _labels(cases: pd.DataFrame, subjects: list[str]) -> np.ndarray:
    """(subjects, labels) bool: which stratification labels each subject carries."""
    columns = []
    place = {subject: index for index, subject in enumerate(subjects)}
    for name in STRATIFIED_BY:
        values = cases[name].astype("string").fillna("unknown")
        if values.nunique() < 2:
            continue
        codes, names = pd.factorize(values, sort=True)
        table = np.zeros((len(subjects), len(names)), bool)
        table[cases["subject"].map(place), codes] = True
        columns.append(table)
    return np.hstack(columns) if columns else np.ones((len(subjects), 1), bool)


def _deal(labels: np.ndarray, subjects: list[str], count: int, seed: int) -> list[tuple[str, ...]]:
    """Iterative stratification with full folds closed; see the module's docstring."""
    random = stream(seed, "folds")
    number = len(subjects)
    # Which folds get the one subject more is chance; so is the order in which equals are dealt.
    room = np.full(count, number // count)
    room[random.permutation(count)[: number % count]] += 1
    order = random.permutation(number)
    wanted = labels.sum(axis=0)[None, :] * (room / number)[:, None]
    fold_of = np.full(number, -1)
    while (fold_of < 0).any():
        waiting = fold_of < 0
        left = labels[waiting].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf)))
        for subject in order:
            if fold_of[subject] >= 0 or not labels[subject, rarest]:
                continue
            tie = random.random(count)
            lacks = np.lexsort((tie, room, np.round(wanted[:, rarest], 9)))
            fold = next(int(k) for k in lacks[::-1] if room[k] > 0)
            fold_of[subject] = fold
            wanted[fold] -= labels[subject]
            room[fold] -= 1
    return [tuple(subjects[i] for i in np.flatnonzero(fold_of == k)) for k in range(count)]


def _as_dict(folds: Folds) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "requested": folds.requested,
        "seed": folds.seed,
        "stratified_by": list(STRATIFIED_BY),
        "folds": [list(group) for group in folds.groups],
        "external": list(folds.external),
    }


def _parse(value: Any, path: Path) -> Folds:
    try:
        groups, external = value["folds"], value["external"]
        texts = [*external, *(subject for group in groups for subject in group)]
        if not isinstance(groups, list) or not isinstance(external, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError("'folds' is a list of lists of subjects, 'external' a list of subjects")
        if len(groups) < 2 or not all(isinstance(group, list) and group for group in groups):
            raise ValueError("there are at least two folds, and none is empty")
        return Folds(tuple(tuple(group) for group in groups), tuple(external), int(value["requested"]), int(value["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(Problem(file=str(path), message=f"it does not describe folds: {error!s}", remedy=_REMEDY)) from error


def _twice(folds: Folds) -> list[Problem]:
    places: dict[str, list[str]] = {}
    for index, group in enumerate(folds.groups):
        for subject in group:
            places.setdefault(subject, []).append(f"fold {index}")
    for subject in folds.external:
        places.setdefault(subject, []).append("external")
    return [
        Problem(
            file=FOLDS_FILE,
            channel="subject",
            message=f"patient {subject} is in {' and '.join(found)}; a patient belongs to exactly one",
            remedy=f"take the patient out of all but one, or {_REMEDY}",
        )
        for subject, found in places.items()
        if len(found) > 1
    ]


def _misfits(folds: Folds, cohort: Cohort) -> list[Problem]:
    external = external_subjects(cohort)
    inner = set(cohort.cases["subject"]) - external
    dealt = {subject for group in folds.groups for subject in group}
    problems = []
    if lost := sorted((dealt | set(folds.external)) - inner - external):
        message = f"subjects of the folds that the table of cases does not have: {listed(lost, 8)}"
        problems.append(Problem(file=FOLDS_FILE, channel="subject", message=message, remedy=_REMEDY))
    if strangers := sorted((inner | external) - dealt - set(folds.external)):
        problems.append(_stranger_problem(strangers))
    if moved := sorted((dealt & external) | (set(folds.external) & inner)):
        message = f"inside the folds and at the external sites the same subjects are counted differently: {listed(moved, 8)}"
        problems.append(Problem(file=FOLDS_FILE, channel="site", message=message, remedy=_REMEDY))
    return problems


def _stranger_problem(subjects: list[str]) -> Problem:
    message = f"subjects of the table of cases that are in no fold: {listed(subjects, 8)}"
    return Problem(file=FOLDS_FILE, channel="subject", message=message, remedy=_REMEDY)

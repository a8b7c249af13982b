"""Does a run repeat? Its files are held against those of a rerun: identical, within tolerance, different, or not comparable.

On the same machine (device, thread count, versions, processor) every number is expected to be the same to the bit. Where one
of these differs, rounding differs, and results are judged within `file_differences.TOLERANCES`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import ParameterError, RunError, WorkbenchError
from workbench.execution import file_differences
from workbench.execution.file_differences import TOLERANCES, UNITS, Difference, How, Tolerances, compare_files
from workbench.execution.pruning import VERIFY
from workbench.execution.rerun import WHERE, rerun
from workbench.files import read_json
from workbench.records.environment import differences, read_environments
from workbench.records.run_folder import FITTED_FILE, TRAINING_FILE, RunFolder

IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"
NOT_COMPARABLE, NOT_JUDGED = "not comparable", "not judged"


@dataclass(frozen=True)
class _Artefact:
    title: str
    pattern: str
    how: How
    needed: bool = True
    """Whether the rerun of a run that has it must have it; the rest may have been made afterwards."""


_ARTEFACTS = (  # in the order in which a run makes them: the first that differs is where to look
    _Artefact("scalars over steps", "events.jsonl", file_differences.events),
    _Artefact("weights", "checkpoints/{checkpoint}.safetensors", file_differences.weights),
    _Artefact("encoder", "checkpoints/encoder.safetensors", file_differences.encoder),
    _Artefact("validation logits", "predictions/*.logits.b2nd", file_differences.logits),
    _Artefact("marker logits", "predictions/*.json", file_differences.case_document),
    _Artefact("predicted masks", "predictions/*.nii.gz", file_differences.masks),
    _Artefact("voxel metrics", "metrics.parquet", file_differences.tables),
    _Artefact("markers", "markers.parquet", file_differences.tables),
    _Artefact("thresholds, calibration", FITTED_FILE, file_differences.documents),
    _Artefact("headline", "headline.json", file_differences.documents),
    _Artefact("other tables", "*.parquet", file_differences.tables, needed=False),
    _Artefact("explanation maps", "maps/*.nii.gz", file_differences.maps, needed=False),
    _Artefact("tables of the maps", "maps/*.csv", file_differences.tables, needed=False),
)


@dataclass(frozen=True)
class Finding:
    """One kind of artefact, compared."""

    artefact: str
    files: int
    identical: int
    verdict: str
    largest: float | None = None
    """The largest difference, in `unit`; None where there is none, or where it has no size (another shape, a missing row)."""
    limit: float | None = None
    unit: str = ""
    where: str = ""
    """File and place of the largest difference."""


@dataclass(frozen=True)
class Verification:
    """What the comparison of a run with its rerun found."""

    run: str
    rerun: str
    verdict: str
    reason: str
    """The verdict in a sentence."""
    environment: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What the environments differ in; empty: nothing that is recorded."""
    artefacts: list[Finding] = field(default_factory=list)

    @property
    def repeats(self) -> bool:
        """Identical; or within tolerance where the environment is another, so that rounding may differ."""
        return self.verdict == IDENTICAL or (self.verdict == WITHIN and bool(self.environment))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "repeats": self.repeats}


def tolerances(given: Mapping[str, str | float] | None = None) -> dict[str, float]:
    """`TOLERANCES` with some of them replaced.

    Raises:
        ParameterError: no such kind, or no number of 0 or more.
    """
    chosen = dict(TOLERANCES)
    for name, value in (given or {}).items():
        try:
            chosen[{**{key: key for key in TOLERANCES}, **{key.replace(" ", "-"): key for key in TOLERANCES}}[name]] = float(
                value
            )
        except KeyError:
            known = ", ".join(key.replace(" ", "-") for key in TOLERANCES)
            raise ParameterError(f"there is no tolerance '{name}'; there are {known}") from None
        except ValueError:
            raise ParameterError(f"tolerance {name} = {value} is no number") from None
    if wrong := [name for name, value in chosen.items() if not value >= 0]:
        raise ParameterError(f"tolerance {wrong[0]} = {chosen[wrong[0]]:g}: expected 0 or more")
    return chosen


def verify_by_rerun(
    folder: str | Path,
    *,
    limits: Tolerances | None = None,
    cohort: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    keep: bool = False,
    timeout: float = 0.0,
    progress: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Make a run again and compare: in a hidden folder of its runs folder, removed afterwards, or to keep as `rerun` makes it.

    Args:
        folder: the folder of a completed run.
        limits: see `tolerances`.
        cohort: where the cohort lies now; see `rerun`.
        values: see `rerun`.
        keep: keep the rerun.
        timeout: minutes; see `rerun`.
        progress: show progress.
        tell: takes warnings.

    Raises:
        RunError: the run is not completed, or cannot be made again, or the rerun failed.
    """
    run = _completed(folder)
    if keep:
        again = rerun(folder, cohort=cohort, values=values, timeout=timeout, progress=progress, tell=tell)
        return verify(run.folder, again.folder, limits=limits)
    root = run.folder.resolve().parents[1]
    hidden = Path(tempfile.mkdtemp(prefix=VERIFY, dir=root))
    try:
        if masks := str(run.spec["parameters"].get("mask_run") or ""):  # named relative to the runs folder
            (hidden / Path(masks).parts[0]).symlink_to(root / Path(masks).parts[0])
        again = rerun(
            folder, runs=hidden, experiment=f"rerun-of-{run.spec['experiment']}", cohort=cohort, values=values, timeout=timeout,
            progress=progress, report=False, tell=tell,
        )  # fmt: skip
        return verify(run.folder, again.folder, limits=limits)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def verify(first: str | Path, second: str | Path, *, limits: Tolerances | None = None) -> Verification:
    """Compare a run with its rerun.

    Args:
        first: the folder of the run.
        second: that of its rerun.
        limits: see `tolerances`; None: `TOLERANCES`.

    Raises:
        RunError: one of them is not completed, or a file cannot be read.
    """
    left, right = _completed(first), _completed(second)
    if reason := other_question(left.spec, right.spec):
        return Verification(str(first), str(second), NOT_COMPARABLE, reason)
    environment = environment_differences(left, right)
    found = [finding for artefact in _ARTEFACTS for finding in _compare(left, right, artefact, limits or TOLERANCES)]
    verdicts = {finding.verdict for finding in found}
    verdict = DIFFERENT if DIFFERENT in verdicts else WITHIN if WITHIN in verdicts else IDENTICAL
    return Verification(str(first), str(second), verdict, _reason(verdict, found, environment), environment, found)


def other_question(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Why two runs are not runs of the same thing, by their specs; empty where they are."""
    for name, values in {
        "method": [spec["method"] for spec in (first, second)],
        "cohort's fingerprint": [spec["cohort"]["fingerprint"] for spec in (first, second)],
    }.items():
        if values[0] != values[1]:
            return f"the {name} differs: {values[0]} and {values[1]}"
    left, right = ({k: v for k, v in spec["parameters"].items() if k not in WHERE} for spec in (first, second))
    changed = [name for name in {**left, **right} if left.get(name) != right.get(name)]
    if changed:
        listed = ", ".join(f"{name} ({left.get(name, 'not there')} and {right.get(name, 'not there')})" for name in changed[:5])
        return f"the parameters differ: {listed}{' ...' if len(changed) > 5 else ''}"
    if first["split"] and second["split"] and first["split"] != second["split"]:
        return "the splits differ: the cohort's folds were dealt anew in between"
    return ""


def environment_differences(first: RunFolder, second: RunFolder) -> dict[str, tuple[str, str]]:
    """What the environments of two runs differ in, thread count and code included; not knowing counts as a difference."""
    left, right = (_environment(run) for run in (first, second))
    if "python" in left and "python" in right:
        return differences(left, right)
    said = tuple("recorded" if "python" in side else "not recorded" for side in (left, right))
    known = [key for key in ("threads", "code_version") if left[key] != right[key]]
    return {"environment": (said[0], said[1]), **{key: (str(left[key]), str(right[key])) for key in known}}


def _environment(run: RunFolder) -> dict[str, Any]:
    """The last environment that a run was computed in, and how many there were; of an older run what little it says."""
    noted = read_environments(run.folder)
    known = dict(noted[-1] if noted else run.spec["environment"])
    if len(noted) > 1:
        known["environments"] = len(noted)
    return {"threads": run.spec["threads"], "code_version": run.spec["code_version"]} | known


def _completed(folder: str | Path) -> RunFolder:
    run = RunFolder.open(folder)
    state = run.effective_state()
    if state != "completed":
        raise RunError(f"run {run.folder} is {state}: only a completed run can be verified")
    return run


def _compare(first: RunFolder, second: RunFolder, artefact: _Artefact, limits: Tolerances) -> list[Finding]:
    """The finding on one kind of artefact; none where neither run has it."""
    names = [_names(run, artefact) for run in (first, second)]
    both, odd = sorted(names[0] & names[1]), sorted(names[0] ^ names[1])
    worst: tuple[float, str, Difference] | None = None
    identical = 0
    for name in both:
        found = compare_files(first.folder / name, second.folder / name, artefact.how, limits)
        if found is None:
            identical += 1
        elif worst is None or found.excess(limits) > worst[0]:
            worst = (found.excess(limits), name, found)
    findings = []
    if both:
        findings.append(_finding(artefact, len(both), identical, worst, limits))
    if odd:
        side = "run" if odd[0] in names[0] else "rerun"
        verdict = DIFFERENT if artefact.needed else NOT_JUDGED
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        findings.append(Finding(artefact.title, len(odd), 0, verdict, where=f"{odd[0]}{more} is in the {side} only"))
    return findings


def _finding(
    artefact: _Artefact, files: int, identical: int, worst: tuple[float, str, Difference] | None, limits: Tolerances
) -> Finding:
    if worst is None:
        return Finding(artefact.title, files, identical, IDENTICAL)
    excess, name, found = worst
    sized = found.kind != "" and 0 < found.size < float("inf")
    return Finding(
        artefact.title, files, identical, DIFFERENT if excess > 1 else WITHIN,
        largest=found.size if sized else None, limit=limits[found.kind] if sized else None, unit=UNITS[found.kind],
        where=": ".join(part for part in (name, found.where) if part),
    )  # fmt: skip


def _names(run: RunFolder, artefact: _Artefact) -> set[str]:
    pattern = artefact.pattern
    if "{checkpoint}" in pattern:
        try:
            pattern = pattern.format(checkpoint=read_json(run.folder / TRAINING_FILE)["checkpoint"])
        except (WorkbenchError, KeyError):
            return set()  # a method without weights
    found = {path.relative_to(run.folder).as_posix() for path in run.folder.glob(pattern) if not path.name.startswith(".")}
    return found - {other.pattern for other in _ARTEFACTS} if "*" in pattern else found


def _reason(verdict: str, found: list[Finding], environment: Mapping[str, Any]) -> str:
    where = "another environment" if environment else "the same environment"
    if verdict == IDENTICAL:
        return f"every number is the same to the bit, in {where}"
    first = next(finding for finding in found if finding.verdict not in (IDENTICAL, NOT_JUDGED))
    if verdict == DIFFERENT:
        first = next(finding for finding in found if finding.verdict == DIFFERENT)
        size = "" if first.largest is None else f": {first.largest:.3g} {first.unit}, {first.limit:g} is tolerated"
        return f"in {where} the first to differ by more than is tolerated is: {first.artefact}, {first.where}{size}"
    if environment:
        return "not the same to the bit, as is expected in another environment; all differences are within tolerance"
    return (
        f"not the same to the bit (first: {first.artefact}, {first.where}), though nothing on record of the environment differs: "
        "something in this run does not repeat"
    )

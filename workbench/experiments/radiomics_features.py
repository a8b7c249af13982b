"""Features of every case of a cohort, measured once: a cache beside the prepared arrays, one small JSON per case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.files import file_digest, read_json, value_digest, write_json
from workbench.models.radiomics.classifiers import AGE, FEMALE
from workbench.models.radiomics.features import case_features
from workbench.prepare.images import read_image
from workbench.prepare.resampling import resample_labels
from workbench.prepare.store import PreparedCase, PreparedCohort
from workbench.records.run_folder import TRAINING_FILE, RunFolder
from workbench.records.spec import EXTERNAL
from workbench.setup.progress import Progress

ALGORITHM = 1
"""Part of every cached case's name: raise it when `models.radiomics.features` gives other numbers for the same arrays."""


LABEL_SETS = {2: "WT", 4: "glioma", 5: "glioma_post"}
"""Classes of a segmenting network -> what its masks can tell apart."""


@dataclass(frozen=True)
class MaskSource:
    """Where the tumour of a case is taken from."""

    kind: str
    """truth, predicted or brain."""
    folder: Path | None = None
    """Where the predicted masks lie: `<case>.nii.gz`, canonical labels, native grid."""
    label_set: str = ""
    """What the predicted masks can tell apart."""

    def predicted_file(self, case: str) -> Path:
        """The predicted mask of a case.

        Raises:
            RunError: there is none.
        """
        assert self.folder is not None
        path = self.folder / f"{case}.nii.gz"
        if not path.is_file():
            raise RunError(f"case {case}: it has no predicted mask ({path} is missing)")
        return path


def mask_source(kind: str, run: str, runs: str, cohort: Cohort, fold: int) -> MaskSource:
    """The source that the options name.

    Raises:
        ParameterError: a run without `mask_source=predicted`, or the reverse; a run of another cohort or fold, whose held-out
            cases it may have been trained on; or one that is not evaluated or does not segment.
    """
    if kind != "predicted":
        if run:
            raise ParameterError(f"'mask_run' is {run}, but 'mask_source' is {kind}: set mask_source=predicted to use its masks")
        return MaskSource(kind)
    if not run:
        raise ParameterError("mask_source=predicted needs 'mask_run': a run as `workbench runs` lists it, experiment/run")
    opened = RunFolder.open(Path(runs) / run)
    if opened.spec["cohort"]["fingerprint"] != cohort.fingerprint():
        raise ParameterError(f"mask_run={run} is a run on cohort {opened.spec['cohort']['name']} as it was then, not on this one")
    if opened.spec["method"] == EXTERNAL:
        raise ParameterError(f"mask_run={run} holds imported predictions: what their model was trained on is not known here")
    if (tested := opened.spec["parameters"].get("fold")) != fold:
        raise ParameterError(
            f"mask_run={run} tested fold {tested}, not fold {fold}: it was trained on cases that are held out here"
        )
    if opened.metrics() is None or not any(opened.path("predictions").glob("*.nii.gz")):
        raise ParameterError(f"mask_run={run} holds no predicted masks: it is not evaluated yet, or does not segment")
    return predicted_masks(opened, opened.path("predictions"))


def predicted_masks(run: RunFolder, folder: Path) -> MaskSource:
    """The masks that a run predicted into a folder."""
    return MaskSource("predicted", folder, LABEL_SETS[int(read_json(run.path(TRAINING_FILE))["model"]["classes"])])


def measure(
    cohort: Cohort,
    prepared: PreparedCohort,
    cases: pd.DataFrame,
    modalities: tuple[str, ...],
    source: MaskSource,
    texture: bool,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Features of the given cases, measured or read from the cache: index = case, a column per feature, NaN = not measured.

    Args:
        cohort: the cohort, for its age and sex columns.
        prepared: its arrays.
        cases: rows of the cohort table.
        modalities: the sequences that are measured.
        source: where the tumour is taken from; a case without a mask has no tumour features.
        texture: measure texture.
        progress: where to say how far it is.
    """
    folder = prepared.folder / "radiomics"
    rows = list(cases.iterrows())
    items = rows if progress is None else progress.over(rows, "measuring features", len(rows))
    found = {}
    for _, row in items:
        case = prepared.case(row["case"])
        key = value_digest([ALGORITHM, case.folder.name, list(modalities), texture, *_mask_key(case, source)], 16)
        path = folder / f"{case.name}.{key}.json"
        if not path.is_file():
            write_json(path, _measure_case(case, modalities, source, texture))
        found[case.name] = read_json(path) | _clinical(row)
    return pd.DataFrame.from_dict(found, orient="index").sort_index(axis=1).astype(float)


def _measure_case(case: PreparedCase, modalities: tuple[str, ...], source: MaskSource, texture: bool) -> dict[str, float]:
    there = dict(zip(case.modalities, case.present, strict=True))
    labels, label_set = _mask(case, source)
    present = [there.get(name, False) for name in modalities]
    images, brain = case.images(modalities=modalities).astype(np.float32), case.brain()
    if source.kind != "brain" and labels is None:
        return {f"missing/{name}": float(not here) for name, here in zip(modalities, present, strict=True)}
    return case_features(images, present, modalities, brain, labels, label_set, float(case.grid.spacing[0]), textured=texture)


def _mask(case: PreparedCase, source: MaskSource) -> tuple[np.ndarray | None, str]:
    """Labels on the prepared grid and what they can tell apart; None: the case has no mask, or the brain is asked for."""
    if source.kind == "brain":
        return None, ""
    if source.kind == "truth":
        return case.labels(), case.label_set
    path = source.predicted_file(case.name)
    array, grid = read_image(path, case=case.name, channel="segmentation")
    return resample_labels(array.astype(np.uint8), grid, case.grid), source.label_set


def _mask_key(case: PreparedCase, source: MaskSource) -> list[str]:
    return [source.kind, file_digest(source.predicted_file(case.name)) if source.kind == "predicted" else ""]


def _clinical(row: pd.Series) -> dict[str, float]:
    age, sex = row.get("age"), row.get("sex")
    return {
        AGE: float("nan") if pd.isna(age) else float(age),
        FEMALE: float("nan") if pd.isna(sex) else float(sex == "F"),
    }

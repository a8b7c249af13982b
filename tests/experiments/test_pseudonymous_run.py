"""A run on a cohort with pseudonyms: no name of a case or subject is in any of its files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.experiments.experiment import Experiment
from workbench.setup.parameters import ExperimentParameters


def content(path: Path) -> bytes:
    """The bytes of a file, uncompressed where that is known how."""
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        return raw + pd.read_parquet(path).to_csv().encode()
    return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_name_reaches_a_run(tiny_cohort: Cohort, tmp_path: Path) -> None:
    known = tiny_cohort.cases[["case", "subject", "idh", "grade", "age"]]
    known.to_csv(tmp_path / "who.csv", index=False)
    cohort = import_cohort(
        "generic", tiny_cohort.folder / "images", tmp_path / "cohort", labels="brats2023", segmentation="*/*-seg.nii.gz",
        images={name: f"*/*-{name}.nii.gz" for name in tiny_cohort.modalities}, subjects=tmp_path / "who.csv", pseudonyms=True,
    )  # fmt: skip
    make_folds(cohort)
    values = {
        "size": "demo", "spacing": 4.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "maps": 1, "threads": 1,
        "width": 4, "levels": 3, "patch": 32, "subsets": "none", "cohort": str(cohort.folder), "runs": str(tmp_path / "runs"),
    }  # fmt: skip
    experiment = Experiment(ExperimentParameters.build("unet", values), progress=False)
    experiment.train().predict().evaluate()
    assert experiment.run.state == "completed"
    files = [path for folder in ("cohort", "runs") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert any(b"case-00" in content(path) for path in files if "runs" in path.parts)
    assert [path for path in files if "TINY" in str(path.relative_to(tmp_path)) or b"TINY" in content(path)] == []
    assert "TINY-00000-000" in (tmp_path / "cohort.key.csv").read_text()

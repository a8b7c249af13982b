"""Where the tumour is taken from, what is measured once, and features of real gliomas (labels of BraTS 2015)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.experiments import radiomics_features
from workbench.experiments.radiomics_features import MaskSource, mask_source, measure, predicted_masks
from workbench.files import write_json, write_parquet
from workbench.models.radiomics.classifiers import AGE, FEMALE
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import RunFolder
from workbench.records.spec import EXTERNAL

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def glioma(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    images = {name: f"*/{name}.nii.gz" for name in ("t1c", "flair")}
    return import_cohort(
        "generic", real_data / "glioma", tmp_path_factory.mktemp("glioma"), images=images, brain_mask="*/brainmask.nii.gz",
        segmentation="*/seg.nii.gz", labels="brats2015",
    )  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["truth", "brain"])
def test_real_tumours_have_finite_and_plausible_features(glioma: Cohort, kind: str) -> None:
    prepared = prepare_cohort(glioma, PrepareSettings(spacing=2.0), progress=False)
    table = measure(glioma, prepared, glioma.cases, ("t1", "t1c", "flair"), MaskSource(kind), True)
    image = table[[name for name in table.columns if not name.startswith("clinical/")]]
    assert np.isfinite(image).all(axis=None)  # all regions are there; the age is not known
    assert (image["missing/t1"] == 1).all()
    assert not [name for name in image if "/t1/" in name and not name.startswith("missing")]
    region = "WT" if kind == "truth" else "brain"
    low, high = (10, 300) if kind == "truth" else (1000, 1900)
    assert image[f"shape/{region}/volume"].between(low, high).all()
    assert image[f"shape/{region}/sphericity"].between(0.2, 1.0).all()
    if kind == "truth":
        # what the annotators called enhancing is brighter on T1c than the brain's mean, and oedema is bright on FLAIR
        assert (image["intensity/ET/t1c/mean"] > 0.5).all()
        assert (image["intensity/ED/flair/mean"] > 0.5).all()
        assert (image["shape/WT/volume"] > image["shape/ET/volume"]).all()
    else:
        assert image[f"intensity/{region}/t1c/mean"].abs().max() < 0.05


def masks_of(
    made_on: Cohort, root: Path, name: str = "abc", *, judged: bool = True, classes: int = 4, **changes: Any
) -> RunFolder:
    """A segmentation run of fold 0 with a predicted mask of one case."""
    known = {"name": "tiny", "fingerprint": made_on.fingerprint(), "phantom": True}
    spec = {"run": name, "method": "unet", "experiment": "masks", "parameters": {"fold": 0}, "cohort": known}
    run = RunFolder.create(root / "masks", spec | changes)
    write_json(run.path("training.json"), {"model": {"classes": classes}})
    run.path("predictions", "TINY-00000-000.nii.gz").write_bytes(b"mask")
    if judged:
        write_parquet(run.path("metrics.parquet"), pd.DataFrame({"case": []}))
    return run


def test_predicted_masks_come_from_a_run_that_did_not_learn_from_the_held_out_cases(tiny_cohort: Cohort, tmp_path: Path) -> None:
    def source(kind: str, run: str = "", fold: int = 0) -> MaskSource:
        return mask_source(kind, run, str(tmp_path), tiny_cohort, fold)

    run = masks_of(tiny_cohort, tmp_path)
    found = source("predicted", "masks/abc")
    assert (found.kind, found.folder, found.label_set) == ("predicted", run.folder / "predictions", "glioma")
    assert found.predicted_file("TINY-00000-000").read_bytes() == b"mask"
    with pytest.raises(RunError, match="case TINY-00001-000: it has no predicted mask"):
        found.predicted_file("TINY-00001-000")
    assert source("truth") == MaskSource("truth")
    with pytest.raises(ParameterError, match="set mask_source=predicted to use its masks"):
        source("truth", "masks/abc")
    with pytest.raises(ParameterError, match="needs 'mask_run'"):
        source("predicted")
    with pytest.raises(ParameterError, match="tested fold 0, not fold 1: it was trained on cases that are held out here"):
        source("predicted", "masks/abc", fold=1)
    masks_of(tiny_cohort, tmp_path, "other", cohort={"name": "theirs", "fingerprint": "0" * 16})
    with pytest.raises(ParameterError, match="on cohort theirs as it was then, not on this one"):
        source("predicted", "masks/other")
    masks_of(tiny_cohort, tmp_path, "imported", method=EXTERNAL, derived={"kind": "imported", "parents": []})
    with pytest.raises(ParameterError, match="what their model was trained on is not known"):
        source("predicted", "masks/imported")
    masks_of(tiny_cohort, tmp_path, "begun", judged=False)
    with pytest.raises(ParameterError, match="holds no predicted masks"):
        source("predicted", "masks/begun")


def test_what_masks_can_tell_apart_follows_from_the_networks_classes(tiny_cohort: Cohort, tmp_path: Path) -> None:
    for classes, label_set in ((2, "WT"), (4, "glioma"), (5, "glioma_post")):
        run = masks_of(tiny_cohort, tmp_path, str(classes), classes=classes)
        assert predicted_masks(run, run.folder).label_set == label_set


def test_a_case_is_measured_once_and_its_clinical_values_are_read_anew(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sequence, texture or source is another measurement."""
    measured: list[str] = []
    monkeypatch.setattr(radiomics_features, "_measure_case", lambda case, *_: measured.append(case.name) or {"x": 1.0})
    prepared: Any = SimpleNamespace(folder=tmp_path, case=lambda name: SimpleNamespace(name=name, folder=tmp_path / "digest"))
    rows = tiny_cohort.cases.head(2)

    def table(names: tuple[str, ...] = ("t1",), source: str = "truth", texture: bool = True, cases: pd.DataFrame = rows) -> Any:
        return measure(tiny_cohort, prepared, cases, names, MaskSource(source), texture)

    first = table()
    assert len(measured) == 2
    assert first[[AGE, FEMALE]].to_numpy().tolist() == [[40.0, 1.0], [41.0, 0.0]]
    older = table(cases=rows.assign(age=[70.0, None]))
    assert len(measured) == 2
    assert older.loc["TINY-00000-000", AGE] == 70
    assert np.isnan(older.loc["TINY-00001-000", AGE])
    for again in ({"names": ("t1", "t2")}, {"source": "brain"}, {"texture": False}):
        table(**again)  # type: ignore[arg-type]
    assert len(measured) == 8

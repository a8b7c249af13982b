"""Predictions as BIDS derivatives: names, side-cars and label tables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import InputError, RunError, WorkbenchError
from workbench.exchange.export_bids import bids_names, export_bids, mask_label_set
from workbench.exchange.imported_run import import_predictions
from workbench.files import read_json, write_json, write_parquet
from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="module")
def imported(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four cases' truth as predictions, with an IDH probability."""
    root = tmp_path_factory.mktemp("bids")
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.folder)})
    cohort = Cohort.create(root / "cohort", info, tiny_cohort.cases.iloc[[0, 1, 4, 5]])
    (root / "theirs").mkdir()
    for case in cohort.cases["case"]:
        (root / "theirs" / f"{case}.nii.gz").write_bytes(cohort.path(case, "segmentation").read_bytes())
    rows = [{"case": case, "marker": "idh", "probability": 0.25} for case in cohort.cases["case"]]
    pd.DataFrame(rows).to_csv(root / "idh.csv", index=False)
    return import_predictions(
        root / "theirs", cohort, "nnU-Net v2", labels="brats2023", probabilities=root / "idh.csv", runs=root / "runs",
        resamples=100, progress=False,
    )  # fmt: skip


NAME = re.compile(
    r"sub-(?P<s>[A-Za-z0-9]+)/(ses-(?P<t>[A-Za-z0-9]+)/)?anat/sub-(?P=s)(_ses-(?P=t))?_space-orig_desc-[A-Za-z0-9]+"
    r"_dseg\.(nii\.gz|json|tsv)"
)


def test_bids_names_and_side_cars(imported: RunFolder, tmp_path: Path) -> None:
    out = export_bids([imported.folder], tmp_path / "bids")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.parent != out)
    images = [name for name in files if not name.startswith("phenotype/")]
    assert len(images) == 4 * 3
    assert all(NAME.fullmatch(name) for name in images), images
    described = read_json(out / "dataset_description.json")
    assert {"Name", "BIDSVersion", "DatasetType", "GeneratedBy"} <= set(described)
    assert described["DatasetType"] == "derivative"
    desc = f"nnUNetv2{imported.folder.name[:6]}"
    stem = out / f"sub-TINY00000/anat/sub-TINY00000_space-orig_desc-{desc}_dseg"
    image = nib.load(f"{stem}.nii.gz")
    np.testing.assert_array_equal(image.dataobj, nib.load(imported.path("predictions", "TINY-00000-000.nii.gz")).dataobj)
    labels = pd.read_csv(f"{stem}.tsv", sep="\t", keep_default_na=False)
    assert labels.set_index("index")["abbreviation"].to_dict() == {0: "BG", 1: "NCR", 2: "ED", 3: "ET", 4: "RC"}
    whole = pd.read_csv(out / f"sub-TINY00004/anat/sub-TINY00004_space-orig_desc-{desc}_dseg.tsv", sep="\t")
    assert whole["name"].tolist() == ["background", "whole tumour"]
    assert read_json(Path(f"{stem}.json"))["SpatialReference"] == "orig"
    markers = pd.read_csv(out / "phenotype" / f"markers{desc}.tsv", sep="\t")
    assert markers["participant_id"].tolist() == ["sub-TINY00000", "sub-TINY00001", "sub-TINY00004", "sub-TINY00005"]
    assert set(markers["idh_mutant"]) == {0.25}
    names = pd.read_csv(out / "names.tsv", sep="\t").set_index("case")
    assert names.loc["TINY-00004-000", "subject"] == "TINY00004"
    assert "Phantom" in (out / "README").read_text()
    mask = next(out.rglob("*_dseg.nii.gz"))
    mask.write_bytes(b"corrected by hand")  # in place, as viewers save
    assert all(path.stat().st_nlink == 1 for path in imported.folder.joinpath("predictions").iterdir()), "the run's own stays"
    export_bids([imported.folder], out)  # again is the same
    assert pd.read_csv(out / "descriptions.tsv", sep="\t")["desc_id"].tolist() == [f"desc-{desc}"]


def test_bids_labels_are_those_that_the_model_tells_apart(imported: RunFolder, tmp_path: Path) -> None:
    """A whole-tumour model on a case whose truth has three labels, and a model of three on a whole-tumour case."""
    cohort = Cohort.open(imported.cohort_path)
    spec = {key: value for key, value in imported.spec.items() if key not in ("derived", "title")} | {"method": "unet"}
    found = {}
    for classes in (2, 4):
        copy = RunFolder.open(shutil.copytree(imported.folder, tmp_path / f"{classes}" / imported.folder.name))
        write_json(copy.path("training.json"), {"model": {"classes": classes}})
        for name, document in (("trained", spec), ("imported", imported.spec)):
            labels = {2: "whole_tumour", 4: "brats2023"}[classes]
            write_json(copy.path("spec.json"), document | {"parameters": {"labels": labels}})
            for case in ("TINY-00000-000", "TINY-00004-000"):
                found[name, classes, case[8:10]] = mask_label_set(RunFolder.open(copy.folder), cohort, case)
    assert found == {
        ("trained", 2, "00"): "WT", ("trained", 2, "04"): "WT", ("trained", 4, "00"): "glioma", ("trained", 4, "04"): "glioma",
        ("imported", 2, "00"): "WT", ("imported", 2, "04"): "WT", ("imported", 4, "00"): "glioma", ("imported", 4, "04"): "WT",
    }  # fmt: skip


def test_bids_of_a_run_of_markers_lists_no_participants_without_a_folder(imported: RunFolder, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(imported.folder, imported.folder.parents[1] / "markers" / imported.folder.name))
    shutil.rmtree(run.path("predictions"))
    out = export_bids([run.folder], tmp_path / "bids")
    assert not (out / "participants.tsv").exists(), "its rows have to be the folders: PARTICIPANT_ID_MISMATCH"
    assert len(pd.read_csv(next(out.glob("phenotype/*.tsv")), sep="\t")) == 4
    export_bids([imported.folder], out)
    assert len(pd.read_csv(out / "participants.tsv", sep="\t")) == 4


def test_bids_refuses_what_it_would_spoil(imported: RunFolder, runs: list[RunFolder], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WorkbenchError, match="not empty"):
        export_bids([imported.folder], tmp_path)
    with pytest.raises(RunError, match="different cohorts"):
        export_bids([imported.folder, runs[0].folder], tmp_path / "bids")
    with pytest.raises(RunError, match="cohort cannot be read"):
        export_bids([runs[0].folder], tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_bids_labels_tell_subjects_and_sessions_apart() -> None:
    def table(*rows: tuple[str, str, object]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["case", "subject", "timepoint"])

    found = bids_names(table(("P-1_a", "P-1", "pre op"), ("P-1_b", "P-1", "2"), ("P-2_a", "P-2", None)))
    assert found["subject"].tolist() == ["P1", "P1", "P2"]
    assert found["session"].tolist() == ["preop", "2", "01"]
    assert bids_names(table(("a", "A-1", "0")))["session"].tolist() == [""], "one case each: no sessions"
    with pytest.raises(InputError, match="subjects A-1, a1 would all be 'sub-a1'"):
        bids_names(table(("x", "A-1", None), ("y", "a1", None)))
    with pytest.raises(InputError, match="cases x, y of one subject"):
        bids_names(table(("x", "A", "t.1"), ("y", "A", "t1")))
    with pytest.raises(InputError, match="neither letters nor digits"):
        bids_names(table(("x", "--", None)))


def test_a_run_without_predictions_is_not_exported_as_masks(imported: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder.open(shutil.copytree(imported.folder, imported.folder.parents[1] / "other" / imported.folder.name))
    shutil.rmtree(copy.path("predictions"))
    copy.path("artefacts.json").unlink()  # with its record the other table would be refused
    write_parquet(copy.path("markers.parquet"), copy.markers().head(0))
    with pytest.raises(RunError, match="neither predicted masks nor marker"):
        export_bids([copy.folder], tmp_path / "bids")

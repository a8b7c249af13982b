from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from workbench.cohort.readers import READERS, import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError, WorkbenchError


def images(folder: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.full((3, 4, 5), index, np.uint8), np.diag([-2.0, -2, 3, 1])), path)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return images(tmp_path / "images", "p1/t1.nii.gz", "p1/seg.nii.gz", "p2/t1.nii.gz", "p2/flair.nii.gz")


def test_generic_import_round_trip(source: Path, tmp_path: Path) -> None:
    (tmp_path / "who.csv").write_text("case,subject,site,idh,age\np1,007,north,mutant,50\np2,007,outer,,\n")
    cohort = import_cohort(
        "generic", source, tmp_path / "deep" / "cohort", images={"flair": "*/flair.nii.gz", "t1": "*/t1.nii.gz"},
        segmentation="*/seg.nii.gz", subjects=tmp_path / "who.csv", labels="brats2021", external_sites=("outer",), name="both",
    )  # fmt: skip
    again = Cohort.open(tmp_path / "deep" / "cohort")
    assert again.info == cohort.info
    assert again.cases.equals(cohort.cases)
    assert again.info.name == "both"
    assert again.modalities == ("flair", "t1")
    assert again.info.image_root == "../../images"
    assert again.info.external_sites == ("outer",)
    assert again.row("p1")["subject"] == "007"
    assert again.present("p1") == ("t1",)
    assert again.path("p1", "segmentation").is_file()  # type: ignore[union-attr]
    assert again.row("p1")["labels"] == "glioma"
    assert again.cases["age"].isna().tolist() == [False, True]
    assert sorted(path.name for path in (tmp_path / "deep").rglob("*")) == ["cases.parquet", "cohort", "cohort.json"]


def test_images_and_cohort_may_move_together(source: Path, tmp_path: Path) -> None:
    import_cohort("generic", source, tmp_path / "cohort", images={"t1": "*/t1.nii.gz"})
    (tmp_path / "elsewhere").mkdir()
    for name in ("images", "cohort"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert Cohort.open(tmp_path / "elsewhere" / "cohort").path("p2", "t1").is_file()  # type: ignore[union-attr]


def test_a_cohort_may_lie_among_its_images(source: Path) -> None:
    cohort = import_cohort("generic", source, source, images={"t1": "*/t1.nii.gz"})
    assert cohort.info.image_root == "."
    assert cohort.path("p1", "t1").is_file()  # type: ignore[union-attr]


def test_overwrite_only_when_told(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    import_cohort("generic", source, out, images={"t1": "*/t1.nii.gz"})
    (out / "folds.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    before = (out / "cohort.json").read_bytes()
    with pytest.raises(WorkbenchError, match="already holds a cohort"):
        import_cohort("generic", source, out, images={"flair": "*/flair.nii.gz"})
    assert (out / "cohort.json").read_bytes() == before
    with pytest.raises(InputError):  # an import that fails leaves the old cohort as it was
        import_cohort("generic", source, out, images={"t9": "*/t9.nii.gz"}, overwrite=True)
    assert (out / "cohort.json").read_bytes() == before
    replaced = import_cohort("generic", source, out, images={"flair": "*/flair.nii.gz"}, overwrite=True)
    assert replaced.modalities == ("flair",)
    assert sorted(path.name for path in out.iterdir()) == ["cases.parquet", "cohort.json", "notes.txt"]


def test_an_error_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.cohort.table.write_json", full)
    with pytest.raises(WorkbenchError, match="No space left"):
        import_cohort("generic", source, tmp_path / "cohort", images={"t1": "*/t1.nii.gz"})
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "brats"}, "reader 'brats' is unknown"),
        ({"labels": "brats1999"}, "label convention 'brats1999' is unknown"),
        ({"segmentation": "*/seg.nii.gz"}, "label convention"),
        ({"reader": "brats2023"}, "takes no globs"),
        ({"external_sites": ("mars",)}, "external site 'mars'"),
        ({"source": Path("nowhere")}, "does not exist"),
    ],
)
def test_bad_options(source: Path, tmp_path: Path, options: dict, message: str) -> None:
    arguments = {"reader": "generic", "source": source, "out": tmp_path / "cohort", "images": {"t1": "*/t1.nii.gz"}} | options
    with pytest.raises(WorkbenchError, match=message):
        import_cohort(arguments.pop("reader"), arguments.pop("source"), arguments.pop("out"), **arguments)
    assert not (tmp_path / "cohort").exists()


def test_auto_recognises_or_says_what_it_saw(source: Path, tmp_path: Path) -> None:
    new = images(tmp_path / "new", "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1c.nii.gz")
    old = images(tmp_path / "old", "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz", "BraTS2021_00001/BraTS2021_00001_seg.nii.gz")
    assert import_cohort("auto", new, tmp_path / "a").info.label_convention == "brats2023"
    assert import_cohort("auto", old, tmp_path / "b").row("BraTS2021_00001")["labels"] == "glioma"
    assert import_cohort("auto", source, tmp_path / "c", images={"t1": "*/t1.nii.gz"}).modalities == ("t1",)
    with pytest.raises(
        InputError, match=r"4 NIfTI files, such as p1/seg\.nii\.gz.*none is named as by brats2021 or by brats2023"
    ):
        import_cohort("auto", source, tmp_path / "d")
    with pytest.raises(InputError, match=r"brats2021 \(2\) and by brats2023 \(1\)"):
        import_cohort("auto", images(old, "x-001/x-001-t1n.nii.gz"), tmp_path / "e")


def test_brats_2023_with_subject_data_and_another_convention(tmp_path: Path) -> None:
    case = "BraTS-GLI-00005-100"
    folder = images(tmp_path / "i", f"{case}/{case}-t1n.nii.gz", f"{case}/{case}-seg.nii.gz")
    (tmp_path / "s.csv").write_text("BraTS Subject ID,Site ,Patient's Sex\nBraTS-GLI-00005,UCSF,Male\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cohort = import_cohort("brats2023", folder, tmp_path / "c", subjects=tmp_path / "s.csv", labels="brats2024")
    row = cohort.row(case)
    assert (row["subject"], row["timepoint"], row["site"], row["sex"]) == ("BraTS-GLI-00005", "100", "UCSF", "M")
    assert row["labels"] == "glioma_post"


def test_remarks_become_warnings(source: Path, tmp_path: Path) -> None:
    images(source, "p1/t1_b.nii.gz")
    with pytest.warns(UserWarning, match="several files fit one place in 1 cases.*p1"):
        cohort = import_cohort("generic", source, tmp_path / "cohort", images={"t1": "*/t1*.nii.gz"})
    assert cohort.row("p1")["repeats"] == "t1=p1/t1_b.nii.gz"


def test_readers_are_registered() -> None:
    assert {"generic", "brats2021", "brats2023"} <= set(READERS)
    assert all(name == reader.name and reader.title for name, reader in READERS.items())
    with pytest.raises(ParameterError, match="auto, generic, brats2021, brats2023"):
        import_cohort("nonsense", Path(), Path("nothing"))


@pytest.mark.real_data
def test_real_folders(real_data: Path, tmp_path: Path) -> None:
    def modalities(*names: str) -> dict[str, str]:
        return {name: f"*/{name}.nii.gz" for name in names}

    glioma = import_cohort(
        "generic", real_data / "glioma", tmp_path / "glioma", images=modalities("t1c", "flair"),
        brain_mask="*/brainmask.nii.gz", segmentation="*/seg.nii.gz", labels="brats2015",
    )  # fmt: skip
    assert glioma.cases["case"].tolist() == [f"brats_2013_pat000{n}_1" for n in (1, 2, 4)]
    assert glioma.cases[["t1c", "flair", "brain_mask", "segmentation"]].notna().all(axis=None)
    with pytest.warns(UserWarning, match="7 = patient07"):
        ms = import_cohort(
            "generic", real_data / "ms", tmp_path / "ms", images=modalities("t1", "t1c", "t2", "flair"),
            segmentation="*/seg.nii.gz", labels="lesion", subjects=real_data / "ms" / "patient_info.csv",
        )  # fmt: skip
    assert ms.row("patient07")["age"] == 53
    assert ms.cases["sex"].tolist() == ["F", "F"]
    with pytest.raises(InputError, match="patient07/flair"):
        import_cohort("auto", real_data / "ms", tmp_path / "auto")
    for cohort in (glioma, ms):
        assert all(cohort.path(case, "flair").is_file() for case in cohort.cases["case"])  # type: ignore[union-attr]

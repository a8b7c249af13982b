"""One cohort from several: nothing lost, nobody merged, masks read as they were drawn or as one class."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from workbench.cli import app
from workbench.cohort.check import check_cohort
from workbench.cohort.folds import make_folds
from workbench.cohort.merge import merge_cohorts, names_in_merges
from workbench.cohort.readers import import_cohort
from workbench.cohort.show import fingerprint_tables, tumour_volumes
from workbench.cohort.table import CASES_FILE, Cohort, CohortInfo
from workbench.errors import InputError, ParameterError, WorkbenchError
from workbench.models.seen import Seen, seen_cohort
from workbench.prepare.images import native_labels
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.setup.contamination import judge

SHAPE = (20, 24, 18)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def make(folder: Path, name: str, modalities: tuple[str, ...], convention: str, values: tuple[int, ...], **columns) -> Cohort:
    """Two subjects named alike in all cohorts; each mask value fills 8 voxels."""
    rng = np.random.default_rng(list(name.encode()))
    rows = []
    for shift, case in enumerate(("p0", "p1")):
        row: dict[str, object] = {"case": case, "subject": case}
        for modality in modalities:
            image = rng.normal(100, 10, SHAPE).astype(np.float32)
            image[:4] = 0
            row[modality] = f"{case}/{modality}.nii.gz"
            (folder / "images" / case).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(image, AFFINE), folder / "images" / row[modality])
        mask = np.zeros(SHAPE, np.uint8)
        for place, value in enumerate(values):
            mask[8 + shift : 10 + shift, 8:10, 2 * place : 2 * place + 2] = value
        row["segmentation"] = f"{case}/seg.nii.gz"
        nib.save(nib.Nifti1Image(mask, AFFINE), folder / "images" / row["segmentation"])
        rows.append(row)
    info = CohortInfo(name=name, modalities=modalities, label_convention=convention, image_root="images")
    return Cohort.create(folder, info, pd.DataFrame(rows).assign(**columns))


@pytest.fixture
def cohorts(tmp_path: Path) -> tuple[Cohort, Cohort]:
    glioma = make(
        tmp_path / "a" / "tumours", "tumours", ("t1c", "flair"), "brats2024", (1, 2, 3, 4), site="north", lesion="glioma"
    )
    ms = make(tmp_path / "b" / "plaques", "plaques", ("flair", "t2", "swi2"), "lesion", (1,), site=["north", "south"])
    return glioma, ms


def test_detailed_tumour_masks_say_that_their_cases_are_gliomas(tmp_path: Path) -> None:
    glioma = make(tmp_path / "a" / "tumours", "tumours", ("flair",), "brats2024", (1, 2, 3, 4), site="north")
    other = make(tmp_path / "b" / "plaques", "plaques", ("flair",), "lesion", (1,), site="south")
    with pytest.warns(UserWarning, match="subject names"):
        made = merge_cohorts([glioma.folder, other.folder], tmp_path / "out", labels="lesion")
    assert list(made.cases["lesion"].fillna("unknown")) == ["glioma"] * 2 + ["unknown"] * 2


def test_nothing_is_lost_and_nobody_is_merged(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="2 subject names occur in several cohorts"):
        made = merge_cohorts([c.folder for c in cohorts], tmp_path / "out", lesions={"plaques": "ms"})
    cases = Cohort.open(made.folder).cases.set_index("case")
    assert list(cases.index) == ["tumours-p0", "tumours-p1", "plaques-p0", "plaques-p1"]
    assert cases["subject"].is_unique
    assert list(cases["site"]) == ["tumours-north", "tumours-north", "plaques-north", "south"]
    assert list(cases["dataset"]) == ["tumours"] * 2 + ["plaques"] * 2
    assert list(cases["lesion"]) == ["glioma"] * 2 + ["ms"] * 2
    assert list(cases["label_convention"]) == ["brats2024"] * 2 + ["lesion"] * 2
    assert list(cases["labels"]) == ["glioma_post"] * 2 + ["lesion"] * 2
    assert made.modalities == ("t1c", "t2", "flair", "swi2")
    assert made.present("tumours-p0") == ("t1c", "flair")
    assert not Path(made.info.image_root).is_absolute()
    for dataset, cohort in zip(("tumours", "plaques"), cohorts, strict=True):
        for column in (*cohort.modalities, "segmentation"):
            assert made.path(f"{dataset}-p1", column).samefile(cohort.path("p1", column))
    assert check_cohort(made) == []


def test_a_subject_that_weights_have_seen_is_found_under_its_merged_name(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    """p0 of one cohort is tumours-p0 in the merged one, and is not plaques-p0."""
    tumours, plaques = cohorts
    merged = merge_cohorts([tumours.folder, plaques.folder], tmp_path / "all", labels="lesion")

    def seen(cohort: Cohort, subject: str) -> Seen:
        names = [subject, names_in_merges(cohort)[subject]]
        return Seen(cohorts=(seen_cohort(cohort.info.name, "f", ("private",), names),))

    def verdict(before: Seen, cohort: Cohort, subject: str) -> str:
        info = cohort.info.model_copy(update={"collections": ("private",)})
        return judge(before, info, [subject], names_in_merges(cohort)).verdict

    assert verdict(seen(tumours, "p0"), merged, "tumours-p0") == "contaminated"
    assert verdict(seen(merged, "tumours-p0"), tumours, "p0") == "contaminated"
    assert verdict(seen(tumours, "p0"), merged, "plaques-p0") == "clean"
    assert verdict(seen(merged, "tumours-p0"), merged, "plaques-p0") == "clean"
    assert verdict(seen(merged, "tumours-p0"), plaques, "p0") == "clean"


def test_masks_are_read_as_drawn_or_as_one_class(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    folders = [c.folder for c in cohorts]
    with pytest.warns(UserWarning, match="subject names"):
        as_drawn = merge_cohorts(folders, tmp_path / "drawn")
    with pytest.warns(UserWarning, match="subject names"):
        merged = merge_cohorts(folders, tmp_path / "one", labels="lesion")
    assert set(np.unique(native_labels(as_drawn, "tumours-p0"))) == {0, 1, 2, 3, 4}
    assert (merged.cases["labels"] == "lesion").all()
    labels = native_labels(merged, "tumours-p0")
    assert set(np.unique(labels)) == {0, 1}
    assert (labels == 1).sum() == 24  # core, oedema and enhancing; the cavity is background
    assert (native_labels(merged, "plaques-p0") == 1).sum() == 8
    assert check_cohort(merged) == []
    volumes = tumour_volumes(merged).groupby("case")["ml"].sum()
    assert volumes["tumours-p0"] == pytest.approx(24 * 0.064)
    prepared = prepare_cohort(merged, PrepareSettings(spacing=4.0), progress=False)
    assert prepared.case("tumours-p0").label_set == "lesion"
    assert as_drawn.fingerprint() != merged.fingerprint()


def test_a_changed_convention_prepares_that_case_anew(cohorts: tuple[Cohort, Cohort]) -> None:
    glioma = cohorts[0]

    def entries(cohort: Cohort) -> dict[str, str]:
        folder = prepare_cohort(cohort, PrepareSettings(spacing=4.0), progress=False).folder
        return json.loads((folder / "prepared.json").read_text())["entries"]

    before = entries(glioma)
    after = entries(Cohort(glioma.folder, glioma.info, glioma.cases.assign(label_convention=["canonical", None])))
    assert before["p0"] != after["p0"]
    assert before["p1"] == after["p1"]


def test_unused_columns_change_neither_file_nor_fingerprint(cohorts: tuple[Cohort, Cohort]) -> None:
    ms = cohorts[1]
    written = pd.read_parquet(ms.folder / CASES_FILE).columns
    assert not {"dataset", "lesion", "label_convention"} & set(written)
    # what this very table had before there were such columns
    older = ms.cases.drop(columns=["dataset", "lesion", "label_convention"])
    assert Cohort.create(ms.folder, ms.info, older).fingerprint() == ms.fingerprint()
    named = Cohort(ms.folder, ms.info, ms.cases.assign(lesion=pd.array(["ms", "ms"], dtype="string")))
    assert named.fingerprint() != ms.fingerprint()


def test_external_sites_folds_and_tables_follow(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    glioma, ms = cohorts
    held = ms.info.model_copy(update={"external_sites": ("north",), "phantom": True, "collections": ("private",)})
    Cohort.create(ms.folder, held, ms.cases)
    with pytest.warns(UserWarning, match="subject names"), pytest.warns(UserWarning, match="north is external in one cohort"):
        made = merge_cohorts([glioma.folder, ms.folder], tmp_path / "out")
    assert made.info.external_sites == ("plaques-north",)
    assert made.info.phantom
    assert made.info.collections == ()  # only one of the two said what it is made of
    with pytest.warns(UserWarning, match="fold"):
        folds = make_folds(made)
    assert folds.external == ("plaques-p0",)
    groups = fingerprint_tables(made)["groups"]
    assert list(groups.columns) == ["dataset", "lesion", "site", "cases", "subjects"]
    assert groups["cases"].sum() == 4
    assert "groups" not in fingerprint_tables(Cohort.open(cohorts[1].folder))


def test_shared_patients_are_told(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    for cohort, collection in zip(cohorts, ("brats2021", "tcga-gbm"), strict=True):
        Cohort.create(cohort.folder, cohort.info.model_copy(update={"collections": (collection,)}), cohort.cases)
    with pytest.warns(UserWarning, match="may hold the same patients under two names"):
        merge_cohorts([c.folder for c in cohorts], tmp_path / "out")


def test_mistakes_are_named_and_nothing_is_written(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    a, b = (c.folder for c in cohorts)
    out, twin = tmp_path / "out", tmp_path / "twin"
    Cohort.create(twin, cohorts[0].info, cohorts[0].cases)
    for folders, options, message in (
        ([a], {}, "two or more cohorts, 1 given"),
        ([a, a], {}, "is given twice"),
        ([a, twin], {}, "both named 'tumours'.*workbench cohort filter"),
        ([a, b], {"labels": "glioma"}, "--labels glioma: the masks can be read as WT or lesion"),
        ([a, b], {"lesions": {"plaque": "ms"}}, "--lesion plaque: no such dataset; there are tumours, plaques"),
    ):
        with pytest.raises(ParameterError, match=message):
            merge_cohorts(folders, out, **options)
    with pytest.raises(WorkbenchError, match="is not a cohort"):
        merge_cohorts([a, tmp_path / "nothing"], out)
    with pytest.raises(WorkbenchError, match="already holds a cohort"):
        merge_cohorts([a, b], a)
    assert not out.exists()
    with pytest.raises(InputError, match="label convention 'brats1999' is unknown"):
        Cohort.create(out, cohorts[0].info, cohorts[0].cases.assign(label_convention="brats1999"))


def test_a_prefix_never_makes_two_subjects_one(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    glioma, ms = cohorts
    Cohort.create(ms.folder, ms.info, ms.cases.assign(subject=["p0", "tumours-p0"]))
    with pytest.raises(ParameterError, match="the subject 'tumours-p0' would stand for two"):
        merge_cohorts([glioma.folder, ms.folder], tmp_path / "out")


def test_import_fills_the_kind_of_lesion_and_the_command_merges(cohorts: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    ms = cohorts[1]
    (tmp_path / "people.csv").write_text("subject,lesion\np0,rim\np1,\n")
    read = import_cohort(
        "generic", ms.folder / "images", tmp_path / "read", images={"flair": "*/flair.nii.gz"}, lesion="ms",
        subjects=tmp_path / "people.csv",
    )  # fmt: skip
    assert list(read.cases["lesion"]) == ["rim", "ms"]
    merge = ["cohort", "merge", str(cohorts[0].folder), str(read.folder), "--out", str(tmp_path / "c"), "--labels", "lesion"]
    with pytest.warns(UserWarning, match="subject names"):
        run = CliRunner().invoke(app, merge)
    assert run.exit_code == 0, run.output
    shown = CliRunner().invoke(app, ["cohort", "show", str(tmp_path / "c"), "--json"])
    groups = json.loads(shown.stdout)["groups"]
    assert {(row["dataset"], row["lesion"]) for row in groups} == {("tumours", "glioma"), ("read", "rim"), ("read", "ms")}

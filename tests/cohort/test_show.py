from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.readers import import_cohort
from workbench.cohort.show import fingerprint_tables, tumour_class, tumour_volumes
from workbench.cohort.table import Cohort


def test_tables_of_the_tiny_cohort(tiny_cohort: Cohort) -> None:
    tables = fingerprint_tables(tiny_cohort, volumes=True)
    summary = tables["summary"].set_index("what")["value"]
    assert summary["cohort"] == "tiny (phantom)"
    assert (summary["cases"], summary["segmentations"], summary["cases with all modalities"]) == ("12", "11", "10")
    markers = tables["markers"]
    assert (markers.groupby("marker")["subjects"].sum() == 12).all()
    north = markers[(markers["site"] == "north") & (markers["marker"] == "idh")].set_index("class")["subjects"]
    assert north.to_dict() == {"mutant": 4, "wild type": 4}
    assert set(markers[markers["marker"] == "tert"]["class"]) == {"unknown"}
    availability = tables["availability"].set_index("site")
    assert availability.loc["north", ["cases", "flair", "t2", "segmentation"]].tolist() == [8, 7, 7, 8]
    assert availability.loc["south", ["cases", "t1", "segmentation", "brain_mask"]].tolist() == [4, 4, 3, 0]
    sequences = tables["sequences"].set_index("sequences")["cases"]
    assert sequences.to_dict() == {"t1+t1c+t2+flair": 10, "t1+t1c+t2": 1, "t1+t1c+flair": 1}
    geometry = tables["geometry"].set_index("modality")
    assert geometry.loc["t1"].tolist() == ["36 x 44 x 30", "4 x 4 x 5", "LPS", 12]
    assert geometry.loc["flair", "cases"] == 11
    age = tables["age"].set_index("class")
    assert age.loc["IDH-wildtype", ["subjects", "mean", "female"]].tolist() == [6, 45.0, 6]
    assert age["subjects"].sum() == 12


def test_volumes_follow_the_label_set(tiny_cohort: Cohort) -> None:
    volumes = tumour_volumes(tiny_cohort).set_index(["case", "region"])["ml"]
    case = volumes.loc["TINY-00000-000"]
    assert case["WT"] == pytest.approx(case["NCR"] + case["ED"] + case["ET"])
    assert case["WT"] > 20
    assert list(volumes.loc["TINY-00004-000"].index) == ["WT"]
    assert "TINY-00003-000" not in volumes.index.get_level_values(0)


def test_classes_say_no_more_than_the_markers() -> None:
    frame = pd.DataFrame({"idh": [0, 1, 1, 1, None], "codel": [None, 0, 1, None, 1]}, dtype="Int8")
    assert tumour_class(frame).tolist() == [
        "IDH-wildtype", "astrocytoma, IDH-mutant", "oligodendroglioma, IDH-mutant and co-deleted",
        "IDH-mutant, 1p/19q unknown", "unknown",
    ]  # fmt: skip


def test_unreadable_files_are_left_out(tiny_cohort: Cohort, tmp_path: Path) -> None:
    info = tiny_cohort.info.model_copy(update={"image_root": str(tmp_path / "gone")})
    cohort = Cohort(tiny_cohort.folder, info, tiny_cohort.cases)
    tables = fingerprint_tables(cohort, volumes=True)
    assert tables["geometry"].empty
    assert tables["volumes"].empty
    assert not tables["markers"].empty


@pytest.mark.real_data
def test_real_volumes_agree_with_what_is_known_of_the_cases(real_data: Path, tmp_path: Path) -> None:
    cohort = import_cohort(
        "generic", real_data / "ms", tmp_path / "ms", images={"t1": "*/t1.nii.gz"}, segmentation="*/seg.nii.gz", labels="lesion"
    )
    assert tumour_volumes(cohort)["ml"].round(1).tolist() == [1.3, 49.8]
    assert fingerprint_tables(cohort)["geometry"].to_dict("records") == [
        {"modality": "t1", "shape": "182 x 218 x 182", "spacing": "1 x 1 x 1", "orientation": "LAS", "cases": 2}
    ]

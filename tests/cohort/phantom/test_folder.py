"""A phantom's folder on disk: marked with its settings, a case whole or not there, the same bytes for the same array."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from workbench.cohort.check import check_cohort
from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.folder import (
    ANATOMY,
    GENERATOR,
    check_numbers,
    claim,
    complete,
    facts_path,
    open_finished,
    write_case,
    write_image,
)
from workbench.cohort.phantom.subject import Case
from workbench.cohort.show import fingerprint_tables
from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import ParameterError, WorkbenchError
from workbench.files import read_json, write_json
from workbench.geometry import Grid

BOX = Box((3, 4, 5), 2.0, (-10.0, 20.0, 5.0))
LABELS = np.arange(60, dtype=np.uint8).reshape(BOX.shape)


def case(**facts: object) -> Case:
    images = {"t1": LABELS.astype(np.int16), "adc": LABELS.astype(np.int16)}
    found = {"sequences": "t1+adc", **facts}
    return Case(BOX, images, LABELS, LABELS, None if "kind" in facts else LABELS, found)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1, 0.9, 0, 1), "--spacing 0.9"),
        ((0, 1, 0, 1), "--subjects 0: must be a whole number from 1 to 99999"),
        ((True, 1, 0, 1), "--subjects True"),
        ((1, 1, 0.5, 1), "--seed 0.5"),
        ((1, 1, 0, 257), "--workers 257"),
    ],
)
def test_numbers_that_make_no_phantom_are_named(numbers: tuple, message: str) -> None:
    check_numbers(99999, 4.0, 2**62, 256)
    with pytest.raises(ParameterError, match=message):
        check_numbers(*numbers)


def test_a_folder_belongs_to_the_settings_it_is_marked_with(tmp_path: Path) -> None:
    claim(tmp_path / "new", {"seed": 0, "options": {"a": 1, "b": {}}})
    claim(tmp_path / "new", {"options": {"b": {}, "a": 1}, "seed": 0})
    with pytest.raises(ParameterError, match=r"options\.a is 1 there, asked is 2; spacing is None there, asked is 3"):
        claim(tmp_path / "new", {"seed": 0, "options": {"a": 2, "b": {}}, "spacing": 3})
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match="is a file"):
        claim(tmp_path / "file", {})
    (tmp_path / "cases.parquet").touch()
    with pytest.raises(WorkbenchError, match="holds another cohort"):
        claim(tmp_path, {})


def test_what_an_older_generator_finished_is_left_and_said(tmp_path: Path) -> None:
    asked = {"generator": GENERATOR, "subjects": 2, "options": {"male": 0.5}}
    older = asked | {"generator": 1, "anatomy": ANATOMY}
    write_json(tmp_path / "begun" / "phantom.json", older)
    with pytest.raises(ParameterError, match="generator 1 began; this is 2"):
        claim(tmp_path / "begun", asked)
    write_json(tmp_path / "done" / "phantom.json", older)
    info = CohortInfo(name="phantom", modalities=("t1",), phantom=True)
    rows = pd.DataFrame({"case": ["A-000"], "subject": ["A"], "timepoint": ["000"], "t1": ["t1.nii.gz"]})
    cohort = Cohort.create(tmp_path / "done", info, rows)
    assert claim(tmp_path / "done", asked) == 1
    with pytest.raises(ParameterError, match=r"options\.male is 0\.5 there, asked is 0\.6"):
        claim(tmp_path / "done", asked | {"options": {"male": 0.6}})
    with pytest.warns(UserWarning, match="generator 1 made the phantom.*IDH can be read from it"):
        assert len(open_finished(tmp_path / "done", 1)) == 1
    assert read_json(tmp_path / "done" / "phantom.json") == older
    assert cohort.generator == 1
    shown = fingerprint_tables(cohort)["summary"].set_index("what")["value"]
    assert "IDH can be read" in shown["phantom's generator"]
    warned = [problem for problem in check_cohort(cohort) if problem.severity == "warning"]
    assert any("generator 1 made this phantom" in problem.message for problem in warned)
    write_json(tmp_path / "done" / "phantom.json", older | {"generator": GENERATOR})
    assert fingerprint_tables(cohort)["summary"].set_index("what")["value"]["phantom's generator"] == str(GENERATOR)
    assert not any("generator" in problem.message for problem in check_cohort(cohort))


def test_the_notice_of_the_templates_goes_with_every_phantom_and_with_the_package(tmp_path: Path) -> None:
    claim(tmp_path / "new", {"seed": 0})
    assert read_json(tmp_path / "new" / "phantom.json") == {"seed": 0, "anatomy": ANATOMY}
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / "phantom.json", {"seed": 0})
    claim(tmp_path / "old", {"seed": 0})  # made before: not refused, and the notice is put in
    assert read_json(tmp_path / "old" / "phantom.json")["anatomy"] == ANATOMY
    root = Path(__file__).parents[3]
    assert str(ANATOMY["notice"]) in " ".join((root / "LICENSE").read_text(encoding="utf-8").split())
    assert str(ANATOMY["notice"]).split(". ")[0] in " ".join((root / "README.md").read_text(encoding="utf-8").split())
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert [(paper["authors"][0]["family-names"], paper["year"]) for paper in cited] == [("Fonov", 2011), ("Fonov", 2009)]


def test_an_image_lies_where_its_box_does_and_has_no_time_stamp(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_image(tmp_path / f"{name}.nii.gz", LABELS, BOX.affine(), BOX)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()
    image = nib.load(tmp_path / "one.nii.gz")
    assert Grid.of(image).orientation == "LPS"
    back = nib.as_closest_canonical(image)
    assert np.array_equal(np.asarray(back.dataobj), LABELS)
    assert np.allclose(back.affine, BOX.affine())
    assert image.header["qform_code"] == image.header["sform_code"] == 1


def test_a_slope_turns_bytes_into_fractions(tmp_path: Path) -> None:
    write_image(tmp_path / "u.nii.gz", LABELS, BOX.affine(), BOX, 1 / 255)
    image = nib.as_closest_canonical(nib.load(tmp_path / "u.nii.gz"))
    assert image.get_fdata() == pytest.approx(LABELS / 255, abs=1e-6)
    assert nib.load(tmp_path / "u.nii.gz").header.get_data_dtype() == np.uint8


def test_a_case_is_whole_only_with_all_its_files(tmp_path: Path) -> None:
    assert not complete(tmp_path, "a")
    write_case(tmp_path, "a", case(), LABELS)
    assert complete(tmp_path, "a")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [
        "a-adc.nii.gz", "a-labels.nii.gz", "a-seg.nii.gz", "a-t1n.nii.gz", "a-u.nii.gz", "a.json",
    ]  # fmt: skip
    for path in files:
        kept = path.read_bytes()
        path.unlink()
        assert not complete(tmp_path, "a"), path.name
        path.write_bytes(kept)
    write_json(facts_path(tmp_path, "a"), {"sequences": "t1+flair"})
    assert not complete(tmp_path, "a"), "a sequence that was acquired is lost"
    facts_path(tmp_path, "a").write_text("{")
    assert not complete(tmp_path, "a")


def test_other_lesions_have_no_concentration(tmp_path: Path) -> None:
    write_case(tmp_path, "b", case(kind="ms"), LABELS)
    assert complete(tmp_path, "b")
    assert not (tmp_path / "truth" / "b-u.nii.gz").exists()

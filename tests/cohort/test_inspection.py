"""What can be wrong with the files of one case: each thing is named with its place, and hides nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import AFFINE, edit, edit_table, put, shifted

from workbench.cohort.check import check_cohort


def seg(case: Path) -> Path:
    return case / "seg.nii.gz"


ENEMIES: dict[str, tuple[str, str, str, Callable[[Path], None]]] = {
    "4-D": ("t2", "4-D", "error", lambda f: edit(f / "t2.nii.gz", lambda a: np.stack([a, a], -1))),
    "NaN": ("t2", "1 of 14400 voxels are NaN", "error", lambda f: edit(f / "t2.nii.gz", lambda a: put(a, np.nan))),
    "infinite": ("t1", "NaN or infinite", "error", lambda f: edit(f / "t1.nii.gz", lambda a: put(a, -np.inf))),
    "all zero": ("t2", "all voxels are 0", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a * 0)),
    "constant": ("t2", "same value, 7", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a * 0 + 7)),
    "missing": ("t1", "does not exist", "error", lambda f: (f / "t1.nii.gz").unlink()),
    "not an image": ("t1", "not compressed", "error", lambda f: (f / "t1.nii.gz").write_text("no image at all")),
    "truncated": ("t2", "truncated", "error", lambda f: (f / "t2.nii.gz").write_bytes((f / "t2.nii.gz").read_bytes()[:9000])),
    "another affine": ("t2", "up to 9.0 mm apart", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a, shifted(9))),
    "another grid": ("t2", "another grid", "warning", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15])),
    "elsewhere": ("t2", "wholly outside", "error", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15], shifted(900))),
    "hardly overlapping": ("t2", "only", "warning", lambda f: edit(f / "t2.nii.gz", lambda a: a[:, :, :15], shifted(100))),
    "label 7": ("segmentation", "7 (1 voxels)", "error", lambda f: edit(seg(f), lambda a: put(a, 7))),
    "label 3": ("segmentation", "has only 0, 1, 2, 4", "error", lambda f: edit(seg(f), lambda a: put(a, 3))),
    "half a label": ("segmentation", "1.5 (1 voxels)", "error", lambda f: edit(seg(f), lambda a: np.where(a == 4, 1.5, a))),
    "NaN label": ("segmentation", "NaN", "error", lambda f: edit(seg(f), lambda a: np.where(a == 4, np.nan, a))),
    "float labels": ("segmentation", "float32, but are whole", "warning", lambda f: edit(seg(f), lambda a: a.astype("f4"))),
    "empty mask": ("segmentation", "mask is empty", "warning", lambda f: edit(seg(f), lambda a: a * 0)),
    "mask elsewhere": ("segmentation", "grid of no image", "error", lambda f: edit(seg(f), lambda a: a, shifted(9))),
    "mask of another size": ("segmentation", "grid of no image", "error", lambda f: edit(seg(f), lambda a: a[:-1])),
    "no brain": ("brain_mask", "empty", "error", lambda f: edit(f / "brain.nii.gz", lambda a: a * 0)),
    "all brain": ("brain_mask", "whole grid", "warning", lambda f: edit(f / "brain.nii.gz", lambda a: a * 0 + 1)),
    "grey brain": ("brain_mask", "not binary", "warning", lambda f: edit(f / "brain.nii.gz", lambda a: a.astype("f4") * 0.8)),
    "metres": ("t1", "suspicious spacing", "warning", lambda f: edit(f / "t1.nii.gz", lambda a: a, AFFINE * 3)),
}  # fmt: skip


@pytest.mark.parametrize("enemy", list(ENEMIES))
def test_enemy_is_named_and_hides_nobody(folder: Path, enemy: str) -> None:
    channel, words, severity, strike = ENEMIES[enemy]
    strike(folder / "p1")
    edit(folder / "p2" / "t1.nii.gz", lambda a: a * 0)  # a second, ordinary fault that must be found as well
    found = check_cohort(folder)
    here = [p for p in found if p.case == "p1"]
    match = [p for p in here if words in p.message and p.severity == severity and p.channel == channel]
    assert match, here
    assert match[0].file.startswith("p1/")
    assert match[0].remedy
    assert any(p.case == "p2" and "all voxels are 0" in p.message for p in found)
    assert not [p for p in found if p.case == "p0"]
    if severity == "warning" and channel != "t1":
        assert not [p for p in here if p.severity == "error"], here


def test_rounded_affines_are_one_grid(folder: Path) -> None:
    edit(folder / "p1" / "t2.nii.gz", lambda a: a, shifted(0.01))
    assert check_cohort(folder) == []


def test_case_without_an_image(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(t1=t["t1"].where(t["case"] != "p1"), t2=t["t2"].where(t["case"] != "p1")))
    found = [p for p in check_cohort(folder) if p.severity == "error"]
    assert [(p.case, p.message) for p in found] == [("p1", "the case has no image in any of t1, t2")]


def test_file_named_as_another_modality(folder: Path) -> None:
    for name, other in (("t1", "x"), ("t2", "t1"), ("x", "t2")):
        (folder / f"p1/{name}.nii.gz").rename(folder / f"p1/{other}.nii.gz")
    edit_table(
        folder,
        lambda t: t.assign(
            t1=t["t1"].where(t["case"] != "p1", "p1/t2.nii.gz"), t2=t["t2"].where(t["case"] != "p1", "p1/t1.nii.gz")
        ),
    )
    found = check_cohort(folder)
    assert [(p.severity, p.case, p.channel) for p in found] == [("warning", "p1", "t1"), ("warning", "p1", "t2")]
    assert "its name says t2" in found[0].message


def test_label_beyond_the_label_set_of_the_case(folder: Path) -> None:
    # label 4 of BraTS 2024 is a cavity, which annotators of a 'glioma' set cannot have drawn
    edit_table(folder, lambda t: t.assign(label_convention=["brats2021", "brats2024", "brats2021"], labels="glioma"))
    (problem,) = check_cohort(folder)
    assert (problem.case, problem.channel) == ("p1", "segmentation")
    assert "canonical label 4" in problem.message


def test_a_detailed_mask_may_be_read_as_one_class_but_a_binary_one_holds_no_more(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(labels=t["labels"].where(t["case"] != "p1", "lesion")))
    assert check_cohort(folder) == []
    edit_table(folder, lambda t: t.assign(label_convention=[None, "lesion", None]))
    (problem,) = check_cohort(folder)
    assert "the mask holds 2 (46 voxels), 4 (1 voxels)" in problem.message


def test_no_brain_mask_and_no_background(folder: Path) -> None:
    edit_table(folder, lambda t: t.assign(brain_mask=None))
    assert check_cohort(folder) == []  # a background of zeros is as good as a mask
    edit(folder / "p1" / "t1.nii.gz", lambda a: a + 1)
    (problem,) = check_cohort(folder)
    assert (problem.severity, problem.case, problem.channel) == ("warning", "p1", "t1")
    assert "no brain mask" in problem.message

"""After surgery: a cavity that is one, time points that belong together, signs that are gone for the posterior too."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from workbench.cohort.check import check_cohort
from workbench.cohort.folds import make_folds
from workbench.cohort.phantom import classes
from workbench.cohort.phantom.classes import draw_subject
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.posterior import posterior
from workbench.cohort.phantom.subject import Case, Head, _scanned, make_cases, make_heads
from workbench.cohort.phantom.surgery import draw_plan
from workbench.cohort.phantom.truth import make_truth
from workbench.cohort.phantom.writer import make_phantom
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.errors import ParameterError
from workbench.files import read_json
from workbench.labels import ED, RC

SETTINGS = {"subjects": 4, "spacing": 4.0, "seed": 1, "stage": "posttreatment", "progress": False, "volume_range": (8.0, 20.0)}
SITES = {"coarse_site": "hill", "markerless_site": "harbour"}
OPTIONS = PhantomOptions(stage="posttreatment", volume_range=(8.0, 30.0))


def with_surgery(**changes: object) -> PhantomOptions:
    return OPTIONS.model_copy(update={"surgery": OPTIONS.surgery.model_copy(update=changes)})


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make_phantom(tmp_path_factory.mktemp("post") / "cohort", **SETTINGS, **SITES)


def array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def true_labels(cohort: Cohort, case: str) -> np.ndarray:
    return array(cohort.folder / "truth" / f"{case}-labels.nii.gz")


def test_it_is_a_post_treatment_cohort_in_the_naming_of_2024(cohort: Cohort) -> None:
    assert (cohort.info.label_convention, cohort.info.phantom) == ("brats2024", True)
    assert cohort.cases["subject"].nunique() == 4
    assert len(cohort) > 4
    for subject, sessions in cohort.cases.groupby("subject"):
        assert sessions["timepoint"].tolist() == [str(100 + k) for k in range(len(sessions))]
        assert sessions["case"].tolist() == [f"{subject}-{t}" for t in sessions["timepoint"]]
        assert sessions[["idh", "codel", "grade", "age", "site"]].drop_duplicates().shape[0] == 1
    assert not [problem for problem in check_cohort(cohort) if problem.severity == "error"]


def test_whole_tumour_masks_leave_the_cavity_out(cohort: Cohort) -> None:
    assert {"hill", "harbour"} <= set(cohort.cases["site"])
    for row in cohort.cases.itertuples():
        drawn = array(cohort.path(row.case, "segmentation"))
        assert row.labels == ("WT" if row.site == "hill" else "glioma_post")
        if row.site == "hill":
            assert set(np.unique(drawn)) == {0, 1}
            assert (drawn[true_labels(cohort, row.case) == RC] == 0).mean() > 0.8
        else:
            assert {0, ED, RC} <= set(np.unique(drawn)) <= {0, 1, 2, 3, 4}
    unknown = cohort.cases["site"] == "harbour"
    assert cohort.cases.loc[unknown, ["idh", "codel", "tert", "grade"]].isna().all(axis=None)
    assert cohort.truth["idh"].notna().all()


def test_the_cavity_holds_fluid_and_lies_in_the_brain(cohort: Cohort) -> None:
    for row in cohort.cases.itertuples():
        labels = true_labels(cohort, row.case)
        fluid = labels == RC
        for modality in cohort.present(row.case):
            image = array(cohort.path(row.case, modality)).astype(float)
            assert (image[fluid] > 0).all()  # 0 is outside the brain
            tissue = (image > 0) & (labels == 0)
            inner = ndimage.binary_erosion(fluid)  # 4 mm voxels and slices of 5 mm: the wall is blurred
            brighter = np.median(image[inner]) / np.median(image[tissue])
            assert brighter > 1.3 if modality == "t2" else brighter < 0.7, (row.case, modality, brighter)


def test_time_points_of_a_subject_belong_together(cohort: Cohort) -> None:
    truth = cohort.truth.set_index("case")
    seen = set()
    for _, sessions in cohort.cases.groupby("subject"):
        for before, after in zip(sessions["case"], sessions["case"][1:], strict=False):
            one, two = (true_labels(cohort, case) == RC for case in (before, after))
            assert 0.5 < two.sum() / one.sum() <= 1
            assert (two & ~one).sum() <= 0.02 * two.sum()
            grown = truth.loc[after, "dense_left_ml"] - truth.loc[before, "dense_left_ml"]
            assert grown >= 0 if truth.loc[after, "progressing"] else grown == 0
            seen.add(bool(truth.loc[after, "progressing"]))
    assert seen == {True, False}
    folds = make_folds(cohort, folds=3)
    for number in range(3):
        split = folds.split(cohort, number)
        assert set(split.index) == set(cohort.cases["case"])
        assert (split.groupby(split.index.str[:-4]).nunique() == 1).all()


def test_sizes_are_those_of_a_head(cohort: Cohort) -> None:
    truth = cohort.truth.set_index("case")
    assert (truth["least_jacobian"] > 0).all()
    for case, row in truth.iterrows():
        labels = true_labels(cohort, str(case))
        assert np.count_nonzero(labels == RC) * 0.064 == pytest.approx(row["rc_ml"])
        assert row["rc_ml"] == pytest.approx(row["cavity_grown_ml"], rel=0.15)
        assert 0.1 * row["volume_ml"] < row["rc_ml"] < 1.2 * row["volume_ml"]
        assert row["whole_ml"] > 0.1 * row["volume_ml"]
        u = nib.load(cohort.folder / "truth" / f"{case}-u.nii.gz").get_fdata()
        assert u[labels == RC].mean() < 0.15  # the cavity holds no tumour


def test_the_ordinary_reader_reads_it(cohort: Cohort, tmp_path: Path) -> None:
    read = import_cohort("auto", cohort.folder / "images", tmp_path / "read")
    assert read.info.label_convention == "brats2024"
    for column in ("case", "subject", "timepoint"):
        assert list(read.cases[column]) == list(cohort.cases[column])
    assert set(read.cases["labels"]) == {"glioma_post"}


@pytest.mark.slow
def test_same_bytes_on_two_workers_and_after_a_loss(cohort: Cohort, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "folds.json")
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    make_phantom(tmp_path / "again", **SETTINGS, **SITES, workers=2)
    assert digests(tmp_path / "again") == digests(cohort.folder)
    next((tmp_path / "again" / "images").glob("*-101/*-t1c.nii.gz")).unlink()
    make_phantom(tmp_path / "again", **SETTINGS, **SITES)
    assert digests(tmp_path / "again") == digests(cohort.folder)


@cache
def heads(enhancement: str, complete: float, mismatch: bool = False) -> tuple[Head, ...]:
    options = with_surgery(complete=complete, extent=(0.4, 0.5), progressing=0.0, timepoints=(1.0,))
    subject = replace(draw_subject(0, 3, options, "normal"), volume=15.0, width=2.5, heterogeneous=False)
    return tuple(make_heads(0, 3, options, "normal", replace(subject, enhancement=enhancement, mismatch=mismatch)))


def scan(head: Head) -> Case:
    return _scanned(head, 0, 3, 0, 4.0, OPTIONS)


def test_removed_signs_are_not_in_the_images() -> None:
    """What makes the posterior exact: where the signs are said to be gone, images and labels are the same with and without."""
    ring, plain, dark = (heads(*kind)[0] for kind in (("ring", 1.0), ("none", 1.0), ("none", 1.0, True)))
    assert not ring.facts["signs_show"]
    for other in (plain, dark):
        one, two = scan(ring), scan(other)
        assert np.array_equal(one.labels, two.labels)
        assert np.array_equal(one.drawn, two.drawn)
        for modality, image in one.images.items():
            assert np.array_equal(image, two.images[modality])
    left, without = (scan(heads(kind, 0.0)[0]) for kind in ("ring", "none"))
    assert (left.labels == 3).any()
    assert not np.array_equal(left.images["t1c"], without.images["t1c"])


def test_what_is_left_and_where_depend_on_no_sign() -> None:
    ring, plain = (heads(kind, 0.0)[0] for kind in ("ring", "none"))
    assert ring.facts == plain.facts
    assert np.array_equal(ring.tumour.cavity, plain.tumour.cavity)


def test_the_rim_enhances_fades_and_is_no_tumour() -> None:
    """Thin linear enhancement along the cavity is not ET (BraTS 2024): the labels are the same with and without it."""
    subject = replace(draw_subject(0, 3, OPTIONS, "normal"), volume=15.0, enhancement="none", mismatch=False)
    changes = {"complete": 1.0, "progressing": 0.0, "timepoints": (0.0, 1.0), "shrinkage": (0.1, 0.1001)}
    with_rim, without = (
        make_heads(0, 3, with_surgery(rim=rim, **changes), "normal", replace(subject, index=3)) for rim in (1.0, 0.0)
    )
    peaks = [float(head.tumour.rim.max()) for head in with_rim]
    assert peaks[0] > 0.3
    assert peaks[1] == pytest.approx(peaks[0] / 2, rel=0.1)
    assert not any(head.tumour.rim.any() for head in without)
    one, two = scan(with_rim[0]), scan(without[0])
    assert np.array_equal(one.labels, two.labels)
    assert not (one.labels == 3).any()
    brighter = one.images["t1c"].astype(int) - two.images["t1c"]
    assert brighter[ndimage.binary_dilation(one.labels == RC)].max() > 50
    assert np.array_equal(one.images["flair"], two.images["flair"])


def hidden(count: int, show: float) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [{"signs_show": bool(value)} for value in rng.random(count) < show]


def test_posterior_uses_the_signs_only_where_they_show() -> None:
    options = with_surgery(timepoints=(1.0,))
    truth = make_truth(2500, 3, "normal", options, hidden(2500, 0.5))
    shown = truth["signs_show"]
    before = make_truth(2500, 3, "normal", PhantomOptions(volume_range=(8.0, 30.0)))
    assert np.allclose(truth.loc[shown, "posterior_idh"], before.loc[shown, "posterior_idh"])
    gone = truth[~shown]
    flipped = gone.assign(mismatch=~gone["mismatch"], enhancement="none")
    assert np.allclose(posterior(flipped, options, "normal", with_age=False)["idh"], gone["posterior_idh"])
    for low in np.arange(0, 1, 0.2):  # calibrated within 4 standard deviations
        part = gone[gone["posterior_idh"].between(low, low + 0.2)]
        p = part["posterior_idh"].to_numpy()
        assert abs((part["idh"] - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum()) + 0.5
    assert ((gone["posterior_idh"] - gone["idh"]) ** 2).mean() > ((before["posterior_idh"] - before["idh"]) ** 2).mean()


def test_permuted_markers_are_dealt_to_subjects_not_to_sessions() -> None:
    options = OPTIONS
    count = sum(draw_plan(1, index, options).sessions for index in range(200))
    truth = make_truth(200, 1, "permuted", options, hidden(count, 0.5))
    assert (truth.groupby("subject")["idh"].nunique() == 1).all()
    share = truth.drop_duplicates("subject")["idh"].mean()
    assert share != truth["idh"].mean()
    assert np.allclose(truth["posterior_idh"], share)


def test_no_truth_without_images() -> None:
    with pytest.raises(ParameterError, match="make the phantom"):
        make_truth(10, 0, "normal", OPTIONS)


def test_time_points_at_their_rates() -> None:
    counts = np.bincount([draw_plan(0, index, OPTIONS).sessions for index in range(1500)], minlength=4)[1:]
    assert np.allclose(counts / 1500, OPTIONS.surgery.timepoints, atol=0.05)


@pytest.mark.parametrize(
    "signal", ["focus", *(pytest.param(name, marks=pytest.mark.slow) for name in ("regional", "mismatch", "t1c_texture"))]
)
def test_the_carrier_survives_the_resection(signal: str) -> None:
    """Carriers lie in what is left: without the cavity, and seen at once between a mutant and a wild type."""
    options = with_surgery(complete=1.0, timepoints=(1.0,))
    subject = replace(draw_subject(0, 3, options, signal), volume=15.0, enhancement="none", mismatch=False)
    yes, no = (make_heads(0, 3, options, signal, replace(subject, carrier=carrier))[0] for carrier in (True, False))
    assert np.array_equal(yes.tumour.cavity, no.tumour.cavity)
    changed = np.any([yes.tumour.extra[name] != no.tumour.extra[name] for name in yes.tumour.extra], axis=0)
    assert changed[yes.tumour.cavity < 0.1].any()
    assert not any(np.abs(field[yes.tumour.cavity > 0.999]).max() > 1e-3 for field in yes.tumour.extra.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "later"}, "stage: there is no 'later'"),
        ({"surgery": {"timepoints": (0.5, 0.2)}}, "add up to 1"),
        ({"surgery": {"margin": (3.0, 1.0)}}, "margin"),
        ({"surgery": {"extent": (0.5, 1.5)}}, "extent"),
        ({"surgery": {"cavities": 2}}, "surgery.cavities"),
    ],
)
def test_bad_settings_make_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_phantom(tmp_path / "none", progress=False, **change)
    assert not (tmp_path / "none").exists()


def test_the_stage_before_surgery_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from the numbers' order, figures of the generator before this stage existed; its folders are recognised."""
    monkeypatch.setattr(classes, "BLOCK", 1)
    make_phantom(tmp_path / "c", subjects=1, spacing=4.0, seed=0, progress=False, volume_range=(3.0, 8.0))
    assert not {"stage", "surgery"} & set(read_json(tmp_path / "c" / "phantom.json")["options"])
    (case,) = make_cases(0, 0, 4.0, PhantomOptions(volume_range=(3.0, 8.0)), "normal")
    assert np.abs(np.bincount(case.labels.ravel(), minlength=4)[1:] - (44, 77, 3)).max() <= 1
    assert case.images["t1c"][case.images["t1c"] > 0].mean() == pytest.approx(462.278, rel=1e-4)

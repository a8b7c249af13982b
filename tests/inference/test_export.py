from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.special import softmax

from workbench.cohort.table import Cohort
from workbench.errors import WorkbenchError
from workbench.geometry import Grid
from workbench.inference.export import export_labels, load_logits, native_logits, save_logits, save_nifti
from workbench.inference.predict import CasePrediction, predict_case
from workbench.prepare.native import to_native
from workbench.prepare.store import PreparedCase, PreparedCohort

AFFINE = np.array([[-2.0, 0.1, 0, 70], [0.1, 2.0, 0, -80], [0, 0, 3.0, -60], [0, 0, 0, 1]])


def one_hot(labels: np.ndarray, classes: int = 4) -> np.ndarray:
    """Logits of a net that knows the labels."""
    return np.stack([np.where(labels == c, 9.0, -3.0) for c in range(classes)]).astype(np.float32)


def oracle(case: PreparedCase) -> CasePrediction:
    labels = case.labels()
    assert labels is not None
    return CasePrediction(case.name, case.modalities, one_hot(labels))


def test_labels_come_back_to_the_voxel_where_nothing_was_resampled(
    isotropic: tuple[Cohort, PreparedCohort], tmp_path: Path
) -> None:
    cohort, prepared = isotropic
    case = prepared.case("ISO")
    truth = nib.load(cohort.folder / "seg.nii.gz")
    found = export_labels(oracle(case), case, tmp_path / "ISO.nii.gz", source=cohort.folder / "t1.nii.gz")
    written = nib.load(tmp_path / "ISO.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(truth.dataobj))
    np.testing.assert_array_equal(found, np.asarray(truth.dataobj))
    assert case.shape != truth.shape  # the prepared grid is another one: permuted and cropped
    np.testing.assert_array_equal(written.affine, truth.affine)
    for name in ("qform_code", "sform_code", "pixdim", "quatern_b", "qoffset_x", "srow_y", "xyzt_units"):
        np.testing.assert_array_equal(written.header[name], truth.header[name], err_msg=name)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 4)
    assert written.get_data_dtype() == np.uint8


def test_the_prediction_of_a_net_lands_on_its_own_input(isotropic: tuple[Cohort, PreparedCohort], tmp_path: Path) -> None:
    """Through the whole chain: a net that calls bright voxels label 2 must mark the bright voxels of the original file."""
    cohort, prepared = isotropic
    case = prepared.case("ISO")

    class Bright(torch.nn.Module):
        modalities, markers, divisor, minimum, name = ("t1",), (), 1, 1, "bright"

        def forward(self, images, present, modalities=None, *, tasks=(), maps=False):
            from workbench.contracts import Prediction

            return Prediction(torch.cat([images * 0, images * 0 - 5, (images - 1) * 20], 1))

    prediction = predict_case(Bright(), case, modalities=("t1",), patch=(8, 8, 8), device="cpu")
    found = export_labels(prediction, case, tmp_path / "x.nii.gz")
    raw = np.asarray(nib.load(cohort.folder / "t1.nii.gz").dataobj)
    statistics = case.statistics["t1"]
    scores = (raw - statistics["mean"]) / statistics["deviation"]
    clear = np.abs(scores - 1) > 0.01  # float16 rounding at the threshold
    np.testing.assert_array_equal((found == 2)[clear], ((scores > 1) & (raw > 0))[clear])
    assert 0 < (found == 2).sum() < found.size / 4


def test_a_resampled_case_comes_back_nearly_and_outside_is_background(
    prepared: PreparedCohort, tiny_cohort: Cohort, tmp_path: Path, image_of: Callable
) -> None:
    case = prepared.case("TINY-00000-000")
    source = image_of(tiny_cohort, case.name)
    found = export_labels(oracle(case), case, tmp_path / "p.nii.gz", source=source)
    truth = np.asarray(nib.load(source.with_name(source.name.replace("-t1.", "-seg."))).dataobj)
    assert found.shape == truth.shape == case.native.shape
    assert 2 * ((found > 0) & (truth > 0)).sum() / ((found > 0).sum() + (truth > 0).sum()) > 0.9
    np.testing.assert_allclose(nib.load(tmp_path / "p.nii.gz").affine, nib.load(source).affine)
    # a net without an opinion: background wins outside the prepared box only
    undecided = CasePrediction(case.name, case.modalities, one_hot(np.full(case.shape, 2, np.uint8)))
    logits = native_logits(undecided, case)
    assert logits.dtype == np.float32
    labels = logits.argmax(0)
    assert labels[0, 0, 0] == 0
    assert softmax(logits[:, 0, 0, 0])[0] > 0.999999
    assert labels[tuple(n // 2 for n in labels.shape)] == 2


def test_maps_keep_their_values(prepared: PreparedCohort, tiny_cohort: Cohort, tmp_path: Path, image_of: Callable) -> None:
    case = prepared.case("TINY-00000-000")
    for name, value in {"gate": case.images()[:1], "two": case.images()[[0, 0]]}.items():
        native, path = np.moveaxis(to_native(value.astype(np.float32), case), 0, -1), tmp_path / f"{name}.nii.gz"
        save_nifti(native[..., 0] if name == "gate" else native, case.native, path, "map", image_of(tiny_cohort, case.name))
    single, double = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("gate", "two"))
    assert single.shape == case.native.shape
    assert double.shape == (*case.native.shape, 2)
    assert single.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(double.dataobj)[..., 1], np.asarray(single.dataobj))
    raw = np.asarray(nib.load(image_of(tiny_cohort, case.name)).dataobj)
    inside = raw > 0
    assert np.corrcoef(np.asarray(single.dataobj)[inside], raw[inside])[0, 1] > 0.8
    assert not np.asarray(single.dataobj)[0].any()


def test_a_file_without_source_says_scanner_coordinates(tmp_path: Path) -> None:
    grid = Grid((4, 5, 6), AFFINE)
    values = np.random.default_rng(0).normal(size=(4, 5, 6))
    save_nifti(values, grid, tmp_path / "map.nii", "map")
    image = nib.load(tmp_path / "map.nii")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    np.testing.assert_array_equal(np.asarray(image.dataobj), values.astype(np.float32))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_a_source_with_only_a_qform_keeps_only_that(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    source = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine)
    source.set_sform(None, code=0)
    source.set_qform(affine, code=2)
    nib.save(source, tmp_path / "source.nii.gz")
    save_nifti(np.ones((4, 5, 6), np.uint8), Grid((4, 5, 6), affine), tmp_path / "p.nii.gz", source=tmp_path / "source.nii.gz")
    written = nib.load(tmp_path / "p.nii.gz")
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (2, 0)
    np.testing.assert_allclose(written.affine, affine)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 6, 5), np.uint8), r"shape \(4, 6, 5\) does not lie on a grid of shape \(4, 5, 6\)"),
        (np.full((4, 5, 6), 0.5), "whole numbers"),
        (np.full((4, 5, 6), 256), "whole numbers"),
        (np.full((4, 5, 6), np.nan), "whole numbers"),
    ],
)
def test_what_is_no_label_volume_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        save_nifti(array, Grid((4, 5, 6), AFFINE), tmp_path / "p.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_source_elsewhere_or_unreadable_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "source.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    labels, grid = np.zeros((4, 5, 6), np.uint8), Grid((4, 5, 6), AFFINE)
    for name, message in (
        ("source.nii.gz", "is another one"),
        ("broken.nii.gz", "cannot be read"),
        ("no.nii.gz", "cannot be read"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            save_nifti(labels, grid, tmp_path / "p.nii.gz", source=tmp_path / name)
    assert not (tmp_path / "p.nii.gz").exists()


def test_logits_are_kept_in_half_precision(prepared: PreparedCohort, tmp_path: Path) -> None:
    case = prepared.case("TINY-00000-000")
    prediction = oracle(case)
    logits = prediction.logits * np.float32(1.2345)
    logits[0, 0, 0, 0] = 1e6
    path = tmp_path / f"{case.name}.logits.b2nd"
    save_logits(CasePrediction(case.name, case.modalities, logits), path)
    found = load_logits(path)
    assert found.dtype == np.float32
    assert found.shape == logits.shape
    np.testing.assert_allclose(found.ravel()[1:], logits.ravel()[1:], rtol=2**-10)
    assert np.isfinite(found).all()
    assert path.stat().st_size < logits.nbytes / 4
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkbenchError, match=r"logits\.b2nd cannot be read"):
        load_logits(path)
    with pytest.raises(WorkbenchError, match="cannot be read"):
        load_logits(tmp_path / "none.b2nd")


def test_a_model_without_segmentation_has_nothing_to_export(prepared: PreparedCohort, tmp_path: Path) -> None:
    case = prepared.case("TINY-00000-000")
    nothing = CasePrediction(case.name, ("t1",), None)
    for write in (lambda: export_labels(nothing, case, tmp_path / "x.nii.gz"), lambda: save_logits(nothing, tmp_path / "x.b2nd")):
        with pytest.raises(WorkbenchError, match="TINY-00000-000"):
            write()
    assert list(tmp_path.iterdir()) == []

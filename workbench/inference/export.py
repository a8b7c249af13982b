"""Predictions become files: NIfTI on the case's native grid, and compressed logits on its prepared grid."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import blosc2
import nibabel as nib
import numpy as np

from workbench.errors import WorkbenchError
from workbench.files import atomic_path
from workbench.geometry import Grid
from workbench.inference.predict import OUTSIDE_LOGIT, CasePrediction
from workbench.prepare.native import to_native
from workbench.prepare.store import PreparedCase

_FLOAT16_MAX = 65504.0


def save_nifti(
    array: np.ndarray, grid: Grid, path: str | Path, kind: Literal["label", "map"] = "label", source: str | Path | None = None
) -> None:
    """Write a volume with the native grid's affine: labels as uint8, maps as float32 (unscaled). Atomic.

    Args:
        array: (X, Y, Z), or (X, Y, Z, k) for a map of k channels.
        grid: the native grid.
        path: ends with .nii or .nii.gz.
        kind: label or map.
        source: image on the same grid whose qform, sform, their codes and units are taken over bit by bit, so that viewers
            place prediction and image alike; None = both codes 1 (scanner).

    Raises:
        WorkbenchError: the array or the source does not lie on the grid, labels are not whole numbers in 0..255, or the file
            cannot be written.
    """
    path = Path(path)
    if array.shape[:3] != grid.shape or array.ndim not in (3, 4):
        raise WorkbenchError(f"{path}: an array of shape {array.shape} does not lie on a grid of shape {grid.shape}")
    dtype = np.uint8 if kind == "label" else np.float32
    values = np.asarray(array)
    with np.errstate(invalid="ignore"):  # NaN becomes some number, and differs from it
        whole = kind == "map" or np.array_equal(values, values.astype(np.uint8))
    if not whole:
        raise WorkbenchError(f"{path}: labels must be whole numbers in 0..255")
    image = nib.Nifti1Image(values.astype(dtype), None, _placed_header(grid, path, source))
    image.header.set_data_dtype(dtype)
    try:
        with atomic_path(path) as temporary:
            nib.save(image, temporary)
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be written: {error.strerror or error}") from error


def export_labels(
    prediction: CasePrediction, case: PreparedCase, path: str | Path, *, source: str | Path | None = None
) -> np.ndarray:
    """Write the predicted canonical labels on the native grid and return them, uint8 (native shape).

    Logits are interpolated, then the largest wins: smoother than interpolating labels, and exact where nothing was resampled.

    Raises:
        WorkbenchError: the model does not segment; or as `save_nifti`.
    """
    labels = native_logits(prediction, case).argmax(axis=0).astype(np.uint8)
    save_nifti(labels, case.native, path, "label", source)
    return labels


def native_logits(prediction: CasePrediction, case: PreparedCase) -> np.ndarray:
    """Segmentation logits (C, *native shape) float32; background wins outside the prepared box.

    Raises:
        WorkbenchError: the model does not segment.
    """
    if prediction.logits is None:
        raise WorkbenchError(f"case {case.name}: there is no segmentation to export, the model predicts markers only")
    outside = np.zeros(len(prediction.logits))
    outside[0] = OUTSIDE_LOGIT
    return to_native(prediction.logits, case, outside)


def save_logits(prediction: CasePrediction, path: str | Path) -> None:
    """Keep the logits on the prepared grid as float16 blosc2 (`<case>.logits.b2nd`), for later calibration. Atomic.

    Raises:
        WorkbenchError: there are no logits, or the file cannot be written.
    """
    if prediction.logits is None:
        raise WorkbenchError(f"case {prediction.case}: there are no logits to keep")
    half = np.clip(prediction.logits, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
    codec = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "nthreads": 1, "filters": [blosc2.Filter.BITSHUFFLE]}
    try:
        with atomic_path(path) as temporary:
            blosc2.asarray(np.ascontiguousarray(half), urlpath=str(temporary), mode="w", cparams=codec)
    except OSError as error:
        raise WorkbenchError(f"{path} cannot be written: {error.strerror or error}") from error


def load_logits(path: str | Path) -> np.ndarray:
    """Read `save_logits` back: float32 (C, X, Y, Z), rounded to float16.

    Raises:
        WorkbenchError: the file is missing, truncated or not such an array.
    """
    try:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})[:]
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise WorkbenchError(f"logits {path} cannot be read: {error}") from error
    if array.ndim != 4 or array.dtype != np.float16:
        raise WorkbenchError(f"{path} holds {array.dtype} of shape {array.shape}, not float16 logits (C, X, Y, Z)")
    return array.astype(np.float32)


def _placed_header(grid: Grid, path: Path, source: str | Path | None) -> nib.Nifti1Header:
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    if source is None:
        header.set_data_shape(grid.shape)
        header.set_sform(grid.affine, code=1)
        header.set_qform(grid.affine, code=1)
        return header
    try:
        given = nib.load(source)
        if not isinstance(given, nib.spatialimages.SpatialImage):
            raise WorkbenchError(f"{source} is no image, so {path} cannot be placed like it")
        found = Grid.of(given)
    except (OSError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise WorkbenchError(f"{source} cannot be read as the image that {path} is drawn on: {error}") from error
    if not found.matches(grid):
        raise WorkbenchError(f"{path} is to be written on the grid of {source}, which is another one: {found}, not {grid}")
    if isinstance(given.header, nib.Nifti1Header):
        for name in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                     "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):  # fmt: skip
            header[name] = given.header[name]
        header["pixdim"][4:] = 1
        return header
    return _placed_header(grid, path, None)

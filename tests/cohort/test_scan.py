from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from workbench.cohort.scan import PIECE_BYTES, copy_image, displacement, overlap, read_header, scan_image
from workbench.errors import InputError
from workbench.geometry import Grid

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2.5, 0, 40], [0, 0, 3.0, -20], [0, 0, 0, 1]])
SHAPE = (20, 24, 16)


def volume(dtype: str = "float32") -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 20, SHAPE)
    values[:4] = 0
    return values.astype(dtype)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image) -> Path:
    order = ">" if array.dtype.byteorder == ">" else "<"
    image = kind(array, affine, kind.header_class(endianness=order))
    image.set_data_dtype(array.dtype)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "float32", ">f8", "uint16"])
def test_agrees_with_nibabel(tmp_path: Path, name: str, kind: type, dtype: str) -> None:
    path = save(tmp_path / name, volume(dtype), kind=kind)
    scan = scan_image(path, labels=True)
    image = nib.load(path)
    values = image.get_fdata()
    assert scan.header.grid.matches(Grid.of(image))
    assert (scan.minimum, scan.maximum) == (values.min(), values.max())
    assert scan.zeros == (values == 0).sum()
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) <= 1000:
        assert scan.counts == dict(zip(unique.tolist(), counts.tolist(), strict=True))
    assert read_header(path).grid.matches(scan.header.grid)
    assert read_header(path).dtype == scan.header.dtype == image.get_data_dtype()


def test_scaled_values_and_many_pieces(tmp_path: Path) -> None:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii.gz")
    scan = scan_image(tmp_path / "a.nii.gz")
    values = nib.load(tmp_path / "a.nii.gz").get_fdata()
    assert (scan.minimum, scan.maximum, scan.zeros) == (values.min(), values.max(), (values == 0).sum())


def test_not_finite(tmp_path: Path) -> None:
    array = volume()
    array[5, 5, 5], array[6, 6, :2] = np.nan, np.inf
    scan = scan_image(save(tmp_path / "a.nii.gz", array))
    assert scan.nonfinite == 3
    assert np.isfinite([scan.minimum, scan.maximum]).all()
    nothing = scan_image(save(tmp_path / "b.nii.gz", np.full(SHAPE, np.nan, np.float32)))
    assert nothing.nonfinite == nothing.voxels
    assert np.isnan(nothing.minimum)


def test_digest_is_of_content_not_of_the_file(tmp_path: Path) -> None:
    one = scan_image(save(tmp_path / "a.nii.gz", volume()))
    same = scan_image(save(tmp_path / "b.nii", volume(), np.diag([1.0, 1, 1, 1])))
    changed = volume()
    changed[19, 23, 15] += 1
    other = scan_image(save(tmp_path / "c.nii.gz", changed))
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.002, 0.5, 0.99])
def test_truncated(tmp_path: Path, name: str, share: float) -> None:
    path = save(tmp_path / name, volume())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="truncated"):
        scan_image(path)


def test_damaged_compression(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", volume())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|truncated"):
        scan_image(path)


def _patched(path: Path, shape: tuple[int, int, int], data: bytes, affine: np.ndarray = AFFINE) -> Path:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_sform(affine, 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + data, 1))
    return path


def _renamed(folder: Path) -> Path:
    return save(folder / "a.nii", volume()).rename(folder / "a.nii.gz")


def _unpacked(folder: Path) -> Path:
    return save(folder / "a.nii.gz", volume()).rename(folder / "a.nii")


def _text(folder: Path) -> Path:
    (folder / "a.nii").write_text("dicom, really " * 60)
    return folder / "a.nii"


def _empty(folder: Path) -> Path:
    (folder / "a.nii.gz").touch()
    return folder / "a.nii.gz"


def _suffix(folder: Path) -> Path:
    return save(folder / "a.nii", volume()).rename(folder / "a.img")


def _folder(folder: Path) -> Path:
    (folder / "a.nii").mkdir()
    return folder / "a.nii"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_renamed, "by its name the file is gzip, by its content it is not compressed"),
        (_unpacked, "by its name the file is not compressed, by its content it is gzip"),
        (_text, "no NIfTI"),
        (_empty, "empty"),
        (_suffix, "not named as a NIfTI"),
        (_folder, "cannot be read"),
        (lambda folder: folder / "none.nii.gz", "does not exist"),
        (lambda folder: save(folder / "a.nii.gz", np.zeros((4, 5, 6, 3), np.float32)), r"4-D \(4x5x6x3\), expected is 3-D"),
        (lambda folder: save(folder / "a.nii.gz", np.zeros((4, 5), np.float32)), "2-D"),
        (lambda folder: save(folder / "a.nii.gz", np.ones((4, 5, 6), np.complex64)), "complex64"),
        (lambda folder: _patched(folder / "a.nii.gz", (4, 5, 6), bytes(480), np.diag([0.0, 2, 2, 1])), "not invertible"),
    ],
)
def test_what_is_no_3d_image_is_refused(tmp_path: Path, make, message: str) -> None:
    path = make(tmp_path)
    for reader in (read_header, scan_image):
        with pytest.raises(InputError, match=message) as caught:
            reader(path)
        assert caught.value.problems[0].file == str(path)


def test_a_header_that_declares_too_much_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"32000x32000x32000 voxels .* GiB"):
        read_header(_patched(tmp_path / "a.nii.gz", (32000, 32000, 32000), b""))


def test_a_gzip_bomb_is_stopped_early_and_in_bounded_memory(tmp_path: Path) -> None:
    path = _patched(tmp_path / "a.nii.gz", (4, 5, 6), bytes(4 * 120) + bytes(40 << 20))
    assert path.stat().st_size < 2 << 20
    tracemalloc.start()
    with pytest.raises(InputError, match="gzip bomb"):
        scan_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * PIECE_BYTES


def test_memory_does_not_grow_with_the_image(tmp_path: Path) -> None:
    path = _patched(tmp_path / "a.nii.gz", (320, 320, 160), bytes(4 * 320 * 320 * 160))
    tracemalloc.start()
    scan = scan_image(path, labels=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scan.counts == {0.0: 320 * 320 * 160}
    assert peak < 6 * PIECE_BYTES < 4 * scan.voxels


def test_forms_that_disagree(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3), 1)
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_header(tmp_path / "a.nii.gz").forms_differ
    image.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "b.nii.gz")
    assert not read_header(tmp_path / "b.nii.gz").forms_differ


def test_displacement_and_overlap() -> None:
    one = Grid(SHAPE, AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += (3, 4, 0)
    assert displacement(one, Grid(SHAPE, moved)) == pytest.approx(5)
    assert overlap(one, one) == pytest.approx(1)
    half = AFFINE.copy()
    half[2, 3] += 3 * SHAPE[2] / 2
    assert overlap(one, Grid(SHAPE, half)) == pytest.approx(0.5)
    far = AFFINE.copy()
    far[0, 3] += 1000
    assert overlap(one, Grid(SHAPE, far)) == 0


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float32", ">f8"])
def test_a_copy_has_the_same_voxels_and_place_and_nothing_that_is_text(tmp_path: Path, kind: type, dtype: str) -> None:
    path = save(tmp_path / "a.nii", volume(dtype), kind=kind)
    image = nib.load(path)
    tilted = AFFINE.copy()
    tilted[:2, :2] = [[-1.9, 0.4], [0.5, -2.4]]
    image.set_qform(tilted, code=3)
    image.header["scl_slope"], image.header["scl_inter"] = 0.25, -7
    for field in ("descrip", "aux_file", "intent_name"):
        image.header[field] = b"DOE^JOHN"
    size = image.header.sizeof_hdr
    voxels = path.read_bytes()[size + 4 :]
    image.header["vox_offset"] = size + 4 + 32
    order = "big" if dtype.startswith(">") else "little"
    extension = bytes([1, 0, 0, 0]) + (32).to_bytes(4, order) + (6).to_bytes(4, order) + b"DOE^JOHN".ljust(24, b"\0")
    path.write_bytes(image.header.binaryblock + extension + voxels + b"DOE^JOHN")  # and after the voxels
    copy_image(path, tmp_path / "b.nii.gz")
    again = nib.load(tmp_path / "b.nii.gz")
    before = nib.load(path)
    assert b"DOE" in path.read_bytes()
    assert b"DOE" not in gzip.decompress((tmp_path / "b.nii.gz").read_bytes())
    assert scan_image(path).digest == scan_image(tmp_path / "b.nii.gz").digest
    assert np.array_equal(before.get_fdata(), again.get_fdata())
    for form in (before.get_qform(coded=True), before.get_sform(coded=True)):
        other = again.get_qform(coded=True) if form[1] == 3 else again.get_sform(coded=True)
        assert np.array_equal(form[0], other[0])
        assert form[1] == other[1]
    assert again.header["xyzt_units"] == before.header["xyzt_units"]
    assert (tmp_path / "b.nii.gz").read_bytes()[3:8] == bytes(5), "gzip keeps neither name nor time"


def test_no_half_copy_is_left(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", volume())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.nii\.gz.*truncated"):
        copy_image(path, tmp_path / "b.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]

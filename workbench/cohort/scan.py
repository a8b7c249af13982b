"""Reading a NIfTI file with suspicion: the header first, then the voxels as a stream in pieces of bounded size.

Nothing is trusted: not the suffix, not the declared size, not that the data are all there, not that they end where the header
says. Memory stays at a few pieces whatever the file holds or claims to hold.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np

from workbench.errors import InputError, Problem
from workbench.files import atomic_path
from workbench.geometry import Grid

MAX_VOXELS = 2**29
"""A whole head at 0.25 mm has about this many voxels; a header that declares more is taken for damaged or hostile."""
PIECE_BYTES = 8 << 20
MAX_TRAILING_BYTES = 1 << 20
MAX_OFFSET = 64 << 20
"""Header extensions before the voxels may take this many bytes."""


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says.

    Attributes:
        grid: shape and affine.
        dtype: type of the stored voxels, in the file's byte order.
        slope: scale of the stored values; 1 where the header gives none.
        intercept: offset of the stored values.
        offset: bytes before the first voxel.
        codes: (qform code, sform code).
        forms_differ: sform and qform are both set and lie more than a tenth of a voxel apart.
    """

    grid: Grid
    dtype: np.dtype
    slope: float
    intercept: float
    offset: int
    codes: tuple[int, int]
    forms_differ: bool


@dataclass
class Scan:
    """What the voxels of a file are, in scaled values.

    Attributes:
        header: what its header says.
        digest: BLAKE2b of shape, type and stored voxels; equal for the same image under two names or compressions.
        nonfinite: number of NaN and infinite voxels.
        minimum: smallest finite value; NaN where there is none.
        maximum: largest finite value.
        zeros: number of voxels that are exactly zero.
        counts: value -> number of voxels, only for label images; at most `MAX_VALUES` values.
    """

    header: Header
    digest: str = ""
    nonfinite: int = 0
    minimum: float = np.nan
    maximum: float = np.nan
    zeros: int = 0
    counts: dict[float, int] = field(default_factory=dict)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.header.grid.shape))


MAX_VALUES = 1000


def read_header(path: Path) -> Header:
    """Read a 3-D image's header and nothing else.

    Raises:
        InputError: the file is missing, empty, truncated, not a NIfTI, named as what it is not, not 3-D, not of real numbers,
            or declares an impossible size or affine. The problem carries no case; callers add it.
    """
    with _opened(path) as stream:
        return _header(path, stream)


def scan_image(path: Path, labels: bool = False) -> Scan:
    """Read all voxels of a 3-D image once, in pieces.

    Args:
        path: the file.
        labels: count the values, as for a mask.

    Raises:
        InputError: as `read_header`; or fewer or far more data than declared, or damaged compression.
    """
    with _opened(path) as stream:
        header = _header(path, stream)
        scan = Scan(header)
        digest = hashlib.blake2b(f"{header.grid.shape}{header.dtype.str}".encode(), digest_size=16)
        stream.seek(header.offset)
        for stored in _pieces(path, stream, header):
            digest.update(stored.view(np.uint8).data)
            _add(scan, stored, labels)
        _expect_end(path, stream)
        scan.digest = digest.hexdigest()
    return scan


_PLACING = (
    "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units", "scl_slope", "scl_inter",
)  # fmt: skip
"""Fields of a header that say where the voxels lie and what they are worth; no text is among them."""


def copy_image(path: Path, target: Path) -> None:
    """Copy a 3-D image's voxels bit by bit under a fresh header: only grid, type and scale are taken over.

    Free text (`descrip`, `aux_file`, `db_name`, `intent_name`), header extensions, bytes after the voxels and the name that a
    gzip file keeps of itself stay behind: any of them may name a patient. Atomic.

    Args:
        path: the image.
        target: ends with .nii.gz.

    Raises:
        InputError: as `scan_image`.
        OSError: the target cannot be written.
    """
    with (
        atomic_path(target) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(
            filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6
        ) as out,  # without the name and time of a file
        _opened(path) as stream,
    ):
        header = _header(path, stream)
        stream.seek(0)
        out.write(_fresh_header(stream.read(540), header))
        stream.seek(header.offset)
        for stored in _pieces(path, stream, header):
            out.write(stored.data)
        _expect_end(path, stream)


def _fresh_header(block: bytes, header: Header) -> bytes:
    kind = nib.Nifti1Header if block[344:347] == b"n+1" else nib.Nifti2Header
    given = kind(block[: kind.sizeof_hdr], check=False)
    fresh = kind(endianness=given.endianness)
    fresh.set_data_shape(header.grid.shape)
    fresh.set_data_dtype(header.dtype)
    for name in _PLACING:
        fresh[name] = given[name]
    fresh["pixdim"][4:] = 1
    fresh["vox_offset"] = kind.sizeof_hdr + 4
    return fresh.binaryblock + bytes(4)  # four zeros: no extensions


def _fail(path: Path, message: str, remedy: str = "") -> InputError:
    return InputError(Problem(file=str(path), message=message, remedy=remedy))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a file whose suffix agrees with its content; reading errors become `InputError`."""
    again = "get the file again from its source"
    try:
        with path.open("rb") as raw:
            magic = raw.read(2)
            if not magic:
                raise _fail(path, "the file is empty", again)
            compressed = magic == b"\x1f\x8b"
            named = path.name.endswith(".gz")
            if not path.name.endswith((".nii", ".nii.gz")):
                raise _fail(path, "the file is not named as a NIfTI", "expected is .nii or .nii.gz")
            if compressed != named:
                said, found = ("gzip", "not compressed") if named else ("not compressed", "gzip")
                raise _fail(path, f"by its name the file is {said}, by its content it is {found}", "give it the right suffix")
            raw.seek(0)
            if not compressed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as stream:
                yield stream  # type: ignore[misc]
    except FileNotFoundError:
        raise _fail(path, "the file does not exist", "correct the path in the table of cases, or make it null") from None
    except EOFError:
        raise _fail(path, "the file is truncated: its compressed data end too early", again) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _fail(path, f"the compressed data are damaged: {error}", again) from None
    except OSError as error:
        raise _fail(path, f"the file cannot be read: {error.strerror or error}") from error


def _header(path: Path, stream: IO[bytes]) -> Header:
    block = stream.read(540)
    if len(block) < 348:
        raise _fail(path, f"the file is truncated: {len(block)} bytes, a NIfTI header has 348", "get it again from its source")
    if block[344:347] == b"n+1":
        kind, size = nib.Nifti1Header, 348
    elif block[4:7] == b"n+2":
        kind, size = nib.Nifti2Header, 540
    else:
        raise _fail(path, "the content is no NIfTI image (its mark is missing)", "convert the file, renaming is not enough")
    quiet = logging.getLogger("nibabel.global")
    before, quiet.disabled = quiet.disabled, True  # nibabel logs what it mends; here the findings are what counts
    try:
        raw = kind(block[:size], check=True)
        dtype = raw.get_data_dtype()
        slope, intercept = raw.get_slope_inter()
        shape = tuple(int(n) for n in raw.get_data_shape())
        affine = np.asarray(raw.get_best_affine(), np.float64)
        codes = (int(raw["qform_code"]), int(raw["sform_code"]))
        qform = raw.get_qform(coded=False) if all(codes) else None
    except Exception as error:  # nibabel raises its own, ValueError, KeyError and LinAlgError on damaged fields
        raise _fail(path, f"the NIfTI header is damaged: {error}", "get the file again from its source") from error
    finally:
        quiet.disabled = before
    offset = max(int(raw["vox_offset"]), size)
    _check_header(path, shape, dtype, affine, offset)
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    differ = qform is not None and displacement(grid, Grid(grid.shape, np.asarray(qform, float))) > 0.1 * min(grid.spacing)
    return Header(grid, dtype, 1.0 if slope is None else slope, intercept or 0.0, offset, codes, differ)


def _check_header(path: Path, shape: tuple[int, ...], dtype: np.dtype, affine: np.ndarray, offset: int) -> None:
    said = "x".join(str(n) for n in shape)
    if len(shape) != 3:
        remedy = "store one 3-D volume per file: choose a volume, or average the repetitions"
        raise _fail(path, f"the image is {len(shape)}-D ({said}), expected is 3-D", remedy)
    if min(shape) < 1:
        raise _fail(path, f"the header declares the shape {said}", "get the file again from its source")
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > MAX_VOXELS:
        raise _fail(
            path,
            f"the header declares {said} voxels ({voxels * dtype.itemsize / 2**30:.1f} GiB), more than the {MAX_VOXELS} allowed",
            "the header is damaged, or the image must be resampled to a sane size first",
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise _fail(path, f"the voxels are of type {dtype}, expected are real numbers of at most 64 bits", "convert the file")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise _fail(path, "the affine of the header is not invertible", "restore the header from the source image")
    if offset > MAX_OFFSET:
        raise _fail(path, f"the header says that the voxels begin after {offset} bytes", "get the file again from its source")


def _pieces(path: Path, stream: IO[bytes], header: Header) -> Iterator[np.ndarray]:
    """The stored voxels in file order, as flat arrays of at most `PIECE_BYTES`."""
    size = header.dtype.itemsize
    total = int(np.prod(header.grid.shape)) * size
    done = 0
    while done < total:
        wanted = min(PIECE_BYTES // size * size, total - done)
        block = stream.read(wanted)
        while len(block) < wanted and (more := stream.read(wanted - len(block))):
            block += more
        if len(block) < wanted:
            raise _fail(
                path,
                f"the file is truncated: {done + len(block)} bytes of voxels, the header declares {total}",
                "get the file again from its source",
            )
        done += wanted
        yield np.frombuffer(block, header.dtype)


def _expect_end(path: Path, stream: IO[bytes]) -> None:
    """Read on to the end, so that the compression's checksum is verified; more than a little padding is refused."""
    trailing = 0
    while block := stream.read(1 << 16):
        trailing += len(block)
        if trailing > MAX_TRAILING_BYTES:
            raise _fail(
                path,
                f"after the voxels that the header declares, more than {MAX_TRAILING_BYTES} further bytes follow",
                "the header is damaged, or the file is a gzip bomb: get it again from a source you trust",
            )


def _add(scan: Scan, stored: np.ndarray, labels: bool) -> None:
    values: np.ndarray = stored
    if (scan.header.slope, scan.header.intercept) != (1.0, 0.0):
        values = stored.astype(np.float64) * scan.header.slope + scan.header.intercept
    elif not stored.dtype.isnative:
        values = stored.astype(stored.dtype.newbyteorder("="))
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        scan.nonfinite += int(values.size - finite.sum())
        values = values[finite]
    if not values.size:
        return
    scan.minimum = float(np.fmin(scan.minimum, float(values.min())))
    scan.maximum = float(np.fmax(scan.maximum, float(values.max())))
    scan.zeros += int(values.size - np.count_nonzero(values))
    if labels:
        _count(scan.counts, values)


def _count(counts: dict[float, int], values: np.ndarray) -> None:
    small = values.astype(np.uint8) if float(values.min()) >= 0 and float(values.max()) < 256 else None
    if small is not None and np.array_equal(small, values):
        numbers = np.bincount(small, minlength=256)
        found: list[tuple[float, int]] = [(float(v), int(numbers[v])) for v in np.flatnonzero(numbers)]
    else:
        unique, times = np.unique(values, return_counts=True)
        found = [(float(v), int(n)) for v, n in zip(unique[:MAX_VALUES], times[:MAX_VALUES], strict=True)]
    for value, number in found:
        if value in counts or len(counts) < MAX_VALUES:
            counts[value] = counts.get(value, 0) + number


def displacement(one: Grid, other: Grid) -> float:
    """Largest distance in mm between the same corner voxel of two grids of equal shape."""
    corners = _corners(one)
    return float(np.linalg.norm((corners @ one.affine.T - corners @ other.affine.T)[:, :3], axis=1).max())


def overlap(one: Grid, other: Grid) -> float:
    """Share of the smaller world bounding box of two grids that lies inside the other one, 0 to 1."""
    boxes = []
    for grid in (one, other):
        world = (_corners(grid) @ grid.affine.T)[:, :3]
        boxes.append((world.min(axis=0), world.max(axis=0)))
    (low_a, high_a), (low_b, high_b) = boxes
    shared = np.clip(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0, None).prod()
    return float(shared / max(min((high_a - low_a).prod(), (high_b - low_b).prod()), 1e-9))


def _corners(grid: Grid) -> np.ndarray:
    """(8, 4) homogeneous voxel coordinates of a grid's outer corners."""
    ends = [(-0.5, n - 0.5) for n in grid.shape]
    return np.array([(x, y, z, 1.0) for x in ends[0] for y in ends[1] for z in ends[2]])

"""One case as every view shows it: its images, its masks, what a run predicted, cropped to the head and ready to draw."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbench.cohort.table import Cohort
from workbench.errors import InputError
from workbench.geometry import Grid
from workbench.labels import regions_of
from workbench.views.cases.images import (
    DISAGREEMENT_COLOURS,
    DisplayVolume,
    LabelColour,
    Volume,
    centre_of,
    colours_of,
    disagreement,
    display_box,
    nifti_bytes,
    read_brain,
    read_labels,
    read_truth,
    read_volume,
    region_volumes,
)
from workbench.views.cases.map_names import map_order, map_title
from workbench.views.cases.planes import MAP_FLOOR

NONE, TRUTH, PREDICTION, DISAGREEMENT, MAP = "none", "truth", "prediction", "disagreement", "map:"
CASES_KEPT = 12
"""Cases kept in memory by `open_case`: some 25 MB each for a BraTS case with four modalities."""


@dataclass(frozen=True)
class Overlay:
    """What lies over an image: labels with their colours, or a continuous map in 256 steps (`value = low + step * array`)."""

    volume: Volume
    colours: tuple[LabelColour, ...] = ()
    name: str = ""
    low: float = 0.0
    step: float = 1.0

    @property
    def is_map(self) -> bool:
        """Whether it is a continuous map."""
        return not self.colours

    @property
    def range(self) -> tuple[float, float]:
        """Values at the ends of a continuous map's colours; what is below is not drawn."""
        return self.low + MAP_FLOOR * 255 * self.step, self.low + 255 * self.step

    def nifti(self) -> bytes:
        """As a gzip NIfTI file in memory."""
        return nifti_bytes(self.volume, slope=self.step, intercept=self.low, labels=not self.is_map)


class CaseView:
    """The images and masks of one case, read when first asked for and then kept.

    Positions are in mm, RAS+; all volumes are cropped to the brain and whatever is drawn in or beside it.

    Args:
        cohort: where the case is.
        case: its name.
        prediction: a run's predicted labels of the case, canonical, or None.
        maps: name -> NIfTI file of a run's maps of the case.
    """

    def __init__(self, cohort: Cohort, case: str, prediction: Path | None = None, maps: dict[str, Path] | None = None) -> None:
        self.cohort = cohort
        self.case = case
        self.row = cohort.row(case)
        self.modalities = cohort.present(case)
        self.maps = dict(maps or {})
        self._prediction_path = prediction if prediction is not None and prediction.is_file() else None
        self._lock = threading.RLock()
        self._made: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    @property
    def truth(self) -> Volume | None:
        """The annotators' labels, cropped; None where the case has no mask."""
        return self._once(TRUTH, lambda: self._crop(self._whole_truth))

    @property
    def prediction(self) -> Volume | None:
        """The predicted labels, cropped; None where there are none."""
        return self._once(PREDICTION, lambda: self._crop(self._whole_prediction))

    @functools.cached_property
    def _whole_truth(self) -> Volume | None:
        return read_truth(self.cohort, self.case)

    @functools.cached_property
    def _whole_prediction(self) -> Volume | None:
        if self._prediction_path is None:
            return None
        return read_labels(self._prediction_path, case=self.case, channel="prediction")

    @property
    def label_set(self) -> str:
        """What the annotators could draw; 'glioma' or 'lesion' after the prediction's values where the case has no mask."""
        drawn = self.row["labels"]
        if isinstance(drawn, str) and drawn and self.cohort.path(self.case, "segmentation") is not None:
            return drawn
        found = self.cohort.cases["labels"].dropna().unique()
        return str(found[0]) if len(found) == 1 else "glioma"

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that can be judged on this case."""
        return regions_of(self.label_set)

    @property
    def _corners(self) -> np.ndarray:
        """Corners (8, 3), in mm, of the box that is shown: of the image that was first asked for."""
        if "corners" not in self._made:
            self.image(self.modalities[0])
        return self._made["corners"]

    def _find_corners(self, image: Volume, brain: np.ndarray) -> np.ndarray:
        masks = [brain]
        for name in ("_whole_truth", "_whole_prediction"):
            with contextlib.suppress(InputError):  # said when that overlay is asked for; the images are shown all the same
                labels = getattr(self, name)
                if labels is not None:
                    masks.append(labels.on(image.grid).array > 0)
        margin = max(1, round(5 / min(image.spacing)))
        low, high = display_box(image.array.shape, *masks, margin=margin)
        corners = np.array(list(itertools.product(*((a, b - 1) for a, b in zip(low, high, strict=True)))))
        return corners @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3]

    def _crop(self, volume: Volume | None) -> Volume | None:
        if volume is None:
            return None
        return volume.crop(*self._voxels(volume.grid))

    def _voxels(self, grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The box in voxels of a grid, low <= index < high."""
        affine = np.linalg.inv(grid.affine)
        found = self._corners @ affine[:3, :3].T + affine[:3, 3]
        low = np.clip(np.floor(found.min(0) + 1e-3), 0, np.array(grid.shape) - 1).astype(int)
        high = np.clip(np.ceil(found.max(0) - 1e-3) + 1, low + 1, grid.shape).astype(int)
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    def _path(self, modality: str) -> Path:
        path = self.cohort.path(self.case, modality)
        assert path is not None, (self.case, modality)
        return path

    def image(self, modality: str) -> DisplayVolume:
        """A modality ready to draw, on its own grid.

        Raises:
            InputError: its file cannot be used.
        """
        return self._once(("image", modality), lambda: self._read_image(modality))

    def _read_image(self, modality: str) -> DisplayVolume:
        whole = read_volume(self._path(modality), case=self.case, channel=modality)
        brain = read_brain(self.cohort, self.case, whole)
        if "corners" not in self._made:
            self._made["corners"] = self._find_corners(whole, brain)
        box = self._voxels(whole.grid)
        return DisplayVolume.of(whole.crop(*box), brain[tuple(slice(a, b) for a, b in zip(*box, strict=True))])

    def image_nifti(self, modality: str) -> bytes:
        """A modality as gzip NIfTI, for the volume viewer."""
        return self._once(("nifti", modality), lambda: self.image(modality).nifti())

    def overlay_names(self) -> dict[str, str]:
        """Title -> key of the overlays that this case has."""
        found = {"No overlay": NONE}
        if self.cohort.path(self.case, "segmentation") is not None and self.cohort.label_convention(self.case) is not None:
            found["Truth"] = TRUTH
        if self._prediction_path is not None:
            found["Prediction"] = PREDICTION
        if TRUTH in found.values() and PREDICTION in found.values():
            found["Disagreement"] = DISAGREEMENT
        return found | {f"Map: {map_title(name)}": MAP + name for name in self.maps}

    def overlay(self, key: str, region: str = "WT") -> Overlay | None:
        """An overlay by its key; None for 'none' and for what this case does not have.

        Args:
            key: a value of `overlay_names`.
            region: the region whose disagreement is wanted.
        """
        if key == DISAGREEMENT and region not in self.regions:
            region = self.regions[0]
        return self._once(("overlay", key, region if key == DISAGREEMENT else ""), lambda: self._make_overlay(key, region))

    def overlay_nifti(self, key: str, region: str = "WT") -> bytes:
        """An overlay as gzip NIfTI; empty where there is none."""
        overlay = self.overlay(key, region)
        return b"" if overlay is None else self._once(("overlay nifti", key, id(overlay)), overlay.nifti)

    def _make_overlay(self, key: str, region: str) -> Overlay | None:
        if key.startswith(MAP) and key.removeprefix(MAP) in self.maps:
            return self._make_map(key.removeprefix(MAP))
        if key == TRUTH and self.truth is not None:
            return Overlay(self.truth, colours_of(self.label_set))
        if key == PREDICTION and self.prediction is not None:
            return Overlay(self.prediction, colours_of(self.label_set))
        if key == DISAGREEMENT and self.truth is not None and self.prediction is not None:
            found = self.prediction.on(self.truth.grid)
            return Overlay(Volume(disagreement(self.truth.array, found.array, region), self.truth.grid), DISAGREEMENT_COLOURS)
        return None

    def _make_map(self, name: str) -> Overlay:
        volume = self._crop(read_volume(self.maps[name], case=self.case, channel=name))
        assert volume is not None
        low, high = min(0.0, float(volume.array.min())), float(volume.array.max())
        step = max(high - low, 1e-9) / 255
        array = np.clip(np.round((volume.array - low) / step), 0, 255).astype(np.uint8)
        return Overlay(Volume(array, volume.grid), name=map_title(name), low=low, step=step)

    def centre(self) -> tuple[float, float, float]:
        """Where to look first, in mm: the middle of the truth's or else the prediction's lesion, else of the image."""
        for labels in self._readable_labels().values():
            if labels.array.any():
                return labels.position(centre_of(labels.array > 0))
        grid = self.image(self.modalities[0]).volume
        x, y, z = (n // 2 for n in grid.array.shape)
        return grid.position((x, y, z))

    def volumes_ml(self) -> dict[str, dict[str, float]]:
        """{'truth' | 'prediction': {region: ml}} for the regions that can be judged."""
        return {name: region_volumes(labels, self.regions) for name, labels in self._readable_labels().items()}

    def _readable_labels(self) -> dict[str, Volume]:
        found = {}
        for name in ("truth", "prediction"):
            with contextlib.suppress(InputError):
                labels = getattr(self, name)
                if labels is not None:
                    found[name] = labels
        return found


_open: OrderedDict[Any, CaseView] = OrderedDict()
_open_lock = threading.Lock()


def open_case(cohort: Cohort, case: str, run_folder: Path | None = None) -> CaseView:
    """The view of a case, with what a run made of it; the last `CASES_KEPT` are kept while their files stay as they are.

    Args:
        cohort: where the case is.
        case: its name.
        run_folder: a run folder with `predictions/` and `maps/`, or None.

    Raises:
        WorkbenchError: no such case.
    """
    prediction, maps = None, {}
    if run_folder is not None:
        prediction = run_folder / "predictions" / f"{case}.nii.gz"
        maps = find_maps(run_folder, case)
    columns = [*cohort.present(case), "segmentation", "brain_mask"]
    paths = [p for p in (*(cohort.path(case, c) for c in columns), prediction, *maps.values()) if p is not None]
    key = (str(cohort.folder), case, str(run_folder))
    stamp = (*(_stamp(path) for path in paths), *map(str, cohort.row(case)))  # its row may change as well as its images
    with _open_lock:
        if key in _open and _open[key]._made.get("stamp") == stamp:
            _open.move_to_end(key)
            return _open[key]
    view = CaseView(cohort, case, prediction, maps)
    view._made["stamp"] = stamp
    with _open_lock:
        _open[key] = view
        _open.move_to_end(key)
        while len(_open) > CASES_KEPT:
            _open.popitem(last=False)
    return view


def find_maps(run_folder: Path, case: str) -> dict[str, Path]:
    """Name -> file of a run's maps of a case, `maps/<case>_<name>.nii.gz`, in the order in which they are read."""
    prefix = f"{case}_"
    files = sorted((run_folder / "maps").glob("*.nii.gz"))
    found = {f.name.removeprefix(prefix).removesuffix(".nii.gz"): f for f in files if f.name.startswith(prefix)}
    return {name: found[name] for name in sorted(found, key=map_order)}


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), state.st_mtime_ns, state.st_size

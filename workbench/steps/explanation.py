"""Explanation maps of a few test cases, as NIfTI on the native grid beside the predictions, and what they say by region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from workbench.explain.attention import attention_maps
from workbench.explain.gradcam import FORMS, gradcam
from workbench.explain.regions import WEIGHT, attribution_rows, modality_weight_rows
from workbench.files import atomic_path
from workbench.inference.export import save_nifti
from workbench.inference.windows import paste
from workbench.models.method import changed_gate
from workbench.prepare.native import to_native
from workbench.prepare.store import PreparedCase
from workbench.records.provenance import register
from workbench.records.run_folder import ATTRIBUTION_FILE, WEIGHTS_FILE
from workbench.setup.run_setup import RunSetup
from workbench.steps.marker_window import MarkerWindow, marker_window
from workbench.steps.prediction import reference_image

if TYPE_CHECKING:
    from workbench.models.method import MethodModule


def explained_cases(setup: RunSetup) -> list[str]:
    """The cases that get maps: the first `maps` of the test split by name."""
    return sorted(setup.cases_by_split["test"]["case"])[: setup.parameters.maps]


def explain_all(setup: RunSetup) -> None:
    """Write `maps/<case>_<map>.nii.gz`, the share of each map inside the regions of the tumour (`attribution.csv`) and, for a
    method that weighs its sequences, their mean weight in each region (`modality_weights.csv`)."""
    run = setup.run
    names = explained_cases(setup)
    if (run.folder / ATTRIBUTION_FILE).is_file() or not names:
        return
    model = setup.trained_model()
    shares, weights = [], []
    for name in setup.progress.over(names, "explaining", len(names)):
        case = setup.prepared.case(name)
        truth = case.labels()
        window = marker_window(setup, case)
        looked_at = paste(torch.ones(window.shape), window.start, case.shape).numpy() * case.brain() > 0
        maps = case_maps(setup, model, case, window)
        for key, values in maps.items():
            native = to_native(values[None], case)[0]
            path = run.path("maps", f"{name}_{key}.nii.gz")
            save_nifti(native, case.native, path, kind="map", source=reference_image(setup.cohort, name))
            if truth is not None and case.label_set and not key.startswith(WEIGHT) and values.min() >= 0:
                shares.append(attribution_rows(values, truth, looked_at, case.label_set).assign(case=name, map=key))
        weights.append(modality_weight_rows(maps, truth, looked_at, case.label_set).assign(case=name))
    _write(setup, WEIGHTS_FILE, weights, ["case", "region", "modality", "weight", "voxels"])
    # written last: its presence means that all maps are there
    _write(setup, ATTRIBUTION_FILE, shares, ["case", "map", "region", "share", "chance"])
    register(run.folder, "maps")


def _write(setup: RunSetup, name: str, parts: list[pd.DataFrame], columns: list[str]) -> None:
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)
    with atomic_path(setup.run.path(name)) as temporary:
        table.to_csv(temporary, index=False)


def case_maps(setup: RunSetup, model: MethodModule, case: PreparedCase, window: MarkerWindow) -> dict[str, np.ndarray]:
    """All maps of a case on its prepared grid, from the window in which its markers are read; zero elsewhere.

    The method's own maps; `gradcam_<marker>` and `gradcampp_<marker>` (Grad-CAM++), `tumour` instead of a marker being the
    segmentation; and for a method that reads markers through a tumour gate `<map>_open`: its own maps and Grad-CAM of the
    markers with the gate open everywhere, left out where that changes nothing.
    """
    modalities = setup.modalities
    found = attention_maps(model, window.images, window.present, modalities)
    if model.gated:
        with changed_gate(model, torch.ones_like):
            opened = attention_maps(model, window.images, window.present, modalities)
        found |= {f"{name}_open": values for name, values in opened.items() if name != "gate" and _differ(values, found[name])}
    chosen = setup.parameters.cam
    targets = ("", *setup.markers) if setup.segments else setup.markers
    for marker in targets if model.cam_layers() else ():
        for form in [form for form in FORMS if chosen in (form, "both")]:
            name = f"{form.replace('++', 'pp')}_{marker or 'tumour'}"
            found[name] = gradcam(model, window.images, window.present, modalities, marker, form=form)
            if marker and model.gated and form == "gradcam":
                with changed_gate(model, torch.ones_like):
                    ungated = gradcam(model, window.images, window.present, modalities, marker, form=form)
                if _differ(ungated, found[name]):
                    found[f"{name}_open"] = ungated
    brain = case.brain()
    return {key: paste(torch.from_numpy(values), window.start, case.shape).numpy() * brain for key, values in found.items()}


def _differ(one: np.ndarray, two: np.ndarray) -> bool:
    return not np.allclose(one, two, atol=1e-6)

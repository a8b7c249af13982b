"""Explanation maps of a few test cases, written as NIfTI on the native grid beside the predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from workbench.contracts import SEGMENTATION
from workbench.experiments.marker_window import marker_window
from workbench.experiments.predicting import reference_image
from workbench.explain.attention import attention_maps, attribution_shares
from workbench.explain.gradcam import gradcam
from workbench.files import atomic_path
from workbench.inference.export import save_nifti
from workbench.inference.windows import paste
from workbench.models.catalogue import card
from workbench.prepare.native import to_native
from workbench.prepare.store import PreparedCase

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment
    from workbench.models.method import MethodModule

ATTRIBUTION_FILE = "maps/attribution.csv"


def explained_cases(experiment: Experiment) -> list[str]:
    """The cases that get maps: the first `maps` of the test split by name."""
    return sorted(experiment.cases_by_split["test"]["case"])[: experiment.parameters.maps]


def explain_all(experiment: Experiment) -> None:
    """Write `maps/<case>_<map>.nii.gz` and, where there is a mask, the share of each map inside ET, NCR and ED."""
    run = experiment.run
    names = explained_cases(experiment)
    if (run.folder / ATTRIBUTION_FILE).is_file() or not names:
        return
    model = experiment.model.to(experiment.device).eval()
    rows = []
    for name in experiment.progress.over(names, "explaining", len(names)):
        case = experiment.prepared.case(name)
        truth = case.labels()
        for key, values in _maps(experiment, model, case).items():
            native = to_native(values[None], case)[0]
            path = run.path("maps", f"{name}_{key}.nii.gz")
            save_nifti(native, case.native, path, kind="map", source=reference_image(experiment.cohort, name))
            if truth is not None and case.label_set.startswith("glioma"):
                rows += [(name, key, region, share) for region, share in attribution_shares(values, truth).items()]
    table = pd.DataFrame(rows, columns=["case", "map", "region", "share"])
    with atomic_path(run.path(ATTRIBUTION_FILE)) as temporary:  # written last: its presence means that all maps are there
        table.to_csv(temporary, index=False)


def _maps(experiment: Experiment, model: MethodModule, case: PreparedCase) -> dict[str, np.ndarray]:
    """All maps of a case on its prepared grid, from the window in which its markers are read."""
    modalities = experiment.modalities
    window = marker_window(experiment, case)
    seen, present, start = window.images, window.present, window.start
    found = attention_maps(model, seen, present, modalities)
    targets = ("", *experiment.markers) if SEGMENTATION in card(experiment.parameters.method).tasks else experiment.markers
    for marker in targets if model.cam_layers() else ():
        found[f"gradcam_{marker or 'tumour'}"] = gradcam(model, seen, present, modalities, marker)
    brain = case.brain()
    return {key: paste(torch.from_numpy(values), start, case.shape).numpy() * brain for key, values in found.items()}

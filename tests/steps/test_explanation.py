"""Explanation maps as they are written: where they lie in the patient, what the tables beside them say, gate on and off."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from workbench.cohort.table import Cohort
from workbench.contracts import Prediction
from workbench.explain.attention import attention_maps
from workbench.models.method import MethodModule, changed_gate
from workbench.models.options_base import MethodOptions
from workbench.models.registry import create_model
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import ATTRIBUTION_FILE, WEIGHTS_FILE
from workbench.steps.explanation import case_maps, explain_all
from workbench.views.cases.map_tables import read_map_table
from workbench.views.cases.view import MAP, open_case

MODALITIES = ("t1", "t1c", "t2", "flair")
CASE = "TINY-00000-000"
SPOT = (30, 33, 21)  # voxel of the window at which the method's map is a ball


class Spotter(MethodModule):
    """Draws a ball at one voxel of its input, and weights of the sequences that add up to 1."""

    name = "spotter"

    def __init__(self) -> None:
        super().__init__(modalities=MODALITIES, classes=4, markers=("idh",), options=MethodOptions())
        self.features = nn.Conv3d(4, 2, 1)

    def cam_layers(self) -> tuple[str, ...]:
        return ("features",)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        features = self.features(images)
        axes = torch.meshgrid(*(torch.arange(n) for n in images.shape[2:]), indexing="ij")
        ball = torch.exp(-sum((axis - centre) ** 2 for axis, centre in zip(axes, SPOT, strict=True)) / 18)[None, None]
        weights = torch.softmax(images, 1)
        drawn = {"spot": ball} | {f"weight_{name}": weights[:, k, None] for k, name in enumerate(MODALITIES)} if maps else {}
        return Prediction(features.repeat(1, 2, 1, 1, 1), {"idh": features.mean((2, 3, 4))[:, :1]}, drawn)


@pytest.fixture(scope="module")
def explained(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("explained")

    def path(*parts: str) -> Path:
        found = folder.joinpath(*parts)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def over(names: Iterable[str], *_: object) -> Iterable[str]:
        return names

    torch.manual_seed(0)
    prepared = prepare_cohort(tiny_cohort, PrepareSettings(spacing=3.0), progress=False)
    model = Spotter()
    experiment = SimpleNamespace(
        parameters=SimpleNamespace(maps=2, cam="both", sampling="whole"), segments=True, markers=("idh",),
        modalities=MODALITIES, cohort=tiny_cohort,
        network=model, trained_model=lambda: model, device="cpu", patch=(64, 64, 48), prepared=prepared,
        run=SimpleNamespace(folder=folder, path=path),
        progress=SimpleNamespace(over=over), cases_by_split={"test": tiny_cohort.cases.head(2)},
    )  # fmt: skip
    explain_all(experiment)  # type: ignore[arg-type]
    return experiment


def test_a_ball_at_a_known_voxel_lies_at_the_same_millimetre_of_the_patient(explained: SimpleNamespace) -> None:
    case = explained.prepared.case(CASE)
    start = [n // 2 - w // 2 for n, w in zip(case.shape, explained.patch, strict=True)]
    assert min(start) < 0, "the window reaches beyond the brain, which must be undone"
    voxel = np.add(SPOT, start)
    wanted = case.affine[:3, :3] @ voxel + case.affine[:3, 3]
    image = nib.load(explained.run.folder / "maps" / f"{CASE}_spot.nii.gz")
    source = nib.load(explained.cohort.path(CASE, "t1"))
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine, atol=1e-5)
    values = image.get_fdata()
    peak = np.array(np.unravel_index(values.argmax(), values.shape))
    found = nib.affines.apply_affine(image.affine, peak)
    assert np.abs(found - wanted).max() <= 0.5 * max(image.header.get_zooms()) + 1e-3
    weights = values / values.sum()
    mean = nib.affines.apply_affine(image.affine, [(weights * axis).sum() for axis in np.indices(values.shape)])
    assert np.linalg.norm(mean - wanted) < 2.0


def test_both_class_activation_maps_of_every_target_are_written(explained: SimpleNamespace) -> None:
    names = {path.name.removeprefix(f"{CASE}_") for path in (explained.run.folder / "maps").glob(f"{CASE}_*")}
    cams = {f"{form}_{target}.nii.gz" for form in ("gradcam", "gradcampp") for target in ("idh", "tumour")}
    assert names == cams | {"spot.nii.gz"} | {f"weight_{name}.nii.gz" for name in MODALITIES}


def test_tables_add_up(explained: SimpleNamespace) -> None:
    shares = pd.read_csv(explained.run.folder / ATTRIBUTION_FILE).dropna()
    assert not shares["map"].str.startswith("weight_").any()
    sums = shares.groupby(["case", "map"])[["share", "chance"]].sum()
    np.testing.assert_allclose(sums, 1)
    weights = read_map_table(explained.run.folder / WEIGHTS_FILE)
    assert set(weights["modality"]) == set(MODALITIES)
    np.testing.assert_allclose(weights.groupby(["case", "region"])["weight"].sum(), 1, rtol=1e-5)


def test_the_dashboard_offers_them_by_readable_names(explained: SimpleNamespace) -> None:
    view = open_case(explained.cohort, CASE, explained.run.folder)
    titles = [title for title, key in view.overlay_names().items() if key.startswith(MAP)]
    assert titles == [
        "Map: Grad-CAM IDH", "Map: Grad-CAM tumour", "Map: Grad-CAM++ IDH", "Map: Grad-CAM++ tumour", "Map: spot",
        "Map: Weight of FLAIR", "Map: Weight of T1", "Map: Weight of T1c", "Map: Weight of T2",
    ]  # fmt: skip
    overlay = view.overlay(MAP + "weight_t1c")
    assert overlay is not None
    assert overlay.name == "Weight of T1c"
    assert 0 < overlay.range[0] < overlay.range[1] <= 1


def test_done_is_not_done_again(explained: SimpleNamespace) -> None:
    before = {path: path.stat().st_mtime_ns for path in explained.run.folder.rglob("*")}
    explain_all(explained)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in explained.run.folder.rglob("*")} == before


@pytest.fixture(scope="module")
def gated() -> MethodModule:
    options = {"modality_channels": 4, "width": 4, "embed": 6, "window": 4, "head_width": 4}
    return create_model("mgmt_net", modalities=MODALITIES, markers=("idh",), seed=0, **options).eval()


IMAGES = torch.randn(1, 4, 16, 24, 16, generator=torch.Generator().manual_seed(0))
PRESENT = torch.ones(1, 4, dtype=torch.bool)


def test_gate_open_is_open_and_is_taken_back(gated: MethodModule) -> None:
    def half(gate: Tensor) -> Tensor:
        return gate * 0.5

    gated.gate_change = half
    with changed_gate(gated, torch.ones_like):
        assert attention_maps(gated, IMAGES, PRESENT, MODALITIES)["gate"] == pytest.approx(1)
    assert gated.gate_change is half
    with pytest.raises(RuntimeError), changed_gate(gated, torch.ones_like):
        raise RuntimeError
    assert gated.gate_change is half
    gated.gate_change = None


def test_a_gated_method_is_asked_with_the_gate_open_too(gated: MethodModule) -> None:
    experiment = SimpleNamespace(
        parameters=SimpleNamespace(cam="gradcam"), segments=True, markers=("idh",), modalities=MODALITIES
    )
    case = SimpleNamespace(shape=(16, 24, 16), brain=lambda: np.ones((16, 24, 16), np.float32))
    window = SimpleNamespace(images=IMAGES, present=PRESENT, start=(0, 0, 0))
    found = case_maps(experiment, gated, case, window)  # type: ignore[arg-type]
    assert {"gradcam_idh", "gradcam_tumour", "gate", "pooling"} <= set(found)
    assert not [name for name in found if name.startswith("gradcampp")], "only Grad-CAM was asked for"
    opened = {name for name in found if name.endswith("_open")}
    assert opened == {"pooling_open"} | ({"gradcam_idh_open"} & set(found))
    gate = attention_maps(gated, IMAGES, PRESENT, MODALITIES)["gate"]
    assert gate.max() < 1, "the gate is as it was"
    np.testing.assert_allclose(sum(found[f"weight_{name}"] for name in MODALITIES), 1, rtol=1e-5)

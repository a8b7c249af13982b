"""What the paper says of MGMT-Net, and our resolutions of what it leaves open."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from mgmt_cases import GIVEN, MARKERS, build, everything, noise

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch, Prediction
from workbench.explain.gradcam import gradcam
from workbench.models.glioma.mgmt_net import MgmtNet, tumour_gate
from workbench.models.losses import segmentation_loss
from workbench.models.registry import create_model


@pytest.fixture
def on_meta(meta: torch.device) -> Any:
    """Models at the paper's size without filling their weights."""

    def make(markers: tuple[str, ...] = MARKERS, classes: int = 4, **options: Any) -> MgmtNet:
        with meta:
            model = create_model("mgmt_net", modalities=GIVEN, classes=classes, markers=markers, **options)
        assert isinstance(model, MgmtNet)
        return model

    return make


def test_parameters_by_component_at_the_papers_size(on_meta: Any) -> None:
    model = on_meta()
    assert model.parameters_by_component() == {
        "fusion": 27 * 16 + 2 * 16 + (64 * 8 + 8) + (8 * 4 + 4), "cnn": 2_410_464, "swin": 2_475_630,
        "join": (128 + 192) * 128 + 128, "decoder": 592_088, "segmentation_head": 17 * 4, "auxiliary_heads": 33 * 4 + 65 * 4,
        "pooling": 128 * 128 + 128, "heads": 3 * (129 * 64 + 65),
    }  # fmt: skip
    assert model.parameter_count() == 5_562_225
    assert on_meta(classes=5).parameter_count() == 5_562_225 + 17 + 33 + 65
    assert model.cnn.widths == (32, 64, 128)
    assert [tuple(stage.blocks[1].shift_size) for stage in model.swin.stages] == [(4, 4, 4)] * 4
    heads = [(len(stage.blocks), block.attn.num_heads, block.dim) for stage in model.swin.stages for block in stage.blocks[:1]]
    assert heads == [(2, 3, 48), (2, 6, 96), (2, 12, 192), (2, 12, 192)]


def shapes(model: MgmtNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("option", "gone", "new", "changed", "difference"),
    [
        ({"fusion": "concat"}, "fusion.gate.", "fusion.mix.", (), 65 * 16 - 520 - 36),
        ({"branch": "cnn"}, "swin.", "cnn.stages.", ("join.weight",), 2_324_224 - 2_475_630 - 192 * 128),
        ({"pooling": "average"}, "pooling.", "", (), -128 * 129),
        ({"gate": "hard"}, "", "", (), 0),
        ({"gate": "none"}, "", "", (), 0),
        ({"squeeze_excitation": False}, "decoder.2.squeeze_excitation.", "", (), -(17 * 8 + 9 * 16)),
        ({"attention_gates": True}, "", ".attention_gate.", (), sum(c * c // 2 * 2 + c // 2 + c // 2 + 1 for c in (64, 32, 16))),
        ({"deep_supervision": False}, "auxiliary_heads.", "", (), -(33 * 4 + 65 * 4)),
        ({"norm": "batch"}, "", "", (), 0),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_an_ablation_changes_what_it_says(
    on_meta: Any, option: dict[str, Any], gone: str, new: str, changed: tuple[str, ...], difference: int
) -> None:
    paper, ablated = shapes(on_meta()), shapes(on_meta(**option))
    removed, added = set(paper) - set(ablated), set(ablated) - set(paper)
    assert removed == {name for name in paper if gone and name.startswith(gone)}
    assert bool(removed) == bool(gone)
    assert bool(added) == bool(new)
    assert all(new in name for name in added)
    if option == {"branch": "cnn"}:
        assert {name.split(".")[3] for name in added} == {"3", "4"}, "two more blocks in each of the three stages"
    assert {name for name in set(paper) & set(ablated) if paper[name] != ablated[name]} == set(changed)
    assert sum(map(math.prod, ablated.values())) - sum(map(math.prod, paper.values())) == difference


def test_the_deeper_cnn_costs_about_what_the_swin_branch_does(on_meta: Any) -> None:
    ratio = on_meta(branch="cnn").parameter_count() / on_meta().parameter_count()
    assert 0.95 < ratio < 1.05


def test_soft_gate_is_the_mean_probability_of_no_background() -> None:
    logits = noise(2, 5, 16, 24, 8)
    gate = tumour_gate(logits, "soft")
    assert gate.shape == (2, 1, 2, 3, 1)
    expected = (1 - logits.softmax(1)[1, 0, 8:16, 16:24, :]).mean()  # the cavity is part of it
    torch.testing.assert_close(gate[1, 0, 1, 2, 0], expected)


def batch(samples: int = 1, side: int = 16, label_set: str = "glioma", classes: int = 4, **markers: list[float]) -> Batch:
    labels = torch.randint(0, classes, (samples, side, side, side), generator=torch.Generator().manual_seed(2))
    known = {name: torch.tensor(values) for name, values in markers.items()}
    return Batch(GIVEN, noise(samples, 4, side, side, side), everything(samples), labels, (label_set,) * samples, known)


@pytest.mark.parametrize(
    ("options", "progress", "reaches"),
    [
        ({}, 0.05, False), ({}, 0.1, True), ({"gate_detached": 0.0}, 0.0, True), ({"gate_detached": 1.0}, 0.99, False),
        ({"gate": "hard"}, 0.5, False), ({"gate": "none"}, 0.5, False),
    ],
    ids=str,
)  # fmt: skip
def test_markers_reach_the_segmentation_through_the_gate_only_when_it_is_open(
    options: dict[str, Any], progress: float, reaches: bool
) -> None:
    model = build(**options).train()
    given = batch(idh=[1.0])
    prediction = model(given.images, given.present)
    terms = model.loss(prediction, given, progress)
    head = model.segmentation_head.weight
    (gradient,) = torch.autograd.grad(terms["idh"], [head], retain_graph=True, allow_unused=True)
    assert (gradient is not None and bool((gradient != 0).any())) == reaches
    (gradient,) = torch.autograd.grad(terms["segmentation"], [head])
    assert bool((gradient != 0).any())


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_the_gate_of_a_trained_model_can_be_replaced(mode: str) -> None:
    model, open_ = build(gate=mode, dropout=0.0).eval(), build(gate="none", dropout=0.0).eval()
    open_.load_state_dict(model.state_dict())
    assert model.gated
    assert not open_.gated
    images, present = noise(1, 4, 16, 16, 16), everything()
    model.gate_change = torch.ones_like
    off = model(images, present, maps=True)
    torch.testing.assert_close(off.markers, open_(images, present).markers, rtol=1e-4, atol=1e-5)
    assert bool((off.maps["gate"] == 1).all())
    assert "gate" not in open_(images, present, maps=True).maps
    # a gate that is open in one cell reads the features there
    mask = torch.zeros(1, 1, 16, 16, 16)
    mask[..., 8:, :8, :8] = 1
    model.gate_change = lambda probability: mask.expand_as(probability)
    prediction = model(images, present, maps=True)
    assert float(prediction.maps["pooling"][0, 0, 1, 0, 0]) == pytest.approx(8, abs=1e-3), "in multiples of the mean"
    assert torch.equal(prediction.segmentation, off.segmentation), "the segmentation is no concern of the gate"


def test_markers_without_a_gate_need_no_decoder() -> None:
    model = build(gate="none").eval()
    images, present = noise(1, 4, 16, 16, 16), everything()
    whole = model(images, present)
    model.decode = None  # type: ignore[assignment, method-assign]
    assert torch.equal(model(images, present, tasks=(MARKER_TASK,)).markers["tert"], whole.markers["tert"])


def test_grad_cam_reads_what_the_markers_are_read_from_with_gate_on_and_off() -> None:
    model = build().eval()
    images, present = noise(1, 4, 32, 32, 32), everything()
    assert model.cam_layers() == ("join",)
    seen = {}
    for name, change in (("on", None), ("off", torch.ones_like)):
        model.gate_change = change
        seen[name] = gradcam(model, images, present, GIVEN, "idh")
        assert seen[name].shape == (32, 32, 32)
    assert not (seen["on"] == seen["off"]).all()


@pytest.mark.parametrize("side", [16, 24, 32])
def test_encoded_map_is_at_an_eighth_and_skips_at_the_other_scales(side: int) -> None:
    model = build().eval()
    encoded, skips = model.encode(noise(1, 4, side, 16, side))
    assert encoded.shape == (1, 16, side // 8, 2, side // 8)
    assert [tuple(skip.shape[1:3]) for skip in skips] == [(8, side // 4), (4, side // 2), (4, side)]


def test_recomputing_activations_changes_nothing() -> None:
    given, found = batch(idh=[1.0]), []
    for checkpointing in (False, True):
        model = build(checkpointing=checkpointing, seed=3).train()
        torch.manual_seed(0)
        terms = model.loss(model(given.images, given.present), given, 0.5)
        found.append(torch.autograd.grad(torch.stack(list(terms.values())).sum(), list(model.fusion.parameters())))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_objective_weighs_the_scales_and_averages_the_markers() -> None:
    model = build(beta=0.6).train()
    given = batch(2, idh=[1.0, 0.0], codel=[1.0, float("nan")])
    prediction = model(given.images, given.present)
    assert [tuple(logits.shape[2:]) for logits in prediction.auxiliary.values()] == [(8, 8, 8), (4, 4, 4)]
    terms = model.loss(prediction, given, 0.5)
    scales = [prediction.segmentation, *prediction.auxiliary.values()]
    labels = given.labels
    assert labels is not None
    # nearest-exact takes voxel 1 of 0 and 1, and voxel 2 of 0 to 3
    coarse = (labels, labels[:, 1::2, 1::2, 1::2], labels[:, 2::4, 2::4, 2::4])
    losses = [segmentation_loss(x, y, given.label_set) for x, y in zip(scales, coarse, strict=True) if x is not None]
    expected = sum(share * loss for share, loss in zip((4 / 7, 2 / 7, 1 / 7), losses, strict=True))
    torch.testing.assert_close(terms["segmentation"], expected)
    logits = prediction.markers["idh"][:, 0]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(terms["idh"], 0.6 / 3 * bce)
    assert float(terms["tert"].detach()) == 0, "known for no sample"
    assert set(terms) == {"segmentation", *MARKERS}


@pytest.mark.parametrize("classes", [4, 5])
@pytest.mark.parametrize("label_set", ["glioma", "glioma_post", "WT", ""])
def test_cohorts_of_masks_and_of_markers_train_together(classes: int, label_set: str) -> None:
    """Multi-source batches: a case with a mask of some kind and no marker, a case with a marker and no mask."""
    model = build(classes=classes).train()
    given = batch(2, classes=5 if label_set == "glioma_post" else 2 if label_set == "WT" else 4, idh=[float("nan"), 1.0])
    given = Batch(GIVEN, given.images, given.present, given.labels, (label_set, ""), given.markers)
    prediction = model(given.images, given.present)
    assert prediction.segmentation is not None
    assert prediction.segmentation.shape[1] == classes
    terms = model.loss(prediction, given, 0.5)
    gradient = torch.autograd.grad(terms["segmentation"], prediction.segmentation, retain_graph=True)[0]
    assert bool((gradient[0] != 0).any()) == bool(label_set)
    assert bool((gradient[1] == 0).all())
    gradient = torch.autograd.grad(terms["idh"], prediction.markers["idh"])[0]
    assert gradient[0] == 0
    assert gradient[1] != 0


def test_whole_tumour_masks_teach_background_against_the_rest_only() -> None:
    model = build(deep_supervision=False)
    given = batch(classes=2, label_set="WT")
    prediction = Prediction(noise(1, 4, 16, 16, 16))
    swapped = Prediction(prediction.segmentation[:, [0, 3, 1, 2]])  # type: ignore[index]
    torch.testing.assert_close(model.loss(prediction, given, 1.0), model.loss(swapped, given, 1.0))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_one_sample_at_the_smallest_size_trains(norm: str) -> None:
    model = build(norm=norm).train()
    given = batch(idh=[1.0], codel=[0.0], tert=[1.0])
    terms = model.loss(model(given.images, given.present), given, 0.5)
    total = torch.stack(list(terms.values())).sum()
    assert all(bool(torch.isfinite(g).all()) for g in torch.autograd.grad(total, list(model.parameters())))


def test_any_marker_can_be_asked_for_and_grade_has_one_or_three_outputs() -> None:
    for classes, outputs in ((2, 1), (3, 3)):
        model = build(("mgmt", "grade"), grade_classes=classes).eval()
        prediction = model(noise(1, 4, 16, 16, 16), everything())
        assert {name: tuple(v.shape) for name, v in prediction.markers.items()} == {"mgmt": (1, 1), "grade": (1, outputs)}


def test_without_markers_it_segments() -> None:
    model = build(()).eval()
    assert set(model.parameters_by_component()).isdisjoint({"pooling", "heads"})
    prediction = model(noise(1, 4, 16, 16, 16), everything())
    assert not prediction.markers
    assert model.stages()[0].tasks == (SEGMENTATION,)


def test_a_rare_class_weighs_at_most_ten_times_a_common_one() -> None:
    model = build(("idh",), beta=1.0)
    model.marker_weights = {"idh": torch.tensor([0.5, 17.0])}
    prediction = Prediction(markers={"idh": torch.zeros(1, 1)})
    batch = Batch(GIVEN, noise(1, 4, 2, 2, 2), everything(), None, ("",), {"idh": torch.tensor([1.0])})
    assert float(model.marker_terms(prediction, batch)["idh"]) == pytest.approx(5.0 * math.log(2))
    assert model.marker_weights["idh"].tolist() == [0.5, 17.0]

"""What the paper says of MTS-UNET, and our departures from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch, Prediction
from workbench.models.glioma.mts_unet import MtsUNet, handed_out, tumour_probability
from workbench.models.registry import create_model

GIVEN = ("t1", "t1c", "t2", "flair")

TINY = {"feature_size": 12, "window": 4, "cmd_channels": 4, "backbones": 1, "checkpointing": False}


def build(markers: tuple[str, ...] = ("idh",), modalities: tuple[str, ...] = GIVEN, **options: Any) -> MtsUNet:
    model = create_model("mts_unet", modalities=modalities, classes=4, markers=markers, **(TINY | options))
    assert isinstance(model, MtsUNet)
    return model


@pytest.fixture
def on_meta(meta: torch.device) -> Any:
    """Models at the paper's size without filling their weights."""

    def make(markers: tuple[str, ...] = ("idh",), classes: int = 4, **options: Any) -> MtsUNet:
        with meta:
            model = create_model("mts_unet", modalities=GIVEN, classes=classes, markers=markers, **options)
        assert isinstance(model, MtsUNet)
        return model

    return make


def test_backbone_has_62_19_million_parameters(on_meta: Any) -> None:
    assert on_meta(markers=()).parameter_count() == 62_191_990
    assert on_meta(markers=(), classes=2).parameter_count() == 62_191_892
    assert sum(p.numel() for p in on_meta(markers=()).backbone.swinViT.parameters()) == 8_063_154


def test_dsf_has_124_46_million_and_124_69_as_published(on_meta: Any) -> None:
    paper = on_meta().parameters_by_component()
    assert paper == {"backbone": 62_191_990, "cmd_backbone": 62_191_990, "cmd": 2 * 64 * 343 + 54, "dsf": 28_770}
    assert sum(paper.values()) == 124_456_708
    published = on_meta(fusion="published")
    assert published.parameter_count() == 124_691_208
    assert published.parameters_by_component()["dsf"] == 226
    assert on_meta(fallback="head").parameter_count() == 124_456_708 + 213_442
    assert on_meta(backbones=1).parameter_count() == 124_456_708 - 62_191_990
    joint = on_meta(markers=("idh", "codel", "grade")).parameters_by_component()
    assert joint["tafe_heads"] == 2 * 213_442, "1p/19q and grade are read from TAFE alone"


@pytest.mark.parametrize(("stages", "width"), [(1, 768), (2, 1152), (3, 1344), (4, 1440)])
def test_tafe_concatenates_the_last_stages(stages: int, width: int) -> None:
    model = build(("codel",), tafe_stages=stages)
    assert model.tafe_heads["codel"][0].in_features * 4 == width  # a quarter of the paper's feature size
    states = [torch.full((2, 12 * 2**i, 2, 2, 2), float(i)) for i in range(5)]
    model.options = model.options.model_copy(update={"normalise": False})
    pooled = model._pool(states)
    assert pooled.shape == (2, width // 4)
    assert pooled[0].unique().tolist() == [float(i) for i in range(5 - stages, 5)]
    assert float(pooled[0, 0]) == 4, "deepest first"


def test_ablations_leave_out_what_they_name() -> None:
    def parts(**options: Any) -> set[str]:
        return set(build(**options).parameters_by_component())

    assert parts() == {"backbone", "cmd", "dsf"}
    assert parts(streams="tafe") == {"backbone", "tafe_heads"}
    assert parts(streams="cmd") == {"backbone", "cmd", "cmd_head", "tafe_heads"}
    assert set(build(("codel", "grade")).parameters_by_component()) == {"backbone", "tafe_heads"}
    assert set(build(()).parameters_by_component()) == {"backbone"}


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_gate_lies_between_its_minimum_and_one(scale: float) -> None:
    model = build()
    logits = scale * torch.randn(2, 4, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    gate = model.gate(logits)
    assert gate.shape == (2, 1, 6, 6, 6)
    assert float(gate.min()) >= 0.1 - 1e-6
    assert float(gate.max()) <= 1.0
    expected = 0.1 + 0.9 * (1 - logits.softmax(1)[:, :1])
    torch.testing.assert_close(gate, expected, rtol=1e-4, atol=1e-5)


def test_cavity_is_not_tumour() -> None:
    logits = torch.full((1, 5, 1, 1, 1), -50.0)
    logits[:, 4] = 50
    assert float(tumour_probability(logits)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("gate", "reaches"), [("attached", True), ("detached", False)])
def test_gate_passes_gradients_only_when_attached(gate: str, reaches: bool) -> None:
    logits = torch.randn(1, 4, 4, 4, 4, requires_grad=True)
    assert build(gate=gate).gate(logits).requires_grad == reaches


FORMS = [
    {"fusion": "features", "fallback": "shared"}, {"fusion": "features", "fallback": "head"}, {"fusion": "published"},
    {"streams": "cmd"},
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_a_case_without_t2_or_flair_gets_tafes_answer_exactly(form: dict[str, str]) -> None:
    model = build(**form).eval()
    tafe = torch.randn(2, 192, generator=torch.Generator().manual_seed(0))
    cmd = torch.randn(2, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    logits = model._classify(tafe, cmd, torch.tensor([True, False]))["idh"]
    if "idh" in model.tafe_heads:
        alone = handed_out(model.tafe_heads["idh"](tafe))
    else:
        assert model.dsf is not None
        alone = handed_out(model.dsf(torch.cat([tafe, torch.zeros(2, 8)], 1)))
    assert torch.equal(logits[1], alone[1])
    assert not torch.equal(logits[0], alone[0])
    (gradient,) = torch.autograd.grad(logits.sum(), cmd)
    assert bool((gradient[1] == 0).all())
    assert bool((gradient[0] != 0).any())
    everything_absent = model._classify(tafe, None, torch.tensor([False, False]))["idh"]
    assert torch.equal(everything_absent[1], alone[1])


def test_cmd_needs_both_t2_and_flair_and_is_dropped_in_training() -> None:
    model = build(cmd_dropout=0.3)
    volume, present = torch.zeros(4000, 4, 1, 1, 1), torch.ones(4000, 4, dtype=torch.bool)
    present[:1000, 2] = False
    present[1000:2000, 3] = False
    present[2000:3000, :2] = False
    kept = model.eval().cmd_available(volume, present)
    assert kept.view(4, 1000).sum(1).tolist() == [0, 0, 1000, 1000]
    torch.manual_seed(0)
    kept = model.train().cmd_available(volume, present)
    assert kept[:2000].sum() == 0
    assert float(kept[2000:].float().mean()) == pytest.approx(0.7, abs=0.04)
    torch.manual_seed(0)
    assert torch.equal(kept, model.cmd_available(volume, present)), "a step's drop-out is a function of its seed"


def test_without_t2_among_its_modalities_it_says_that_there_is_no_cmd() -> None:
    model = build(modalities=("t1c", "flair"))
    assert not model.has_cmd
    assert "t2 and flair" in model.notes[0]
    assert not build().notes


def test_two_outputs_are_one_logit() -> None:
    outputs = torch.randn(5, 2)
    torch.testing.assert_close(torch.sigmoid(handed_out(outputs)), outputs.softmax(1)[:, 1:])
    assert handed_out(torch.randn(5, 3)).shape == (5, 3)


def test_objective_is_alpha_segmentation_plus_beta_markers() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = Prediction(torch.randn(1, 4, 4, 4, 4, generator=generator), {"idh": torch.randn(1, 1, generator=generator)})
    labels = torch.randint(0, 4, (1, 4, 4, 4), generator=generator)
    batch = Batch(GIVEN, torch.zeros(1, 4, 4, 4, 4), torch.ones(1, 4).bool(), labels, ("glioma",), {"idh": torch.ones(1)})
    plain, weighted = build().loss(prediction, batch, 0), build(alpha=0.5, beta=0.25).loss(prediction, batch, 0)
    torch.testing.assert_close(weighted["segmentation"], 0.5 * plain["segmentation"])
    torch.testing.assert_close(weighted["idh"], 0.25 * plain["idh"])
    model = build()
    model.marker_weights = {"idh": torch.tensor([1.0, 3.0])}
    torch.testing.assert_close(model.loss(prediction, batch, 0)["idh"], 3 * plain["idh"])


def test_segmentation_first_is_a_stage() -> None:
    first, joint = build(segmentation_first=0.3).stages()
    assert (first.share, first.tasks) == (0.3, (SEGMENTATION,))
    assert (joint.share, joint.tasks) == (pytest.approx(0.7), (SEGMENTATION, MARKER_TASK))
    assert [stage.name for stage in build().stages()] == ["joint"]


def test_grade_has_two_or_three_classes() -> None:
    tafe = torch.randn(2, 192)
    for classes, shape in ((2, (2, 1)), (3, (2, 3))):
        model = build(("grade",), grade_classes=classes)
        assert model._classify(tafe, None, torch.zeros(2, dtype=torch.bool))["grade"].shape == shape


@pytest.fixture(scope="module")
def passes() -> tuple[MtsUNet, Tensor, Tensor, Prediction]:
    model = build(("idh", "codel"), backbones=2).eval()
    volume = torch.randn(2, 4, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    present = torch.ones(2, 4, dtype=torch.bool)
    present[1, 3] = False
    with torch.no_grad():
        return model, volume, present, model(volume, present, maps=True)


def test_backbone_computes_what_monais_does(passes: tuple[MtsUNet, Tensor, Tensor, Prediction]) -> None:
    model, volume, present, prediction = passes
    with torch.no_grad():
        arranged, _ = model.arrange(volume[:1], present[:1])
        theirs = SwinUNETR.forward(model.backbone, arranged)
    assert prediction.segmentation is not None
    torch.testing.assert_close(prediction.segmentation[:1], theirs, rtol=1e-4, atol=1e-4)


def test_gate_comes_from_the_second_backbone_and_maps_are_on_the_images_grid(
    passes: tuple[MtsUNet, Tensor, Tensor, Prediction],
) -> None:
    model, _, _, prediction = passes
    assert model.cmd_backbone is not None
    assert prediction.segmentation is not None
    torch.testing.assert_close(prediction.maps["gate"], model.gate(prediction.auxiliary["gate_segmentation"]))
    assert not torch.allclose(prediction.maps["gate"], model.gate(prediction.segmentation), atol=1e-3)
    assert {name: tuple(m.shape) for name, m in prediction.maps.items()} == dict.fromkeys(
        ("gate", "cmd_attention"), (2, 1, 64, 64, 64)
    )


def test_a_broken_cmd_cannot_touch_a_case_without_flair(passes: tuple[MtsUNet, Tensor, Tensor, Prediction]) -> None:
    model, volume, present, prediction = passes
    assert model.cmd is not None
    kept = model.cmd.conv_t2.weight.detach().clone()
    try:
        with torch.no_grad():
            model.cmd.conv_t2.weight.fill_(float("nan"))
            logits = model(volume, present, tasks=(MARKER_TASK,))
        assert logits.segmentation is None
        assert bool(torch.isnan(logits.markers["idh"][0]).all())
        assert torch.equal(logits.markers["idh"][1], prediction.markers["idh"][1])
        assert torch.equal(logits.markers["codel"], prediction.markers["codel"])
    finally:
        with torch.no_grad():
            model.cmd.conv_t2.weight.copy_(kept)


IDH_STREAM = {"cmd", "cmd_backbone", "dsf"}


@pytest.mark.parametrize(
    ("options", "gone", "new", "reshaped"),
    [
        ({"streams": "tafe"}, IDH_STREAM, {"tafe_heads.idh"}, set()),  # TAFE only
        ({"streams": "cmd"}, {"dsf"}, {"cmd_head", "tafe_heads.idh"}, set()),  # CMD only, TAFE where T2 or FLAIR is missing
        ({"fusion": "published"}, set(), {"cmd_head", "tafe_heads.idh"}, {"dsf.0.weight"}),
        ({"fallback": "head"}, set(), {"tafe_heads.idh"}, set()),
        ({"backbones": 1}, {"cmd_backbone"}, set(), set()),  # the light variant, ours
        ({"tafe_stages": 3}, set(), set(), {"dsf.0.weight", "tafe_heads.codel.0.weight"}),
        *[
            (same, set(), set(), set())
            for same in (
                {"alpha": 0.0}, {"gate": "none"}, {"gate": "detached"}, {"attention": "published"}, {"gamma": 1.0},
                {"cmd_dropout": 0.0}, {"segmentation_first": 0.5}, {"normalise": False}, {"merging": "legacy"}, {"min_gate": 0.0},
            )
        ],
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_switch_changes_what_it_says_and_nothing_else(
    on_meta: Any, options: dict[str, Any], gone: set[str], new: set[str], reshaped: set[str]
) -> None:
    def shapes(**chosen: Any) -> dict[str, tuple[int, ...]]:
        model = on_meta(("idh", "codel"), **(TINY | {"backbones": 2} | chosen))
        return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}

    def inside(names: set[str], parts: set[str]) -> bool:
        return all(any(name.startswith(f"{part}.") for part in parts) for name in names)

    before, after = shapes(), shapes(**options)
    assert inside(before.keys() - after.keys(), gone)
    assert inside(after.keys() - before.keys(), new)
    assert {part for part in gone if not any(name.startswith(f"{part}.") for name in after)} == gone
    assert {part for part in new if any(name.startswith(f"{part}.") for name in after)} == new
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == reshaped


def test_alpha_zero_drops_the_segmentations_gradient() -> None:
    prediction = Prediction(segmentation=torch.randn(1, 4, 8, 8, 8, requires_grad=True), markers={"idh": torch.zeros(1, 1)})
    batch = Batch(
        ("t1",), torch.zeros(1, 1, 8, 8, 8), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 8, 8, 8, dtype=torch.long),
        ("glioma",), {"idh": torch.tensor([1.0])},
    )  # fmt: skip
    terms = build(alpha=0.0, beta=2.0).loss(prediction, batch, 0.0)
    assert float(terms["segmentation"].detach()) == 0
    assert float(terms["idh"]) == pytest.approx(2 * 0.693147, rel=1e-5)


def test_no_gate_is_one_everywhere() -> None:
    model = build(gate="none")
    assert not model.gated
    assert bool((model.gate(torch.randn(1, 4, 6, 6, 6)) == 1).all())


def test_a_changed_gate_is_what_is_used() -> None:
    model = build()
    assert model.gated
    model.gate_change = torch.zeros_like
    gate = model.gate(torch.randn(1, 4, 6, 6, 6))
    torch.testing.assert_close(gate, torch.full_like(gate, 0.1))


@pytest.mark.slow
def test_all_fifteen_subsets_have_an_answer_of_their_own() -> None:
    """Every non-empty subset of four sequences, in one batch: finite, and no two the same."""
    model = build(("idh", "codel")).eval()
    subsets = [tuple(bool(number >> k & 1) for k in range(4)) for number in range(1, 16)]
    images = torch.randn(1, 4, 64, 64, 64, generator=torch.Generator().manual_seed(0)).expand(15, -1, -1, -1, -1)
    with torch.inference_mode():
        prediction = model(images, torch.tensor(subsets), GIVEN)
    assert prediction.segmentation is not None
    for logits in (prediction.segmentation.flatten(1), *prediction.markers.values()):
        assert bool(torch.isfinite(logits).all())
        assert len(torch.unique(logits, dim=0)) == 15

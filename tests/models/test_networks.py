"""The baseline networks: exact sizes, and what is special about each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch
from workbench.errors import ParameterError
from workbench.models.baselines.attention_unet import AttentionUNet
from workbench.models.baselines.unetr import UNETR
from workbench.models.losses import segmentation_loss
from workbench.models.registry import create_model

FOUR = ("t1", "t1c", "t2", "flair")


def count(method: str, meta: torch.device, **how: Any) -> int:
    """Parameters, on the meta device."""
    with meta:
        return create_model(method, **{"modalities": FOUR, "classes": 4} | how).parameter_count()


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("segresnet", {}, 18_798_660),
        ("segresnet", {"width": 16}, 4_702_244),
        ("unetr", {}, 102_449_732),
        ("attention_unet", {}, 5_910_460),
        ("mednext", {"variant": "S"}, 5_554_932),
        ("mednext", {"variant": "B"}, 10_514_868),
        ("mednext", {"variant": "M"}, 17_537_524),
        ("mednext", {"variant": "L"}, 61_730_772),
        ("mednext", {"variant": "L", "kernel": 5}, 62_944_404),
        ("swin_unetr", {}, 62_191_990),
        ("densenet121", {"markers": ("idh",)}, 11_309_505),
    ],
)
def test_sizes_are_the_published_ones(method: str, options: dict[str, Any], expected: int, meta: torch.device) -> None:
    assert count(method, meta, **options) == expected


def test_sizes_agree_with_what_the_papers_report(meta: torch.device) -> None:
    """Where a paper counts, ours is MONAI's: within a percent or two, apart from what the docstrings name."""
    unetr = count("unetr", meta, modalities=("t1",), classes=2, positions=96)
    assert unetr + 12 * 17 == 92_784_046  # the paper's 14 classes: 12 more outputs of 16 features and a bias
    assert (unetr + 12 * 17) / 92.58e6 == pytest.approx(1, abs=0.003)
    large = count("mednext", meta)
    assert large / 61.8e6 == pytest.approx(1, abs=0.005)


def test_parameters_follow_channels_and_classes_where_they_should(meta: torch.device) -> None:
    width, kernel = 32, 27
    base = count("segresnet", meta)
    assert count("segresnet", meta, modalities=("t1",)) == base - 3 * width * kernel
    assert count("segresnet", meta, classes=5) == base + width + 1
    tokens = count("unetr", meta, positions=96) - count("unetr", meta)
    assert tokens == (6**3 - 8**3) * 768  # position embeddings alone


def test_an_unset_width_is_the_published_one_and_is_recorded() -> None:
    model = create_model("segresnet", modalities=("t1",), width=-1)
    assert model.architecture()["options"]["width"] == 32  # type: ignore[index]
    with pytest.raises(ParameterError, match="multiple of 8"):
        create_model("segresnet", modalities=("t1",), width=12)
    with pytest.raises(ParameterError, match="positive"):
        create_model("mednext", modalities=("t1",), width=0)
    with pytest.raises(ParameterError, match="'heads'"):
        create_model("unetr", modalities=("t1",), hidden=100, heads=12)


@pytest.mark.parametrize(
    ("method", "options", "side"),
    [
        ("segresnet", {"width": 8}, 16),
        ("unetr", {"width": 4, "hidden": 24, "heads": 2, "mlp": 48, "positions": 32}, 32),
        ("attention_unet", {"width": 4, "depth": 3}, 16),
        ("mednext", {"width": 4, "variant": "S"}, 32),
    ],
)
@pytest.mark.parametrize(("classes", "label_set"), [(2, "lesion"), (4, "WT"), (5, "glioma_post")])
def test_any_number_of_sequences_and_classes(
    method: str, options: dict[str, Any], side: int, classes: int, label_set: str
) -> None:
    given = ("flair", "dwi", "adc")[: 1 + classes % 3]
    model = create_model(method, modalities=given, classes=classes, **options).train()
    images = torch.randn(1, len(given), side, side, side, generator=torch.Generator().manual_seed(0))
    labels = (images[:, 0] > 1).long()
    prediction = model(images, torch.ones(1, len(given), dtype=torch.bool), given)
    assert prediction.segmentation.shape == (1, classes, side, side, side)
    batch = Batch(given, images, torch.ones(1, len(given), dtype=torch.bool), labels, (label_set,), {})
    total = torch.stack(list(model.loss(prediction, batch, 0.0).values())).sum()
    total.backward()
    assert torch.isfinite(total)


# -- UNETR -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unetr() -> UNETR:
    model = create_model("unetr", modalities=FOUR, width=4, hidden=24, heads=2, mlp=48, positions=32)
    assert isinstance(model, UNETR)
    return model.eval()


def test_at_its_own_grid_unetr_is_monais(unetr: UNETR) -> None:
    images = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, monais in ((unetr.segment(images)[0], unetr.net(images)),):
            torch.testing.assert_close(ours, monais, rtol=1e-5, atol=1e-5)


def test_position_embeddings_are_interpolated_on_the_grid(unetr: UNETR) -> None:
    """A constant embedding stays constant whatever the grid; the real one keeps the order of its axes."""
    embedding = unetr.net.vit.patch_embedding
    learned = embedding.position_embeddings.detach().clone()
    x = torch.arange(2.0).repeat_interleave(4)[None, :, None].expand(1, 8, 24)  # 0 in the first half along X, 1 in the second
    try:
        embedding.position_embeddings.data.copy_(x)
        silent = torch.zeros(1, 4, 64, 32, 48)
        bias = embedding.patch_embeddings.bias.detach()
        found = (unetr.tokens(silent) - bias).reshape(4, 2, 3, 24).detach()
    finally:
        embedding.position_embeddings.data.copy_(learned)
    expected = torch.tensor([0.0, 0.25, 0.75, 1.0])[:, None, None, None].expand(4, 2, 3, 24)
    torch.testing.assert_close(found, expected)


def test_unetr_reads_the_whole_sequence_of_tokens(unetr: UNETR) -> None:
    """One far voxel reaches the other end of the volume: attention is global."""
    images = torch.zeros(1, 4, 64, 16, 16, requires_grad=True)
    unetr.segment(images)[0][0, 0, 0, 0, 0].backward()
    assert images.grad is not None
    assert float(images.grad[..., 48:, :, :].abs().sum()) > 0


# -- Attention U-Net ---------------------------------------------------------------------------------------------------


def test_gates_lie_between_zero_and_one_at_their_levels_resolution() -> None:
    model = create_model("attention_unet", modalities=FOUR, width=4, depth=4)
    assert isinstance(model, AttentionUNet)
    images, present = torch.randn(1, 4, 16, 24, 16), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        plain, mapped = model.eval()(images, present), model(images, present, maps=True)
    assert list(mapped.maps) == ["gate1", "gate2", "gate3"]
    assert [tuple(gate.shape) for gate in mapped.maps.values()] == [(1, 1, 16, 24, 16), (1, 1, 8, 12, 8), (1, 1, 4, 6, 4)]
    assert all(0 <= float(gate.min()) <= float(gate.max()) <= 1 for gate in mapped.maps.values())
    assert torch.equal(plain.segmentation, mapped.segmentation)
    assert not plain.maps
    assert not any(module._forward_hooks for module in model.modules()), "hooks must not stay"


def test_a_closed_gate_silences_its_skip() -> None:
    model = create_model("attention_unet", modalities=("t1",), width=4, depth=2)
    assert isinstance(model, AttentionUNet)
    (gate,) = model.eval().gates()
    seen: list[Tensor] = []
    gate.register_forward_hook(lambda module, given, output: seen.append(output))
    gate.psi[1].weight.data.zero_()  # batch norm before the sigmoid: alpha is the sigmoid of its bias, everywhere
    gate.psi[1].bias.data.fill_(-200.0)
    with torch.no_grad():
        model(torch.randn(1, 1, 8, 8, 8), torch.ones(1, 1, dtype=torch.bool))
    assert float(seen[0].abs().max()) == 0.0


# -- MedNeXt -----------------------------------------------------------------------------------------------------------


def test_mednext_is_supervised_at_five_resolutions_with_halving_weights() -> None:
    model = create_model("mednext", modalities=("t1",), width=4, variant="S").train()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 1, 32, 32, 32, generator=generator)
    labels = torch.randint(0, 4, (1, 32, 32, 32), generator=generator)
    batch = Batch(("t1",), images, torch.ones(1, 1, dtype=torch.bool), labels, ("glioma",), {})
    prediction = model(images, batch.present)
    outputs = [prediction.segmentation, *prediction.auxiliary.values()]
    assert [output.shape[-1] for output in outputs] == [32, 16, 8, 4, 2]
    expected = 0.0
    for level, output in enumerate(outputs):
        coarse = labels[:, :: 2**level, :: 2**level, :: 2**level] if level == 0 else None
        if coarse is None:
            coarse = torch.nn.functional.interpolate(labels[:, None].float(), size=output.shape[2:], mode="nearest-exact")[
                :, 0
            ].long()
        expected += 0.5**level / 1.9375 * float(segmentation_loss(output, coarse, ("glioma",)).detach())
    assert float(model.loss(prediction, batch, 0.0)["segmentation"].detach()) == pytest.approx(expected, rel=1e-5)
    plain = create_model("mednext", modalities=("t1",), width=4, variant="S", supervise_levels=False).train()
    assert not plain(images, batch.present).auxiliary


# -- DenseNet-121 ------------------------------------------------------------------------------------------------------


def test_densenet_predicts_markers_alone() -> None:
    model = create_model("densenet121", modalities=FOUR, markers=("idh", "grade"), width=4, growth=2, grade_classes=3).eval()
    images, present = torch.randn(1, 4, 64, 64, 64), torch.ones(1, 4, dtype=torch.bool)
    with torch.no_grad():
        prediction = model(images, present)
    assert prediction.segmentation is None
    assert {name: tuple(logits.shape) for name, logits in prediction.markers.items()} == {"idh": (1, 1), "grade": (1, 3)}
    assert not model(images, present, tasks=(SEGMENTATION,)).markers
    assert [stage.tasks for stage in model.stages()] == [(MARKER_TASK,)]


def test_densenet_without_a_marker_is_refused() -> None:
    with pytest.raises(ParameterError, match="none is left to predict"):
        create_model("densenet121", modalities=("t1",))

"""What BrainFM-MRI promises: any sequences by name, nothing from those that are absent, layer norm at the start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from brainfm_cases import GIVEN, SHAPE, SIZES, build, draw, outputs, pretrain
from torch.utils.flop_counter import FlopCounterMode

from workbench.contracts import SEGMENTATION, Batch
from workbench.explain.gradcam import gradcam
from workbench.models.brainfm.encoder import ConditionalLayerNorm
from workbench.models.registry import create_model, flops
from workbench.training.schedule import set_trainable


@pytest.mark.parametrize("padding_mask", [True, False])
def test_without_the_padding_mask_an_absent_sequence_is_read_as_zeros_under_its_name(padding_mask: bool) -> None:
    model = build(padding_mask=padding_mask, modality_embedding="one_hot")
    images, present = draw(2), torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0]]).bool()
    found = outputs(model, images, present)
    found.square().sum().backward()
    reads = model.modality_embedding.vectors.grad.any(1)
    assert reads.tolist() == ([True, False, True, False] if padding_mask else [True] * 4)
    with torch.no_grad():
        other = torch.where(present[:, :, None, None, None], images, torch.full_like(images, float("nan")))
        assert torch.equal(outputs(model, other, present), found), "zeros, not what stands there"
        filled = torch.where(present[:, :, None, None, None], images, torch.zeros_like(images))
        as_zeros = outputs(model, filled, torch.ones(2, 4).bool())
        assert torch.allclose(as_zeros, found, atol=1e-4) != padding_mask
        features = model.pooled_features(images, present)  # of arranged images, of which only some are to be read
        assert torch.equal(features, model.pooled_features(filled, present))


@pytest.mark.parametrize("head", ["unetr", "shallow", "linear"])
def test_absent_sequences_have_no_influence_and_no_gradient(head: str) -> None:
    model = build(head=head)
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 1, 0]]).bool()
    images = draw(3).requires_grad_()
    found = outputs(model, images, present)
    found.square().sum().backward()
    gradient = images.grad.flatten(2).abs().sum(2)
    assert torch.equal(gradient == 0, ~present)
    with torch.no_grad():
        other = torch.where(present[:, :, None, None, None], images, torch.full_like(images, float("nan")))
        assert torch.equal(outputs(model, other, present), found)


def test_one_and_four_sequences_in_a_batch_are_what_they_are_alone() -> None:
    model, images = build(), draw(3)
    present = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]]).bool()
    with torch.no_grad():
        whole = outputs(model, images, present)
        alone = outputs(model, images[1:2, 2:3], torch.ones(1, 1).bool(), ("t2",))
        torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(whole[[0, 2]], outputs(model, images[[0, 2]], present[[0, 2]]), rtol=1e-4, atol=1e-4)


def test_sequences_have_no_order_and_a_copy_of_a_sequence_changes_no_mean() -> None:
    model, images = build(), draw(1)
    order = [2, 0, 3, 1]
    everything = torch.ones(1, 4).bool()
    with torch.no_grad():
        permuted = outputs(model, images[:, order], everything, tuple(GIVEN[i] for i in order))
        torch.testing.assert_close(permuted, outputs(model, images, everything), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_subsets_share_what_can_be_shared() -> None:
    model, images = build(width=48, head_width=8), torch.randn(1, 4, 32, 32, 32)
    rows = torch.tensor([[int(digit) for digit in f"{number:04b}"] for number in range(1, 16)]).bool()

    def operations(work: Callable[[], object]) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops()

    one = operations(lambda: model(images, torch.ones(1, 4).bool(), tasks=(SEGMENTATION,)))
    alone = operations(lambda: [model(images, row[None], tasks=(SEGMENTATION,)) for row in rows])
    together = operations(lambda: model.forward_subsets(images, rows))
    assert together < 0.85 * alone
    assert together < 11 * one, "of 15"


def test_a_frozen_encoder_stays_and_a_linear_probe_is_linear() -> None:
    model = build(freeze=True, head="linear", dropout=0.5).train()
    assert not model.encoder.training
    assert model.head.training
    (stage,) = model.stages()
    trained = [name for name, _ in model.named_parameters() if name.startswith(stage.trainable)]
    assert trained
    assert not [name for name in trained if name.startswith("encoder.")]
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"encoder", *(name.split(".")[0] for name in trained)}
    assert "random" in model.notes[0]
    assert build(freeze=True, pretrained="some.safetensors").notes == ()
    assert model.head.classify.kernel_size == (1, 1, 1)


@pytest.mark.parametrize("markers", [(), ("idh",)])
def test_a_frozen_encoder_can_be_trained_with_and_without_markers(markers: tuple[str, ...]) -> None:
    model = create_model("brainfm", modalities=("t1", "t2"), classes=2, markers=markers, freeze=True, head="linear", **SIZES)
    names = [name for name, _ in model.named_parameters()]
    set_trainable(model, model.stages()[0], names)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in names if not name.startswith("encoder.")}


def test_pooled_features_are_the_mean_of_the_tokens_that_are_there() -> None:
    model = pretrain().eval()
    images, present = model.arrange(draw(2), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1]]).bool())
    tokens = model.token_features(images, present)
    assert tokens.shape == (2, 8, 24)
    torch.testing.assert_close(model.pooled_features(images, present), tokens.mean(1))
    names = model.encoder.modality(GIVEN, images)
    single = model.encoder.tokens(images[1:, [0, 3]], names[[0, 3]]).flatten(1, 2)
    kinds = torch.tensor([[0] * 8 + [3] * 8])
    state = model.encoder(single, names, kinds)[-1]
    torch.testing.assert_close(model.pooled_features(images, present)[1], state[0].mean(0), rtol=1e-4, atol=1e-4)


def test_sizes_at_the_published_setting(meta: torch.device) -> None:
    with meta:
        model = pretrain(token=16, width=768, depth=12, heads=12, mlp=3072, positions=20, decoder_layers=8, decoder_mlp=1024)
        light = pretrain(
            token=16, width=768, depth=12, heads=12, mlp=3072, positions=20, decoder_layers=8, decoder_mlp=1024, decoder="light"
        )
    norms = sum(p.numel() for m in model.modules() if isinstance(m, ConditionalLayerNorm) for p in m.parameters())
    parts = {
        "blocks": sum(p.numel() for p in model.encoder.blocks.parameters()), "norms": norms,
        "decoder": sum(p.numel() for p in model.decoder.layers.parameters()), "positions": model.encoder.positions.numel(),
    }  # fmt: skip
    assert {name: round(count / 1e6) for name, count in parts.items()} == {
        "blocks": 113,
        "norms": 28,
        "decoder": 50,
        "positions": 6,
    }
    assert model.parameter_count() == 176_240_640
    assert light.parameter_count() == 135_576_192
    sizes = {"token": 16, "width": 768, "depth": 12, "heads": 12, "mlp": 3072, "positions": 20}
    with meta:
        text, plain, one_hot, naive = (
            build(**sizes, **option).parameter_count()
            for option in ({}, {"norm": "layer"}, {"modality_embedding": "one_hot"}, {"padding_mask": False})
        )
    assert (text - plain, one_hot - text, naive - text) == (24 * 2 * 768**2, 4 * 768, 0)


@pytest.mark.slow
def test_operations_can_be_counted() -> None:
    """2,048 tokens: 12 layers of 2 (4 D^2 + 2 D F) L + 4 L^2 D, conditional norms and patch embedding beside them."""
    length, width, mlp = 2048, 768, 3072
    encoder = 12 * (2 * length * (4 * width**2 + 2 * width * mlp) + 4 * length**2 * width)
    assert flops("brainfm_pretrain") == pytest.approx(encoder + 2 * length * 4096 * width, rel=0.01)
    assert flops("brainfm") > 1.2 * encoder


def test_the_loss_of_a_case_that_lacks_a_sequence_knows_only_what_it_has() -> None:
    model = pretrain(regularisation="none").train()
    images, present = draw(1), torch.tensor([[1, 0, 1, 0]]).bool()
    torch.manual_seed(0)
    prediction = model(images, present, GIVEN)
    first = model.loss(prediction, Batch(GIVEN, images, present, None, ("",), {}), 0.0)
    other = torch.where(present[:, :, None, None, None], images, torch.full_like(images, 50.0))
    assert model.loss(prediction, Batch(GIVEN, other, present, None, ("",), {}), 0.0) == first


@pytest.mark.parametrize("head", ["unetr", "shallow", "linear"])
def test_grad_cam_reads_the_tumour_and_the_markers(head: str) -> None:
    model = build(head=head, freeze=True)  # markers do not pass through the head: its layers know nothing of them
    for marker in ("", "idh"):
        found = gradcam(model, draw(1), torch.tensor([[True, False, True, True]]), GIVEN, marker)
        assert found.shape == SHAPE
        assert found.max() == 1

"""What BrainFM-MRI promises: any sequences by name, nothing from those that are absent, layer norm at the start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from workbench.contracts import SEGMENTATION, Batch
from workbench.errors import InputError, ParameterError
from workbench.explain.gradcam import gradcam
from workbench.models.brainfm import BrainFM
from workbench.models.brainfm_encoder import Attention, ConditionalLayerNorm, buckets, sinusoids
from workbench.models.brainfm_pretrain import BrainFMPretrain
from workbench.models.modality_embedding import HEADER
from workbench.models.modality_text import PHRASES
from workbench.models.pretrained_file import save_encoder
from workbench.models.registry import create_model, flops
from workbench.models.seen import Seen
from workbench.setup.parameters import ExperimentParameters
from workbench.training.schedule import set_trainable

GIVEN = ("t1", "t1c", "t2", "flair")
SIZES = {"token": 8, "width": 24, "depth": 4, "heads": 2, "mlp": 48, "dropout": 0.0, "positions": 2}
SHAPE = (16, 16, 16)


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFM:
    given = {"head_width": 4, **SIZES, **options}
    model = create_model("brainfm", modalities=modalities, classes=4, markers=("idh",), **given)
    assert isinstance(model, BrainFM)
    return model.eval()


def pretrain(modalities: tuple[str, ...] = GIVEN, **options: Any) -> BrainFMPretrain:
    given = SIZES | {"decoder_layers": 1, "decoder_mlp": 32} | options
    model = create_model("brainfm_pretrain", modalities=modalities, **given)
    assert isinstance(model, BrainFMPretrain)
    return model


def draw(count: int, channels: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, *SHAPE, generator=torch.Generator().manual_seed(seed))


def outputs(model: BrainFM, images: Tensor, present: Tensor, names: tuple[str, ...] = GIVEN) -> Tensor:
    found = model(images, present, names)
    return torch.cat([found.segmentation.flatten(1), found.markers["idh"]], dim=1)


# conditional layer norm


@pytest.mark.parametrize("method", ["brainfm", "brainfm_pretrain"])
def test_conditional_layer_norm_is_layer_norm_in_a_built_model(method: str) -> None:
    """A global initialisation that goes over all linear layers undid this in the published code."""
    model = build() if method == "brainfm" else pretrain()
    norms = [part for part in model.modules() if isinstance(part, ConditionalLayerNorm)]
    assert len(norms) == 2 * SIZES["depth"]  # type: ignore[operator]
    tokens, condition = torch.randn(2, 5, 24) * 3 + 1, torch.randn(4, 24)
    kinds = torch.tensor([[0, 1, 2, 3, 0], [3, 3, 2, 1, 0]])
    for norm in norms:
        torch.testing.assert_close(norm(tokens, condition, kinds), F.layer_norm(tokens, (24,)), rtol=0, atol=0)
    assert all(bool(part.weight.any()) for part in model.encoder.modules() if isinstance(part, nn.Linear) and part not in
               {linear for norm in norms for linear in (norm.gamma, norm.beta)})  # fmt: skip


def test_conditional_layer_norm_is_its_equation() -> None:
    norm = ConditionalLayerNorm(6)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    tokens, condition = torch.randn(1, 3, 6), torch.randn(2, 6)
    found = norm(tokens, condition, torch.tensor([[1, 0, 1]]))
    for place, kind in enumerate((1, 0, 1)):
        h, e = tokens[0, place], condition[kind]
        normed = (h - h.mean()) / torch.sqrt(h.var(unbiased=False) + 1e-5)
        wanted = (1 + norm.gamma.weight @ e + norm.gamma.bias) * normed + norm.beta.weight @ e + norm.beta.bias
        torch.testing.assert_close(found[0, place], wanted)


def test_plain_layer_norm_knows_no_sequence() -> None:
    tokens, kinds = torch.randn(1, 4, 24) * 3 + 1, torch.tensor([[0, 1, 1, 0]])
    for norm in ("layer", "conditional"):
        encoder = build(norm=norm).encoder
        for name, parameter in encoder.blocks.named_parameters():
            if "norm" in name:
                nn.init.normal_(parameter)
        same = torch.equal(*(encoder(tokens, torch.full((2, 24), value), kinds)[0] for value in (0.0, 1.0)))
        assert same == (norm == "layer")
    (first,) = {type(part) for part in build(norm="layer").encoder.modules() if isinstance(part, nn.LayerNorm)}
    torch.testing.assert_close(first(24)(tokens, tokens[0], kinds), F.layer_norm(tokens, (24,)))


# what is not there


def test_buckets_gather_what_each_sample_has() -> None:
    present = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]]).bool()
    found = list(buckets(present))
    assert [bucket.samples.tolist() for bucket in found] == [[1], [0, 2], [3]]
    assert found[1].channels.tolist() == [[0, 2], [1, 3]]
    with pytest.raises(ParameterError, match="sample 1 of the batch has no sequence"):
        list(buckets(torch.tensor([[1, 0], [0, 0]]).bool()))


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


# names


def test_a_sequence_never_seen_is_read_by_its_name() -> None:
    model, images = build(), draw(1, 2)
    shown = torch.ones(1, 2).bool()
    with torch.no_grad():
        swi, again = (outputs(model, images, shown, ("t1", "swi")) for _ in range(2))
        assert torch.equal(swi, again)
        assert bool(torch.isfinite(swi).all())
        assert not torch.allclose(swi, outputs(model, images, shown, ("t1", "anything")))
        assert not torch.allclose(swi, outputs(model, images[:, :1], shown[:, :1], ("t1",))), "it is read"
        torch.testing.assert_close(outputs(model, images, shown, ("t2f", "swi")), outputs(model, images, shown, ("flair", "swi")))
        only = outputs(model, images[:, :1], shown[:, :1], ("swi",))
    assert bool(torch.isfinite(only).all()), "no sequence that it was built for"
    assert model.channels == (*GIVEN, "swi")


@pytest.mark.parametrize("padding_mask", [True, False])
def test_a_subset_that_was_never_asked_for_has_its_own_answer(padding_mask: bool) -> None:
    model, images = build(("t1", "flair"), padding_mask=padding_mask), draw(1)
    with torch.no_grad():
        subsets = model.forward_subsets(images, torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]).bool(), GIVEN)
        for row, logits in zip(([1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]), subsets, strict=True):
            alone = model(images, torch.tensor([row]).bool(), GIVEN).segmentation
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_a_one_hot_embedding_refuses_a_sequence_that_it_was_not_built_for() -> None:
    model, images, shown = build(("t1", "flair"), modality_embedding="one_hot"), draw(1, 2), torch.ones(1, 2).bool()
    with pytest.raises(ParameterError, match="swi: no sequence of a one-hot modality embedding of t1, flair"):
        outputs(model, images, shown, ("t1", "swi"))
    with torch.no_grad():
        torch.testing.assert_close(
            outputs(model, images, shown, ("t2f", "t1")), outputs(model, images.flip(1), shown, ("t1", "flair"))
        )
    assert model.refused(("t1", "t1n", "swi", "dir")) == ["swi", "dir"]
    assert build(("t1", "flair")).refused(("swi", "dir")) == []
    with pytest.raises(ParameterError, match="'embeddings' are vectors of text"):
        build(modality_embedding="one_hot", embeddings="some.safetensors")


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


def test_names_must_suit_the_channels() -> None:
    model = build()
    with pytest.raises(ParameterError, match="2 modality names"):
        model(draw(1), torch.ones(1, 4).bool(), ("swi", "t1"))
    with pytest.raises(ParameterError, match="more than once"):
        model(draw(1, 2), torch.ones(1, 2).bool(), ("swi", "swi"))
    with pytest.raises(ParameterError, match="shows no sequence: brainfm needs any"):
        model(draw(1), torch.zeros(1, 4).bool(), GIVEN)


# places


def test_tokens_and_volumes_are_inverse_and_places_end_with_the_table() -> None:
    encoder = build().encoder
    volume = torch.arange(2 * 16 * 24 * 8.0).view(2, 16, 24, 8)
    patches = encoder.patches(volume)
    assert patches.shape == (2, 2 * 3 * 1, 512)
    assert torch.equal(patches[0, 1].view(8, 8, 8), volume[0, :8, 8:16, :8])
    assert torch.equal(encoder.volumes(patches, (2, 3, 1)), volume)
    places = encoder.places((2, 3, 1)).view(2, 3, 1, 24)
    assert torch.equal(places[1, 1, 0], encoder.positions[1, 1, 0])
    assert not bool(places[:, 2].any()), "beyond the table there is no position"


def test_sinusoids_name_every_place() -> None:
    table = sinusoids(5, 24).view(-1, 24)
    assert len(torch.unique(table.round(decimals=4), dim=0)) == 125
    assert torch.equal(build(positions_start="sinusoidal").encoder.positions.detach().view(-1, 24), sinusoids(2, 24).view(-1, 24))


def test_dropout_is_off_in_evaluation() -> None:
    """MONAI's block drops attention weights in evaluation, too, with the fast attention."""
    attention = Attention(24, 2, 0.5).eval()
    tokens = torch.randn(2, 9, 24)
    assert torch.equal(attention(tokens, tokens), attention(tokens, tokens))
    attention.train()
    assert not torch.equal(attention(tokens, tokens), attention(tokens, tokens))


# pretraining and starting from it


def save(model: BrainFMPretrain, folder: Path) -> Path:
    save_encoder(folder / "encoder", model.encoder_state(), model.encoder_description(), Seen())
    return folder / "encoder.safetensors"


@pytest.mark.parametrize("head", ["unetr", "linear"])
def test_it_starts_from_the_pretrained_encoder(tmp_path: Path, head: str) -> None:
    source = pretrain(("t1", "t2"))
    for norm in source.encoder.modules():
        if isinstance(norm, ConditionalLayerNorm):
            nn.init.normal_(norm.gamma.weight)
    path = save(source, tmp_path)
    model = build(("t1", "dwi"), head=head)
    coverage = model.load_pretrained(path)
    own = model.encoder.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in source.encoder.state_dict().items())
    assert (len(coverage.matched), coverage.total, coverage.missing, coverage.unexpected) == (len(own), len(own), (), ())
    assert coverage.channels["t1"] == "the same sequence"
    assert "diffusion" in coverage.channels["dwi"]
    assert "dwi from its text" in str(coverage)
    images = draw(1, 2)
    first = source.eval()(images, torch.ones(1, 2).bool(), ("t1", "t2")).auxiliary["features"]
    arranged, present = model.arrange(images, torch.ones(1, 2).bool(), ("t1", "t2"))
    torch.testing.assert_close(model.pooled_features(arranged, present), first, rtol=1e-4, atol=1e-4)


def test_another_encoder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = save(pretrain(), tmp_path)
    with pytest.raises(InputError, match="width 24, this model has 48"):
        build(width=48).load_pretrained(path)
    with pytest.raises(InputError, match="set token to 8"):
        build(token=16).load_pretrained(path)
    swin = create_model("pretrain_swin", modalities=("t1",), feature_size=12, window=4, checkpointing=False, projection=8)
    save_encoder(tmp_path / "swin", swin.encoder_state(), swin.encoder_description(), Seen())  # type: ignore[operator]
    with pytest.raises(InputError, match="architecture 'swin', expected 'brainfm'"):
        build().load_pretrained(tmp_path / "swin.safetensors")
    with pytest.raises(InputError, match="does not exist"):
        build().load_pretrained(tmp_path / "none.safetensors")


@pytest.mark.parametrize("option", [{"norm": "layer"}, {"modality_embedding": "one_hot"}, {"padding_mask": False}])
def test_an_encoder_says_which_of_the_papers_parts_it_lacks(tmp_path: Path, option: dict[str, Any]) -> None:
    """As before there were these options it says nothing where it lacks none: earlier files and runs stay what they were."""
    (name, value), default = *option.items(), pretrain()
    told, described = default.encoder_description(), default.architecture()["options"]
    assert not {*told, *described} & {"norm", "modality_embedding", "padding_mask"}  # type: ignore[misc]
    source = pretrain(**option)
    assert source.encoder_description() == {**told, **option}
    assert source.architecture()["options"] == {**described, **option}  # type: ignore[dict-item]
    before, after = (ExperimentParameters.build("brainfm", {"size": "demo"} | given).identity() for given in ({}, option))
    assert (name in before, after) == (False, {**before, **option})
    path = save(source, tmp_path)
    with pytest.raises(InputError, match=f"{name} {value}, this model has .*set {name} to {value}"):
        build().load_pretrained(path)
    model = build(GIVEN[::-1], **option)
    assert not model.load_pretrained(path).missing
    images, present = draw(1), torch.tensor([[1, 1, 0, 1]]).bool()
    with torch.no_grad():
        features = [found.eval().pooled_features(*found.arrange(images, present, GIVEN)) for found in (source, model)]
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)


def test_a_one_hot_encoder_has_no_vector_for_another_sequence(tmp_path: Path) -> None:
    path = save(pretrain(("t1", "t2"), modality_embedding="one_hot"), tmp_path)
    with pytest.raises(InputError, match="knows t1, t2: it has no vector for dwi"):
        build(("t1", "dwi"), modality_embedding="one_hot").load_pretrained(path)


def test_an_encoder_of_other_text_vectors_is_refused(tmp_path: Path) -> None:
    """By the same names it would mean other sequences; with the same file it starts, table and all."""
    header = {HEADER: json.dumps({"format": 1, "phrases": PHRASES})}
    for name in ("one", "two"):
        save_file({"vectors": torch.randn(len(PHRASES), 768)}, tmp_path / f"{name}.safetensors", header)
    first, second = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    path = save(pretrain(embeddings=first), tmp_path)
    for options in ({}, {"embeddings": second}):
        with pytest.raises(InputError, match="set embeddings to the file it was trained with"):
            build(**options).load_pretrained(path)
    model = build(("t1", "private"), embeddings=first)
    coverage = model.load_pretrained(path)
    assert set(coverage.skipped) == {"modality.table"}
    assert not coverage.missing
    assert model.architecture()["options"]["embeddings"].startswith("blake2b:")  # type: ignore[index]


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


# sizes


def test_sizes_at_the_published_setting_are_the_sheets(meta: torch.device) -> None:
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

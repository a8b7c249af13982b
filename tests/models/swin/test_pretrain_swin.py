"""What BrainSegFounder's self-supervision promises: turns, cuboids, contrast, and an encoder that others start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from workbench.contracts import PRETRAINING, Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.pretrained.file import save_encoder
from workbench.models.pretrained.seen import Seen
from workbench.models.registry import create_model, flops
from workbench.models.swin.backbone import SwinBackbone
from workbench.models.swin.pretext import quarter_turns
from workbench.models.swin.pretrain_swin import PretrainSwin

GIVEN = ("t1", "t1c", "t2", "flair")

TINY = {"feature_size": 12, "window": 4, "checkpointing": False, "projection": 16}


def build(modalities: tuple[str, ...] = GIVEN, **options: Any) -> PretrainSwin:
    model = create_model("pretrain_swin", modalities=modalities, **(TINY | options))
    assert isinstance(model, PretrainSwin)
    return model


def test_keys_are_those_of_brainsegfounders_files() -> None:
    model = build(("t1",))
    state = model.state_dict()
    assert len(state) == 142
    assert {name.split(".")[0] for name in state} == {"swinViT", "rotation_head", "contrastive_head", "conv"}
    assert len([name for name in state if not name.startswith("swinViT.")]) == 16
    assert len(build(encoder="small").state_dict()) == 198
    assert model.stages()[0].tasks == (PRETRAINING,)


def test_loss_is_the_sum_of_its_weighted_terms_of_the_turned_uncorrupted_volume() -> None:
    model = build(("t1", "t2"), rotation_weight=2.0, contrastive_weight=0.0, reconstruction_weight=3.0)
    images = torch.randn(2, 2, 4, 4, 4)
    images[1, 0] = 0
    before = images + 1  # before intensity augmentation, in another order of channels
    before[1, 0] = 0
    batch = Batch(("t2", "t1"), images.flip(1), torch.ones(2, 2).bool(), None, ("", ""), {}, target=before.flip(1))
    turns = torch.tensor([0, 1, 2, 3])
    wanted = quarter_turns(torch.cat([before, before]), turns)
    auxiliary = {
        "rotation": 100.0 * F.one_hot(turns, 4).float(), "projection": torch.randn(4, 3), "reconstruction": wanted + 0.5,
        "turns": turns,
    }  # fmt: skip
    terms = model.loss(Prediction(auxiliary=auxiliary), batch, 0.0)
    assert float(terms["rotation"]) == pytest.approx(0, abs=1e-6)
    assert float(terms["contrastive"]) == 0
    assert float(terms["reconstruction"]) == pytest.approx(1.5)
    wrong = auxiliary | {"rotation": torch.zeros(4, 4)}
    assert float(model.loss(Prediction(auxiliary=wrong), batch, 0.0)["rotation"]) == pytest.approx(2 * 1.3863, rel=1e-4)


def test_tokens_as_published_or_pooled() -> None:
    images = torch.randn(1, 4, 64, 64, 64)
    for tokens in ("published", "pooled"):
        model = build(tokens=tokens).eval()
        with torch.no_grad():
            deepest = model.swinViT(images, True)[-1].flatten(2)
            first, second = (deepest.mean(2),) * 2 if tokens == "pooled" else (deepest[:, :, 0], deepest[:, :, 1])
            found = model.read(images)
            torch.testing.assert_close(found["rotation"], model.rotation_head(first))
            torch.testing.assert_close(found["projection"], model.contrastive_head(second))
        assert found["reconstruction"].shape == images.shape


def test_the_plane_of_the_turns_must_be_square() -> None:
    with pytest.raises(ParameterError, match=r"Y-Z plane.*64x64x96"):
        build().check_size((64, 64, 96))
    build().check_size((96, 64, 64))


def test_a_repaired_volume_scores_zero_and_turns_are_counted() -> None:
    model = build(("t1",)).eval()
    images = torch.zeros(1, 1, 64, 64, 64)
    images[:, :, 16:48, 16:48, 16:48] = torch.randn(1, 1, 32, 32, 32) + 3

    def answer(turned: torch.Tensor) -> dict[str, torch.Tensor]:
        named = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0], [9.0, 0, 0, 0], [9.0, 0, 0, 0]])
        return {"rotation": named, "projection": torch.zeros(4, 2), "reconstruction": images.expand(4, -1, -1, -1, -1)}

    model.read = answer  # type: ignore[method-assign]
    found = model.examine(images, torch.ones(1, 1).bool(), seed=0)
    assert float(found.metrics["reconstruction_l1"]) == 0
    assert float(found.metrics["hidden_l1"]) == 0
    assert float(found.metrics["zero_l1"]) == pytest.approx(3, abs=0.3)
    assert float(found.metrics["rotation_accuracy"]) == 0.5, "of the four turns the first two are named rightly"
    assert int(found.voxels) == 32**3


@pytest.mark.parametrize("method", ["mts_unet", "swin_unetr", "pretrain_swin"])
def test_its_encoder_fills_every_method_on_the_backbone(tmp_path: Path, method: str) -> None:
    source = build()
    save_encoder(tmp_path / "encoder", source.encoder_state(), source.encoder_description(), Seen())
    sizes = {"feature_size": 12, "window": 4, "checkpointing": False}
    model = create_model(method, modalities=("flair", "t1", "t1c", "t2"), seed=5, **sizes)
    coverage = model.load_pretrained(tmp_path / "encoder.safetensors")
    assert (len(coverage.matched), coverage.total, coverage.missing) == (126, 126, ())
    found = {name.split("swinViT.")[1]: value for name, value in model.state_dict().items() if "swinViT." in name}
    for name, value in source.encoder_state().items():
        own = found[name.removeprefix("swinViT.")]
        assert torch.equal(own, value[:, [3, 0, 1, 2]] if name.endswith("patch_embed.proj.weight") else value), name


def test_going_on_from_a_whole_network_takes_its_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = SwinBackbone(4, 3, 12, 4, False, merging="legacy").state_dict()
    torch.save(whole, tmp_path / "finetuned.pt")
    coverage = build(merging="legacy").load_pretrained(tmp_path / "finetuned.pt")
    assert (len(coverage.matched), coverage.missing) == (126, ())
    assert len(coverage.skipped) == coverage.total - 126 == len(whole) - 126 > 0


def test_operations_can_be_counted() -> None:
    assert 5e10 < flops("pretrain_swin") < 1e11


@pytest.mark.slow
def test_it_learns_its_tasks_on_two_volumes() -> None:
    """Two ramps, again and again: what comes back takes their shape. Turns and contrast need more than thirty steps to show."""
    generator = torch.Generator().manual_seed(0)
    images, ramp = torch.zeros(2, 1, 64, 64, 64), torch.linspace(0, 2, 64)
    shapes = ramp[None, :, None], 2 - 2 * ramp[None, :, None] * ramp[:, None, None]
    volumes = torch.stack([shape.expand(64, 64, 64) for shape in shapes]) + 0.3 * torch.randn(2, 64, 64, 64, generator=generator)
    images[:, 0, 8:56, 8:56, 8:56] = volumes[:, 8:56, 8:56, 8:56]
    images[:, 0, 8:56, 8:30, 8:56] += 1
    batch = Batch(("t1",), images, torch.ones(2, 1).bool(), None, ("", ""), {})
    model = build(("t1",)).train()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    history: list[dict[str, float]] = []
    for step in range(30):
        torch.manual_seed(step)
        terms = model.loss(model(batch.images, batch.present, batch.modalities), batch, 0.0)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})

    reconstruction = [terms["reconstruction"] for terms in history]
    assert sum(reconstruction[-3:]) / 3 < 0.8 * reconstruction[0], history

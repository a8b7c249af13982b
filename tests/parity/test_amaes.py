"""AMAES against its public code (asbjrnmunk/amaes): pretraining network, mask, losses, and the network that is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from public_arrays import Reference, sums, third
from torch import Tensor, nn

from workbench.contracts import Batch, Prediction
from workbench.models.amaes.amaes_pretrain import AmaesPretrain
from workbench.models.amaes.released import published_names
from workbench.models.amaes.unet import Decoder, Encoder
from workbench.models.registry import create_model


@pytest.fixture(scope="module")
def amaes(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("amaes")


def fill(module: nn.Module, weights: dict[str, Tensor]) -> set[str]:
    """The names that are left over."""
    sources = published_names(module.state_dict())
    module.load_state_dict({name: s.change(*(weights[n] for n in s.names)) for name, s in sources.items()})
    return set(weights) - {name for source in sources.values() for name in source.names}


def build(reference: Reference, **options: object) -> AmaesPretrain:
    model = create_model("amaes_pretrain", modalities=("t1",), width=4, **options)
    assert isinstance(model, AmaesPretrain)
    left = fill(model, reference.part("pretrain."))
    assert all(name.endswith(".conv.bias") for name in left), "biases that instance norm takes away"
    return model


def hidden_voxels(amaes: Reference) -> Tensor:
    """(2, 1, X, Y, Z)."""
    units = torch.from_numpy(amaes.outputs["hidden_units"].reshape(2, 1, 8, 8, 8).copy())
    for axis in (2, 3, 4):
        units = units.repeat_interleave(4, dim=axis)
    return units


def test_units_are_hidden_by_the_noise_that_is_drawn(amaes: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with the smallest noise stay there; ours hides those with the smallest: the same law, the other end."""
    noise = amaes.inputs["unit_noise"]
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: -noise.view(*shape))
    ratio, unit = float(amaes.inputs["mask_ratio"]), int(amaes.inputs["unit"])
    model = create_model("amaes_pretrain", modalities=("t1",), width=4, masked_share=round(ratio, 6), mask_unit=unit)
    assert isinstance(model, AmaesPretrain)
    hidden = model.draw_hidden((2, 1, 32, 32, 32), torch.device("cpu"))
    amaes.check("hidden_units", hidden[:, 0, ::unit, ::unit, ::unit])
    amaes.check("hidden_count", hidden.flatten(1).sum(1) // unit**3)


@torch.no_grad()
def test_pretraining_network(amaes: Reference) -> None:
    model = build(amaes).eval()
    shown = amaes.inputs["image"].masked_fill(hidden_voxels(amaes), 0.0)
    for level, state in enumerate(model.encoder(shown)):
        amaes.check(f"encoder_level{level}", third(state[:1]))
    found = model.reconstruct(shown, torch.ones(2, 1).bool())
    amaes.check("reconstruction", third(found))
    amaes.check("reconstruction_sums", sums(found))


@torch.no_grad()
def test_losses(amaes: Reference) -> None:
    image, hidden, present = amaes.inputs["image"], hidden_voxels(amaes), torch.ones(2, 1).bool()
    batch = Batch(("t1",), image, present, None, ("", ""), {})
    for option, name in ((False, "loss_all"), (True, "loss_masked_only")):
        model = build(amaes, masked_only=option)
        found = model.reconstruct(image.masked_fill(hidden, 0.0), present)
        loss = model.loss(Prediction(auxiliary={"reconstruction": found, "hidden": hidden}), batch, 0.0)["reconstruction"]
        amaes.check(name, loss[None])


@torch.no_grad()
def test_network_that_is_fine_tuned(amaes: Reference) -> None:
    network = nn.ModuleDict({"encoder": Encoder(3, 4), "decoder": Decoder(4, 4)}).eval()
    left = fill(network, amaes.part("finetune."))
    assert all(name.endswith(".conv.bias") for name in left)
    logits = network["decoder"](network["encoder"](amaes.inputs["images3"]))
    amaes.check("segmentation_logits", third(logits))
    amaes.check("segmentation_sums", sums(logits))

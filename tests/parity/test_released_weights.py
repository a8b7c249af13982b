"""Importers of released weights: the arrays of the public code, saved as it saves them, loaded as a user loads them, and run.

`tests/models/*/test_released.py` hold what each refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from public_arrays import Reference, third
from safetensors.torch import save_file

from workbench.errors import InputError
from workbench.models.amaes.amaes import Amaes
from workbench.models.brainfm import released as brainfm
from workbench.models.mmformer.released import THEIRS
from workbench.models.mome.mome import MoME
from workbench.models.mome.released import WEIGHTS as MOME
from workbench.models.pretrained.released import load_released
from workbench.models.registry import create_model


@torch.no_grad()
def test_mmformer(arrays: Callable[[str], Reference], tmp_path: Path) -> None:
    """Its loop saves epoch, state dict and optimiser; under DataParallel every name begins with `module.`"""
    reference, path = arrays("mmformer"), tmp_path / "model_last.pth"
    state = {f"module.{name}": value for name, value in reference.weights.items()}
    torch.save({"epoch": 999, "state_dict": state, "optim_dict": {"state": {}, "param_groups": [{"lr": 2e-4}]}}, path)
    sizes = {"width": 2, "embedding": 16, "depth": 2, "heads": 2, "mlp": 32, "dropout": 0.0, "positions": 32}

    def build(**options: Any) -> Any:
        return create_model("mmformer", modalities=tuple(THEIRS), classes=4, absent_tokens="zero", **sizes, **options)

    model = build(layout="published").eval()
    coverage = model.load_pretrained(path)
    assert (coverage.total, len(coverage.matched), len(coverage.skipped)) == (342, 334, 8)
    assert (coverage.unexpected, coverage.missing) == ((), ())
    found = [model(reference.inputs["images"], mask).segmentation.softmax(1) for mask in reference.inputs["masks"]]
    reference.check("fused_probabilities", third(torch.stack(found)))
    with pytest.raises(InputError, match="set layout to published"):
        build().load_pretrained(path)


@torch.no_grad()
def test_mome(arrays: Callable[[str], Reference], tmp_path: Path) -> None:
    """nnU-Net's checkpoint has NumPy numbers in its log, and second names of its tensors; here all networks in one file."""
    reference, path = arrays("mome"), tmp_path / "mome.pth"
    again = {name.replace(".convs.0.conv.", ".convs.0.all_modules.0."): value for name, value in reference.weights.items()}
    log = {"mean_fg_dice": [np.float64(0.8)], "epoch_start_timestamps": [1.5]}
    torch.save({"network_weights": reference.weights | again, "logging": log, "trainer_name": "nnUNetTrainer"}, path)

    def build(**options: Any) -> Any:
        return create_model("mome", modalities=MOME["mome"].modalities, classes=2, width=4, levels=4, **options)

    model = build().eval()
    assert isinstance(model, MoME)
    coverage = model.load_pretrained(path)
    assert len(coverage.matched) == 408
    assert set(coverage.skipped.values()) == {"second name of a tensor"}
    assert (coverage.unexpected, coverage.missing) == ((), ())
    reference.check("fused_level0", third(model.read(reference.inputs["images"])[0]))
    with pytest.raises(InputError, match="set gate_normalisation to none"):
        build(gate_normalisation="softmax").load_pretrained(path)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in reference.weights.items():
        network, _, rest = name.partition(".")
        parts.setdefault(network, {})[rest] = value
    torch.save(parts, tmp_path / "parts.pth")
    assert len(build().load_pretrained(tmp_path / "parts.pth").matched) == 408, "a state dict per network"


@torch.no_grad()
def test_amaes(arrays: Callable[[str], Reference], tmp_path: Path) -> None:
    """A checkpoint of Lightning: names below `model.`. Of the pretraining the encoder is taken, of one channel."""
    reference, path = arrays("amaes"), tmp_path / "unet_b_lw_dec.ckpt"
    state = {f"model.{name}": value for name, value in reference.part("pretrain.").items()}
    torch.save({"epoch": 99, "state_dict": state, "hyper_parameters": {"starting_filters": 4}}, path)
    model = create_model("amaes", modalities=("t1",), classes=4, width=4).eval()
    assert isinstance(model, Amaes)
    coverage = model.load_pretrained(path)
    assert len(coverage.matched) == len(model.encoder.state_dict())
    assert (coverage.unexpected, coverage.missing, coverage.seen.collections[0]) == ((), (), "brats2021")
    hidden = torch.from_numpy(reference.outputs["hidden_units"])[:, None]
    for axis in (2, 3, 4):
        hidden = hidden.repeat_interleave(4, dim=axis)
    for level, found in enumerate(model.encoder(reference.inputs["image"].masked_fill(hidden, 0.0))):
        reference.check(f"encoder_level{level}", third(found[:1]))
    with pytest.raises(InputError, match="set the sizes of the model"):
        create_model("amaes", modalities=("t1",), classes=4, width=8).load_pretrained(path)


@torch.no_grad()
def test_brainfm(arrays: Callable[[str], Reference], tmp_path: Path) -> None:
    """The reference is narrower than text vectors, which the importer refuses: here its vectors stand for them."""
    reference, path = arrays("brainfm"), tmp_path / "mae.safetensors"
    save_file(reference.weights, path)
    model = create_model(
        "brainfm", modalities=("t1", "t2", "flair"), token=8, width=48, depth=4, heads=4, mlp=96, positions=4, dropout=0.0,
        modality_embedding="one_hot",
    ).eval()  # fmt: skip
    with pytest.raises(InputError, match="set modality_embedding to text, width to 768"):
        model.load_pretrained(path)
    encoder: Any = model.encoder
    names = {f"encoder.{name}" for name in encoder.state_dict()}
    sources = {name.removeprefix("encoder."): source for name, source in brainfm.published_names(names).items()}
    known = replace(brainfm.WEIGHTS, required={"norm": "conditional", "padding_mask": True})
    coverage = load_released(encoder, path, known, sources, options=model.options, modalities=model.modalities)
    assert coverage.missing == ("modality.vectors",)
    assert set(coverage.skipped.values()) == {"decoder of the pretraining"}
    assert (coverage.unexpected, coverage.seen.known) == ((), False)
    encoder.modality.vectors.copy_(reference.inputs["modality_vectors"])
    images = reference.inputs["images"]
    condition = encoder.modality(model.modalities, images)
    kinds = torch.arange(36).expand(2, -1) // 12
    reference.check("states_full", encoder(encoder.tokens(images, condition).flatten(1, 2), condition, kinds)[0])

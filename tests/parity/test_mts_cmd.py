"""MTS-UNET's cross-modality differential module against its authors' code, in both forms, gated and not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from public_arrays import Reference, third
from torch import Tensor

from workbench.models.glioma.mts_blocks import Classifier, CrossModalityDifferential
from workbench.models.glioma.mts_unet import tumour_probability

FORMS = {
    "v1": {"conv_t2.weight": "conv1_t2.weight", "conv_flair.weight": "conv1_flair.weight", "spatial.conv.weight": "conv2.weight"},
    "cbam": {
        "conv_t2.weight": "conv1.weight", "channel.bottleneck.0.weight": "mlp.0.weight",
        "channel.bottleneck.2.weight": "mlp.2.weight", "spatial.conv.weight": "spatial_conv.weight",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def mts_cmd(arrays: Callable[[str], Reference]) -> Reference:
    return arrays("mts_cmd")


def build(reference: Reference, form: str, published: bool = True) -> tuple[CrossModalityDifferential, Classifier]:
    cmd = CrossModalityDifferential(64, float(reference.inputs["gamma"]), form, published)
    theirs = reference.part(f"{form}.cmd_feature_extractor.")
    state = {name: theirs[other] for name, other in FORMS[form].items()}
    if form == "cbam":  # theirs joins (mean, maximum), ours (maximum, mean)
        state["spatial.conv.weight"] = state["spatial.conv.weight"].flip(1)
    cmd.load_state_dict(state)
    head = Classifier(128, 2, 0.5)
    head.load_state_dict(reference.part(f"{form}.classification_head."))
    return cmd.eval(), head.eval()


def gate(reference: Reference, probability: Tensor) -> Tensor:
    lowest = reference.inputs["min_gate"]
    return lowest + (1 - lowest) * probability


@torch.no_grad()
def test_gates(mts_cmd: Reference) -> None:
    logits = mts_cmd.inputs["segmentation_logits"]
    mts_cmd.check("gate_four_classes", third(gate(mts_cmd, tumour_probability(logits))))
    mts_cmd.check("gate_two_classes", third(gate(mts_cmd, tumour_probability(logits[:, :2]))))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_features_and_class_logits(mts_cmd: Reference, form: str) -> None:
    cmd, head = build(mts_cmd, form)
    for name in ("ungated", "gated"):
        opened = gate(mts_cmd, tumour_probability(mts_cmd.inputs["segmentation_logits"])) if name == "gated" else 1.0
        t2, flair = mts_cmd.inputs["t2"] * opened, mts_cmd.inputs["flair"] * opened
        features, attention = cmd(t2, flair)
        mts_cmd.check(f"{form}_features_{name}", features)
        mts_cmd.check(f"{form}_class_logits_{name}", head(features))
        of_t2 = cmd.difference(t2, flair)[1]
        mts_cmd.check(f"{form}_t2_map_{name}", third((of_t2 + attention * of_t2)[:1]))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_corrected_attention_is_another(mts_cmd: Reference, form: str) -> None:
    """Sigmoid of the score, not of its ReLU: the arrays tell the two apart."""
    features, _ = build(mts_cmd, form, published=False)[0](mts_cmd.inputs["t2"], mts_cmd.inputs["flair"])
    with pytest.raises(AssertionError, match="largest difference"):
        mts_cmd.check(f"{form}_features_ungated", features)

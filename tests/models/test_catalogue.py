from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from workbench.errors import ParameterError
from workbench.models import catalogue
from workbench.models.catalogue import ModelCard, card, list_models
from workbench.models.options import OPTIONS, build_options, demo_options, options_class
from workbench.models.options_networks import nnunet_levels
from workbench.models.registry import create_model, flops, model_options
from workbench.setup import parameters as experiment_parameters

DESIGN_NAMES = [
    "unet", "mts_unet", "mgmt_net", "mome", "mome_plus", "pooled_unet", "masm", "brainfm", "brainfm_pretrain", "mmformer",
    "amaes", "amaes_pretrain", "m4oe", "segresnet", "swin_unetr", "unetr", "attention_unet", "mednext", "densenet121",
    "pretrain_swin", "radiomics",
]  # fmt: skip


def test_every_name_of_the_design_has_a_card() -> None:
    assert [entry.name for entry in list_models(include_planned=True)] == DESIGN_NAMES
    assert {entry.name for entry in list_models()} == set(OPTIONS)
    json.dumps([entry.as_dict() for entry in list_models(include_planned=True)])


def test_catalogue_and_options_reach_no_torch() -> None:
    code = "import sys, workbench.models.options; print([m for m in ('torch', 'monai') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_what_is_no_network_says_so() -> None:
    others = [entry for entry in list_models() if not entry.network]
    assert [entry.name for entry in others] == ["radiomics"]
    assert all(entry.parameters is None and entry.as_dict()["input"] is None for entry in others)
    with pytest.raises(ParameterError, match="'radiomics' is no network"):
        create_model("radiomics", modalities=("t1",))
    with pytest.raises(ParameterError, match="no forward pass"):
        flops("radiomics")


@pytest.mark.parametrize("entry", [entry for entry in list_models() if entry.network], ids=lambda entry: entry.name)
def test_parameters_on_the_card_are_those_of_the_model(entry: ModelCard, meta: torch.device) -> None:
    with meta:
        model = create_model(entry.name, modalities=entry.modalities, markers=entry.markers, **entry.options)
    assert model.parameter_count() == entry.parameters


@pytest.mark.parametrize("method", OPTIONS)
def test_options_are_scalars_with_a_description_and_a_valid_demo(method: str) -> None:
    shared = experiment_parameters.ExperimentParameters.model_fields
    for name, field in model_options(method).model_fields.items():
        assert isinstance(field.default, str | int | float | bool), name
        assert field.description, name
        assert name not in shared, f"'{name}' hides a shared parameter"
    build_options(method, demo_options(method))
    assert demo_options(method), "size=demo must make the model smaller"


def test_mistakes_are_named_with_what_there_is() -> None:
    with pytest.raises(ParameterError, match="'unett' is unknown; there are: unet, mts_unet"):
        create_model("unett", modalities=("t1",))
    with pytest.raises(ParameterError, match="'depth' is unknown to unet; there are: width, levels"):
        create_model("unet", modalities=("t1",), depth=3)
    with pytest.raises(ParameterError, match="option 'gamma' of mts_unet = -1"):
        create_model("mts_unet", modalities=("t1",), gamma=-1)
    with pytest.raises(ParameterError, match="multiple of 12"):
        create_model("mts_unet", modalities=("t1",), feature_size=20)
    with pytest.raises(ParameterError, match="marker idh1 is unknown; there are: idh"):
        create_model("mts_unet", modalities=("t1",), markers=("idh1",), feature_size=12)
    with pytest.raises(ParameterError, match="3-class"):
        create_model("unet", modalities=("t1",), classes=3, width=4, levels=3)
    with pytest.raises(ParameterError, match="unknown"):
        card("nothing")


def test_a_method_that_is_only_named_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    later = ModelCard(name="later", title="Later", paper="-", tasks=("segmentation",), modalities=())
    monkeypatch.setitem(catalogue.CARDS, "later", later)
    with pytest.raises(ParameterError, match="'later' is planned"):
        create_model("later", modalities=("t1",))
    with pytest.raises(ParameterError, match="planned"):
        options_class("later")


def test_depth_follows_nnunets_rule() -> None:
    assert [nnunet_levels((side,) * 3) for side in (128, 96, 64, 32)] == [6, 5, 5, 4]
    assert nnunet_levels((128, 128, 32)) == 4

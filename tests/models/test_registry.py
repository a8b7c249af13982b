"""Building methods by name: sizes, and mistakes named with what there is."""

from __future__ import annotations

import pytest
import torch

from workbench.errors import ParameterError
from workbench.models.catalogue import card, list_models
from workbench.models.method_facts import ModelCard
from workbench.models.registry import create_model, flops


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
        model = create_model(entry.name, modalities=entry.modalities, markers=entry.markers)
    assert model.parameter_count() == entry.parameters


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

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workbench.errors import ParameterError
from workbench.models import catalogue
from workbench.models.catalogue import list_models
from workbench.models.method_facts import ModelCard
from workbench.models.options import OPTIONS, options_class
from workbench.models.registry import create_model

NAMES = [
    "unet", "mts_unet", "mgmt_net", "mome", "mome_plus", "pooled_unet", "masm", "brainfm", "brainfm_pretrain", "mmformer",
    "amaes", "amaes_pretrain", "m4oe", "segresnet", "swin_unetr", "unetr", "attention_unet", "mednext", "densenet121",
    "pretrain_swin", "radiomics",
]  # fmt: skip


def test_every_name_has_a_card() -> None:
    assert [entry.name for entry in list_models(include_planned=True)] == NAMES
    assert {entry.name for entry in list_models()} == set(OPTIONS)
    json.dumps([entry.as_dict() for entry in list_models(include_planned=True)])


def test_catalogue_and_options_reach_no_torch() -> None:
    code = "import sys, workbench.models.options; print([m for m in ('torch', 'monai') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_method_that_is_only_named_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    later = ModelCard(name="later", title="Later", paper="-", tasks=("segmentation",), modalities=(), status="planned")
    monkeypatch.setitem(catalogue.CARDS, "later", later)
    with pytest.raises(ParameterError, match="'later' is planned"):
        create_model("later", modalities=("t1",))
    with pytest.raises(ParameterError, match="planned"):
        options_class("later")

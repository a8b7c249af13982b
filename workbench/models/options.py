"""Each method's own settings: frozen pydantic models of scalars, so that they are also a notebook's parameters. No torch.

The defaults are the paper's; `demo` holds what `size=demo` changes. A name here must not hide a field of
`experiments.ExperimentParameters` (patch, maps, markers, ...).

The classes lie beside this file, by kind of method: `options_glioma`, `options_networks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workbench.errors import ParameterError
from workbench.models.catalogue import card
from workbench.models.options_amaes import AmaesOptions, AmaesPretrainOptions
from workbench.models.options_base import MethodOptions
from workbench.models.options_brainfm import BrainFMOptions, BrainFMPretrainOptions
from workbench.models.options_glioma import MgmtNetOptions, MtsUNetOptions
from workbench.models.options_m4oe import M4oEOptions
from workbench.models.options_masm import MasmOptions
from workbench.models.options_mmformer import MMFormerOptions
from workbench.models.options_mome import MoMEOptions, MoMEPlusOptions, PooledUNetOptions
from workbench.models.options_networks import (
    AttentionUNetOptions,
    DenseNetOptions,
    MedNeXtOptions,
    SegResNetOptions,
    SwinUNETROptions,
    UNetOptions,
    UNETROptions,
)
from workbench.models.options_pretraining import PretrainSwinOptions
from workbench.models.options_radiomics import RadiomicsOptions

OPTIONS: dict[str, type[MethodOptions]] = {
    "unet": UNetOptions,
    "mts_unet": MtsUNetOptions,
    "mgmt_net": MgmtNetOptions,
    "segresnet": SegResNetOptions,
    "swin_unetr": SwinUNETROptions,
    "unetr": UNETROptions,
    "attention_unet": AttentionUNetOptions,
    "mednext": MedNeXtOptions,
    "densenet121": DenseNetOptions,
    "radiomics": RadiomicsOptions,
    "mome": MoMEOptions,
    "mome_plus": MoMEPlusOptions,
    "pooled_unet": PooledUNetOptions,
    "masm": MasmOptions,
    "pretrain_swin": PretrainSwinOptions,
    "brainfm": BrainFMOptions,
    "brainfm_pretrain": BrainFMPretrainOptions,
    "mmformer": MMFormerOptions,
    "m4oe": M4oEOptions,
    "amaes": AmaesOptions,
    "amaes_pretrain": AmaesPretrainOptions,
}


def options_class(method: str) -> type[MethodOptions]:
    """The options of a built method.

    Raises:
        ParameterError: no such method, or one that is only planned; the message lists those there are.
    """
    card(method)
    if method not in OPTIONS:
        raise ParameterError(f"method '{method}' is planned, not built yet; there are: {', '.join(OPTIONS)}")
    return OPTIONS[method]


def demo_options(method: str) -> dict[str, Any]:
    """What `size=demo` changes in the method's options."""
    return dict(options_class(method).demo)


def build_options(method: str, values: Mapping[str, Any]) -> MethodOptions:
    """Check values and build the options.

    Raises:
        ParameterError: an unknown option or a value out of range, each named, with what there is.
    """
    chosen = options_class(method)
    try:
        return chosen(**values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(map(str, item["loc"]))
            if not name:  # a rule on several options at once names them itself
                lines.append(f"options of {method}: {item['msg'].removeprefix('Value error, ')}")
            elif item["type"] == "extra_forbidden":
                lines.append(f"option '{name}' is unknown to {method}; there are: {', '.join(chosen.model_fields)}")
            else:
                lines.append(f"option '{name}' of {method} = {item['input']!r}: {item['msg']}")
        raise ParameterError("\n".join(lines)) from None

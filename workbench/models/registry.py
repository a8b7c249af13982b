"""The table of built methods and the one way to make them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch

from workbench.contracts import MARKER_TASK, SEGMENTATION
from workbench.errors import ParameterError
from workbench.models.catalogue import FACTS, card
from workbench.models.method import MethodModule
from workbench.models.method_facts import ModelCard
from workbench.models.options import build_options
from workbench.seeding import derive_seed

BUILDERS: dict[str, str] = {name: facts.builder for name, facts in FACTS.items() if facts.builder}
"""Method -> its class, imported on first use."""


def create_model(
    name: str,
    *,
    modalities: Sequence[str] = (),
    classes: int = 4,
    markers: Sequence[str] = (),
    seed: int = 0,
    **options: object,
) -> MethodModule:
    """Build a method with fresh weights, on the CPU.

    Args:
        name: as in `list_models`.
        modalities: the sequences it will be given, in channel order; empty = those of its paper.
        classes: segmentation classes including background: 2, 4 or 5.
        markers: markers to predict; a method that predicts none ignores them.
        seed: of the initial weights; the global random state is neither read nor changed.
        **options: the method's own settings, see `options.options_class`.

    Raises:
        ParameterError: unknown method, option, marker or value; the message lists what there is.
    """
    checked = build_options(name, options)
    if not card(name).network:
        raise ParameterError(f"method '{name}' is no network: use RadiomicsExperiment, or `workbench run {name}`")
    module, _, attribute = BUILDERS[name].partition(":")
    builder: type[MethodModule] = getattr(importlib.import_module(module), attribute)
    modalities = tuple(modalities) or card(name).modalities
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights", name))
        return builder(modalities=modalities, classes=classes, markers=markers, options=checked)


def paper_model(entry: ModelCard) -> MethodModule:
    """The method at its paper's size, moved to the meta device: shapes and counts, no memory held.

    It is built on the CPU first, because MONAI's Swin reads values while it is built.
    """
    return create_model(entry.name, modalities=entry.modalities, markers=entry.markers).to("meta")


def flops(name: str) -> int:
    """Floating-point operations (two per multiply-add) of one forward pass over one patch at the paper's size.

    Counted by `torch.utils.flop_counter` on the meta device: matrix products and convolutions only.
    """
    from torch.utils.flop_counter import FlopCounterMode

    entry = card(name)
    if entry.status != "available":
        raise ParameterError(f"method '{name}' is planned, not built yet")
    if not entry.network:
        raise ParameterError(f"method '{name}' is no network: it has no forward pass to count")
    model = paper_model(entry).eval()
    images = torch.zeros((1, len(model.modalities), *entry.input), device="meta")
    present = torch.ones((1, len(model.modalities)), dtype=torch.bool, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images, present, tasks=(SEGMENTATION, MARKER_TASK))
    return int(counter.get_total_flops())

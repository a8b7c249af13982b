"""The methods there are, without torch: the app, the command line and the parameters read it. Parameter counts are tested."""

from __future__ import annotations

from importlib import import_module

from workbench.errors import ParameterError
from workbench.models.method_facts import MethodFacts, ModelCard

FAMILIES = (
    "unet",
    "glioma",
    "mome",
    "masm",
    "brainfm",
    "mmformer",
    "amaes",
    "m4oe",
    "baselines",
    "swin",
    "radiomics",
)
"""Folders of `workbench.models` whose `facts.FACTS` describe methods, in the order in which these are listed."""

FACTS: dict[str, MethodFacts] = {
    facts.card.name: facts for family in FAMILIES for facts in import_module(f"workbench.models.{family}.facts").FACTS
}
CARDS: dict[str, ModelCard] = {name: facts.card for name, facts in FACTS.items()}


def list_models(include_planned: bool = False) -> list[ModelCard]:
    """The methods that are built; with `include_planned` also those that are only named."""
    return [facts.card for facts in FACTS.values() if include_planned or facts.card.status == "available"]


def card(name: str) -> ModelCard:
    """The card of one method, built or planned.

    Raises:
        ParameterError: no such method; the message lists those there are.
    """
    try:
        return CARDS[name]
    except KeyError:
        built = ", ".join(entry.name for entry in list_models())
        planned = ", ".join(entry.name for entry in list_models(include_planned=True) if entry.status == "planned")
        raise ParameterError(f"method '{name}' is unknown; there are: {built} (planned: {planned})") from None

"""Each method's own settings: frozen pydantic models of scalars, so that they are also a notebook's parameters. No torch.

The classes stand in the `facts` of each family. Their defaults are the paper's; a name there must not hide a field of
`setup.parameters.ExperimentParameters` (patch, maps, markers, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workbench.errors import ParameterError
from workbench.models.catalogue import FACTS, card, list_models
from workbench.models.options_base import MethodOptions

OPTIONS: dict[str, type[MethodOptions]] = {entry.name: FACTS[entry.name].options for entry in list_models()}


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
    known = options_class(method).model_fields
    return {name: value for name, value in FACTS[method].demo.items() if name in known}


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

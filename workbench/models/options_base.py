"""What the options of every method share. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class MethodOptions(BaseModel):
    """What every method's options share: frozen, nothing unknown, plain scalars."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    demo: ClassVar[Mapping[str, Any]] = {}
    """Options that `size=demo` changes."""
    paper: ClassVar[Mapping[str, Any]] = {}
    """What an option that is unset (-1) means, where the published value differs between methods that share an option."""

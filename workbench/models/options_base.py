"""What the options of every method share. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

UNSET = -1
"""Stands for a number that is not set."""


class MethodOptions(BaseModel):
    """What every method's options share: frozen, nothing unknown, plain scalars."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    paper: ClassVar[Mapping[str, Any]] = {}
    """What an option that is unset (-1) means, where the published value differs between methods that share an option."""
    later: ClassVar[tuple[str, ...]] = ()
    """Options that came when there were runs already: named only where they differ from what held before, so that those keep
    ids."""

    before: ClassVar[Mapping[str, Any]] = {}
    """What a `later` option meant in runs that do not name it, where that is not today's default."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values: Any) -> Any:
        """What is not said, or said to be -1, is the published value: built models and their checkpoints name the number."""
        if isinstance(values, Mapping):
            return dict(values) | {k: v for k, v in cls.paper.items() if values.get(k, UNSET) in (UNSET, "-1", "-1.0")}
        return values

    @classmethod
    def unsaid(cls) -> dict[str, Any]:
        """`later` option -> what it means in the record of a run that does not name it."""
        return {name: cls.before.get(name, cls.model_fields[name].default) for name in cls.later}

    @classmethod
    def without_later(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values less the `later` options that are what they mean when unsaid."""
        unsaid = cls.unsaid()
        return {name: value for name, value in values.items() if name not in unsaid or value != unsaid[name]}

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
    """Options that came when there were runs already: named only where they differ from the default, so that those keep ids."""
    earlier: ClassVar[Mapping[str, Any]] = {}
    """Of options that came when there were runs already and whose default is not what those did: what they did. A record that
    does not name one means that, so that they keep id and meaning; what new runs do is named."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values: Any) -> Any:
        """What is not said, or said to be -1, is the published value: built models and their checkpoints name the number."""
        if isinstance(values, Mapping):
            return dict(values) | {k: v for k, v in cls.paper.items() if values.get(k, UNSET) in (UNSET, "-1", "-1.0")}
        return values

    @classmethod
    def without_later(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as a run's record has them: less the `later` options at their default and the `earlier` ones as they were."""
        before = {name: cls.model_fields[name].default for name in cls.later} | dict(cls.earlier)
        return {name: value for name, value in values.items() if name not in before or value != before[name]}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse: a record's values, and what it means by not naming an `earlier` option."""
        return dict(cls.earlier) | dict(values)

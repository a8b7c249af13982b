"""What the options of every method share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from workbench.models.options_base import UNSET, MethodOptions


class Published(MethodOptions):
    paper: ClassVar[Mapping[str, Any]] = {"share": 0.25}
    later: ClassVar[tuple[str, ...]] = ("mode",)
    share: float = UNSET
    mode: str = "old"


@pytest.mark.parametrize("given", [{}, {"share": -1}, {"share": "-1"}, {"share": "-1.0"}])
def test_what_is_unset_is_the_published_value(given: dict[str, Any]) -> None:
    assert Published(**given).share == 0.25
    assert Published(share=0.5).share == 0.5


def test_a_later_option_is_named_only_where_it_differs() -> None:
    assert Published.without_later({"share": 0.5, "mode": "old"}) == {"share": 0.5}
    assert Published.without_later({"share": 0.5, "mode": "new"}) == {"share": 0.5, "mode": "new"}
    assert Published.without_later({"share": 0.5}) == {"share": 0.5}


def test_options_are_frozen_and_finite_and_know_no_other_name() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Published().mode = "new"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="finite"):
        Published(share=float("nan"))
    with pytest.raises(ValidationError, match="Extra inputs"):
        Published(modes="new")

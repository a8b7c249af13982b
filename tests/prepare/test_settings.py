"""Settings of preparation: what they refuse, and which of them share a folder."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workbench.prepare.settings import PrepareSettings


def test_equal_settings_share_a_folder_and_every_other_one_has_its_own() -> None:
    assert PrepareSettings(spacing=2).slug == PrepareSettings(spacing=2.0).slug
    assert PrepareSettings(spacing=2.5).slug.startswith("2.5mm-")
    others = [{}, {"spacing": 2.0}, {"modalities": ("t1", "t2")}, {"modalities": ("t2", "t1")}, {"margin_mm": 1}, {"samples": 5}]
    assert len({PrepareSettings(**values).slug for values in others}) == len(others)


@pytest.mark.parametrize("wrong", [{"spacing": 0.0}, {"margin_mm": -1.0}, {"samples": 0}, {"spacnig": 1.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PrepareSettings(**wrong)

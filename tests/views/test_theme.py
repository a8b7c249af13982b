"""Colours that can be read, and the name of a cohort."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.cohort.table import cohort_title
from workbench.views.theme import STATE_SIGNS, THEMES


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio."""

    def luminance(text: str) -> float:
        parts = np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_colours_can_be_read(name: str) -> None:
    look = THEMES[name]
    assert contrast(look.text, look.page) > 7
    assert contrast(look.muted, look.page) > 4.5
    for state in STATE_SIGNS:
        from workbench.views.theme import state_colour

        assert contrast(state_colour(state, name), look.page) > 4.5
    for shade in look.colours:
        assert contrast(shade, look.panel) > 2.2


def test_a_phantom_always_says_so() -> None:
    assert cohort_title("demo", True) == "phantom cohort demo"
    assert cohort_title("phantom", True) == "phantom cohort"
    assert cohort_title("EGD", False) == "EGD"

"""One subject from head to labels: the tumour does not depend on the output."""

from __future__ import annotations

import pytest
from grown_heads import drawn, head


def test_volume_is_the_one_drawn_at_any_spacing() -> None:
    assert head("ring").facts["grown_ml"] == pytest.approx(20, rel=0.003)
    for spacing in (1.5, 2.0, 3.0, 4.0):
        assert (drawn("ring", spacing) > 0).sum() * spacing**3 / 1000 == pytest.approx(20, rel=0.06)

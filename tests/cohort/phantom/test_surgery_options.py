"""What surgery does: shares that add up, ranges that rise, and nothing removed that is not there."""

from __future__ import annotations

import pytest

from workbench.cohort.phantom.surgery_options import SurgeryOptions
from workbench.errors import ParameterError


def test_the_defaults_are_allowed() -> None:
    options = SurgeryOptions.build()
    assert sum(options.timepoints) == pytest.approx(1.0)
    assert options.regrowth[0] >= 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"timepoints": ()}, "timepoints: the shares must be 0 or more and add up to 1"),
        ({"timepoints": (0.5, 0.4)}, "timepoints"),
        ({"timepoints": (1.2, -0.2)}, "timepoints"),
        ({"gliosis": (5.0, 2.0)}, "gliosis: must be two rising numbers above 0, is 5, 2"),
        ({"margin": (0.0, 2.0)}, "margin: must be two rising numbers"),
        ({"extent": (0.5, 1.1)}, "extent must not exceed 1"),
        ({"regrowth": (0.9, 1.2)}, "regrowth must be at least 1"),
        ({"complete": 1.5}, "phantom option complete: "),
    ],
)
def test_what_cannot_be_is_named(values: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        SurgeryOptions.build(**values)

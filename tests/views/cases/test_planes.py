from __future__ import annotations

import numpy as np
import pytest

from workbench.views.cases.images import LabelColour
from workbench.views.cases.planes import AXIAL, CORONAL, SAGITTAL, blend, colour_table, map_table, outline, picture_shape_mm


def test_outline_is_the_rim():
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 2
    labels[3, 3] = 3
    rim = outline(labels)
    assert rim[1, 1] == rim[5, 3] == 2
    assert rim[3, 3] == 3
    assert rim[2, 2] == 0
    assert rim[2, 3] == 2  # beside the 3


def test_blend_mixes_by_opacity_and_strength():
    table = colour_table([LabelColour(1, "a", "#FF0000"), LabelColour(2, "b", "#0000FF", 0.5)])
    grey = np.full((1, 3), 100, np.uint8)
    over = np.array([[0, 1, 2]], np.uint8)
    result = blend(grey, over, table, 0.5)
    assert result[0, 0].tolist() == [100, 100, 100]
    assert result[0, 1].tolist() == [178, 50, 50]
    assert result[0, 2].tolist() in ([75, 75, 139], [75, 75, 138], [74, 74, 139])
    assert (blend(grey, None, table, 0.5) == 100).all()


def test_a_map_is_transparent_where_it_is_low():
    table = map_table()
    assert (table[:25, 3] == 0).all()
    assert (table[26:, 3] == 255).all()
    assert table[26, :3].tolist() == pytest.approx([12, 7, 134], abs=6)  # the low end of plasma


def test_size_in_mm():
    shape, spacing = (10, 20, 30), (1.0, 2.0, 3.0)
    assert picture_shape_mm(shape, spacing, AXIAL) == (10, 40)
    assert picture_shape_mm(shape, spacing, CORONAL) == (10, 90)
    assert picture_shape_mm(shape, spacing, SAGITTAL) == (40, 90)

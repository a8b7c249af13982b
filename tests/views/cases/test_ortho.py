from __future__ import annotations

import numpy as np
import pytest
from bokeh.models import GlyphRenderer, Plot

from workbench.views.cases.ortho import OrthoView
from workbench.views.cases.planes import AXIAL, CORONAL, SAGITTAL
from workbench.views.cases.view import open_case

CASE = "TINY-00000-000"


@pytest.fixture
def ortho(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    display = view.image("t1")
    return OrthoView(
        display=display, overlay=view.overlay("truth"), window=list(display.window), position=[round(v, 1) for v in view.centre()]
    )


def test_planes_are_drawn_with_the_patients_left_on_the_right(ortho):
    roots = [pane.get_root().select_one({"type": Plot}) for pane in ortho._box]
    assert len(roots) == 3
    axial, coronal, sagittal = roots
    assert axial.x_range.start > axial.x_range.end  # R on the left, L on the right
    assert coronal.x_range.start > coronal.x_range.end
    assert sagittal.x_range.start < sagittal.x_range.end
    assert all(root.y_range.start < root.y_range.end for root in roots)
    assert len({id(root.x_range) for root in roots}) == 3  # no plane moves another's axes


def test_a_tap_moves_the_crosshair_in_mm(ortho):
    x, y, z = ortho.position
    ortho.go_to(AXIAL, x + 8, y - 12)
    assert ortho.position == pytest.approx([x + 8, y - 12, z], abs=0.1)
    ortho.go_to(SAGITTAL, y, z + 5)
    assert ortho.position == pytest.approx([x + 8, y, z + 5], abs=0.1)
    ortho.go_to(CORONAL, 1e6, z)
    assert ortho.position[0] < 80  # stays in the volume
    before = list(ortho.position)
    ortho.go_to(CORONAL, None, None)
    assert ortho.position == before


def test_slices_are_grey_levels_and_label_colours(ortho):
    grey = ortho.slice_of(AXIAL)
    assert grey.dtype == np.uint8
    assert grey.max() > 200
    ortho.opacity = 0.5
    rgba = ortho.colours_of(AXIAL)
    labels = ortho.overlay.volume.on(ortho.display.volume.grid).array
    cut = labels[:, :, ortho.display.volume.voxel(tuple(ortho.position))[2]]
    assert ((rgba[..., 3] > 0) == (cut > 0)).all()
    assert rgba[cut == 2][0].tolist() == [0x1F, 0xC9, 0x9A, 128]
    ortho.outline = True
    assert 0 < (ortho.colours_of(AXIAL)[..., 3] > 0).sum() < (cut > 0).sum()


def test_window_and_position_change_the_picture_in_place(ortho):
    pane = ortho._box[0]
    root = pane.get_root().select_one({"type": Plot})
    glyphs = [r for r in root.renderers if isinstance(r, GlyphRenderer) and "image" in r.data_source.data]
    images = [r for r in glyphs if np.asarray(r.data_source.data["image"][0]).dtype == np.uint8]
    before = np.array(images[0].data_source.data["image"][0])
    mapper = images[0].glyph.color_mapper
    ortho.window = [ortho.window[0], ortho.window[1] * 3]
    after = np.array(images[0].data_source.data["image"][0])
    assert before.shape == after.shape
    assert (before != after).any()
    assert images[0].glyph.color_mapper is mapper
    assert ortho._box[0] is pane


def test_without_an_image(ortho):
    ortho.display = None
    assert ortho._box[0].object == "No image to show."

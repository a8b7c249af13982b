from __future__ import annotations

import gzip

import nibabel as nib
import pytest

from workbench.views.cases.ortho import OrthoView
from workbench.views.cases.panel import CasePanel
from workbench.views.cases.view import open_case

CASE = "TINY-00000-000"


@pytest.fixture
def panel(tiny_cohort, case_run):
    panel = CasePanel()
    panel.show_case(open_case(tiny_cohort, CASE, case_run.folder))
    return panel


def sent(panel, names=("image", "overlay")):
    """Record what is sent to the browser from now on."""
    seen: list[str] = []
    panel.viewer.param.watch(lambda *events: seen.extend(e.name for e in events), list(names))
    return seen


def test_a_case_is_sent_once_with_everything(panel):
    image = nib.Nifti1Image.from_bytes(gzip.decompress(panel.viewer.image))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.get_data_dtype() == "uint8"
    assert (panel.shown_modality, panel.shown_overlay) == ("t1c", "prediction")
    assert panel.viewer.window == list(panel.view.image("t1c").window)
    assert panel.viewer.position == [round(v, 1) for v in panel.view.centre()]
    assert [row["name"].split(":")[0] for row in panel.viewer.labels] == ["NCR", "ED", "ET"]
    assert panel.problem == ""


def test_opacity_window_outline_and_layout_send_no_volume(panel):
    seen = sent(panel)
    panel.change_opacity(1)
    panel.opacity.value = 0.2
    panel.window.value = (10.0, 90.0)
    panel.outline.value = True
    panel.layout_choice.value = "axial"
    panel.viewer.position = [1.0, 2.0, 3.0]
    assert seen == []
    assert panel.viewer.opacity == 0.2
    assert panel.viewer.window == [10.0, 90.0]
    assert panel.viewer.outline
    assert panel.viewer.layout == "axial"
    assert panel.position == [1.0, 2.0, 3.0]


def test_overlay_is_sent_without_the_image(panel):
    seen = sent(panel)
    panel.overlay = "truth"
    assert seen == ["overlay"]
    panel.choose_modality(4)
    assert seen == ["overlay", "image"]
    assert panel.shown_modality == "flair"


def test_wishes_outlive_a_case_that_cannot_fulfil_them(panel, tiny_cohort, case_run):
    panel.modality, panel.overlay = "flair", "disagreement"
    panel.show_case(open_case(tiny_cohort, "TINY-00001-000", case_run.folder))  # has no flair
    assert panel.shown_modality == "t1c"
    panel.show_case(open_case(tiny_cohort, "TINY-00003-000", case_run.folder))  # has no mask
    assert (panel.shown_modality, panel.shown_overlay) == ("flair", "prediction")
    panel.show_case(open_case(tiny_cohort, CASE, case_run.folder))
    assert (panel.shown_modality, panel.shown_overlay) == ("flair", "disagreement")
    assert panel.region_choice.visible


def test_hiding_an_overlay_brings_the_same_back(panel):
    panel.overlay = "truth"
    panel.toggle_overlay()
    assert (panel.shown_overlay, panel.viewer.overlay) == ("none", b"")
    panel.toggle_overlay()
    assert panel.shown_overlay == "truth"


def test_region_of_the_disagreement(panel):
    panel.overlay = "disagreement"
    seen = sent(panel)
    panel.region_choice.value = "ET"
    assert seen == ["overlay"]
    assert panel.region == "ET"


def test_a_map_has_a_range_and_no_labels(panel):
    panel.overlay = "map:idh-gradcam"
    assert panel.viewer.labels == []
    assert panel.viewer.map_range == pytest.approx([0.075, 0.75])
    assert "0.75" in panel.legend.object


def test_the_right_mouse_button_moves_the_slider(panel):
    low, high = panel.window.value
    panel.viewer.window = [low + 5, high - 5]
    assert panel.window.value == pytest.approx((low + 5, high - 5))
    panel.viewer.window = [low - 1e6, high]
    assert panel.window.value[0] == panel.window.start
    panel.reset_view()
    assert panel.viewer.window == list(panel.view.image("t1c").window)


def test_opacity_stays_between_0_and_1(panel):
    for _ in range(12):
        panel.change_opacity(1)
    assert panel.viewer.opacity == 1.0
    for _ in range(12):
        panel.change_opacity(-1)
    assert panel.viewer.opacity == 0.0


@pytest.mark.parametrize("reason", ["failed: this browser offers no WebGL2", ""])
def test_the_stand_in_says_why(panel, reason, tiny_cohort, case_run):
    if reason:
        panel.viewer.status = reason
        assert "no WebGL2" in panel.problem
    else:
        panel = CasePanel(viewer_problem="its file is not installed")
        panel.show_case(open_case(tiny_cohort, CASE, case_run.folder))
        assert "not installed" in panel.problem
    assert panel.viewer not in panel.stage
    assert isinstance(panel.ortho, OrthoView)
    assert panel.ortho.display is panel.view.image("t1c")
    assert panel.ortho.position == [round(v, 1) for v in panel.view.centre()]
    panel.ortho.position = [5.0, 6.0, 7.0]
    assert panel.position == [5.0, 6.0, 7.0]
    panel.opacity.value = 0.3
    assert panel.ortho.opacity == 0.3
    panel.overlay = "truth"
    assert panel.ortho.overlay is panel.view.overlay("truth")


def test_no_case(panel):
    panel.show_case(None)
    assert panel.viewer.image == b""
    assert panel.shown_modality == ""
    panel.toggle_overlay()
    panel.reset_view()

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from workbench.views.cases.browser import browse, three_planes
from workbench.views.cases.images import DisplayVolume, Volume
from workbench.views.cases.planes import AXIAL, CORONAL, SAGITTAL
from workbench.views.cases.view import open_case


def shown(browser) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.image.value)))


def test_every_control_changes_the_picture(tiny_cohort, case_run):
    browser = browse(tiny_cohort, case_run.folder, case="TINY-00000-000")
    before = shown(browser)
    assert before.ndim == 3
    assert before.std() > 10

    def changed(control, value):
        nonlocal before
        control.value = value
        after = shown(browser)
        assert after.shape != before.shape or (after != before).any()
        before = after

    changed(browser.overlay, "prediction")
    changed(browser.overlay, "disagreement")
    changed(browser.region, "ET")
    changed(browser.opacity, 0.9)
    changed(browser.overlay, "truth")
    changed(browser.outline, True)
    changed(browser.slices[AXIAL], browser.slices[AXIAL].value + 1)
    changed(browser.slices[CORONAL], browser.slices[CORONAL].value + 1)
    changed(browser.slices[SAGITTAL], browser.slices[SAGITTAL].value + 1)
    changed(browser.modality, "flair")
    changed(browser.window, (browser.window.value[0], browser.window.value[1] * 0.6))
    changed(browser.case, "TINY-00002-000")


def test_a_map_has_a_name_and_a_scale(tiny_cohort, case_run):
    browser = browse(tiny_cohort, case_run.folder, case="TINY-00000-000")
    browser.overlay.value = "map:idh-gradcam"
    assert "Map: idh-gradcam" in browser.message.value
    assert "linear-gradient" in browser.message.value
    assert "0.075" in browser.message.value
    assert "0.75 (below: not drawn)" in browser.message.value
    browser.overlay.value = "truth"
    assert "<b>Truth</b>" in browser.message.value
    assert "linear-gradient" not in browser.message.value


def test_cases_without_sequence_or_mask(tiny_cohort):
    browser = browse(tiny_cohort)
    browser.modality.value = "flair"
    browser.case.value = "TINY-00001-000"
    assert browser.modality.value == "t1"
    browser.case.value = "TINY-00003-000"
    assert browser.overlay.value == "none"
    assert "no clinical evidence" in browser.facts.value


def test_patients_left_is_on_the_right_and_lettered(tiny_cohort):
    display = open_case(tiny_cohort, "TINY-00000-000").image("t1")
    array = np.zeros_like(display.volume.array)
    array[:3] = 255  # the patient's left: small x
    sheet = three_planes(DisplayVolume(Volume(array, display.volume.grid), 0, 1, (0, 255)), (1, 5, 5), scale=1)
    width = round(array.shape[0] * 4)
    axial = sheet[:, :width].astype(int).sum(axis=2)
    assert axial[:, width // 2 + 15 :].sum() > 5 * axial[:, : width // 2 - 15].sum()


def test_a_broken_image_is_said_not_raised(tiny_cohort, tmp_path):
    import shutil

    from workbench.cohort.table import Cohort

    shutil.copytree(tiny_cohort.folder, tmp_path / "copy")
    copy = Cohort.open(tmp_path / "copy")
    copy.path("TINY-00000-000", "t1").write_bytes(b"no image")
    browser = browse(copy)
    assert "cannot be shown" in browser.message.value
    browser.case.value = "TINY-00002-000"
    assert shown(browser).std() > 10

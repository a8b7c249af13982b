"""Names of explanation maps, and their order."""

from __future__ import annotations

import pytest

from workbench.views.cases.map_names import map_order, map_title


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("gradcam_idh", "Grad-CAM IDH"),
        ("gradcampp_tumour", "Grad-CAM++ tumour"),
        ("gradcam_tert_open", "Grad-CAM TERT, gate open"),
        ("weight_flair", "Weight of FLAIR"),
        ("keep_t1c", "Tokens kept of T1c"),
        ("gate", "Tumour gate"),
        ("cmd_attention_open", "T2-FLAIR attention (CMD), gate open"),
        ("something_new", "something new"),
    ],
)
def test_titles(key: str, title: str) -> None:
    assert map_title(key) == title


def test_own_maps_stand_between_activations_and_weights() -> None:
    found = sorted(["weight_t1", "gate", "gradcampp_idh", "gradcam_idh"], key=map_order)
    assert found == ["gradcam_idh", "gradcampp_idh", "gate", "weight_t1"]

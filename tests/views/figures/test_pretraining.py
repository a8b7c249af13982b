from __future__ import annotations

import numpy as np

from workbench.views.figures.pretraining import reconstruction_figure


def test_the_middle_slice_mirrored_and_one_scale_down_a_column() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.uniform(1, 2, (2, 6, 5, 4))
    wanted[1] = 0  # a sequence that was not acquired
    shown = np.zeros_like(wanted)
    shown[0, 0, :, 2] = 9  # in RAS+ the patient's left has the smallest index
    figure = reconstruction_figure({"shown": shown, "original": wanted}, ("t1", "flair"), title="case on phantom cohort demo")
    axes = np.array(figure.axes).reshape(2, 2)
    assert [ax.get_title() for ax in axes[0]] == ["T1", "FLAIR (absent)"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["shown", "original"]
    top, below = (ax.images[0] for ax in axes[:, 0])
    np.testing.assert_array_equal(below.get_array(), wanted[0, ::-1, :, 2].T)
    assert (np.argwhere(np.asarray(top.get_array()) == 9)[:, 1] == 5).all(), "on the picture's right"
    assert top.get_clim() == below.get_clim() == tuple(np.percentile(wanted[0], (1, 99)))
    letters = {text.get_text(): text.get_position()[0] for text in axes[0, 0].texts}
    assert letters["L"] > letters["R"]
    assert figure.get_suptitle() == "case on phantom cohort demo"

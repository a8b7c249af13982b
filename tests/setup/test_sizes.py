"""What a size sets: a method's own value before the one that most methods have, and no option of its own."""

from __future__ import annotations

from workbench.models.catalogue import FACTS
from workbench.setup.sizes import size_defaults


def test_a_methods_own_value_wins() -> None:
    demo, paper = size_defaults("unet", "demo"), size_defaults("unet", "paper")
    assert (FACTS["unet"].demo["epochs"], demo["epochs"]) == (12, 12)
    assert (FACTS["unet"].paper["epochs"], paper["epochs"]) == (1000, 1000)
    assert demo["patch"] == size_defaults("mts_unet", "demo")["patch"] == 64
    assert (paper["patch"], size_defaults("mts_unet", "paper")["patch"]) == (128, 96)
    assert size_defaults("mts_unet", "paper")["steps_per_epoch"] == -1, "unset is a value too: one pass over the cases"


def test_options_are_left_to_the_method() -> None:
    assert "width" in FACTS["unet"].demo
    assert "width" not in size_defaults("unet", "demo")


def test_markers_are_asked_of_methods_that_predict_some() -> None:
    assert size_defaults("unet", "demo")["markers"] == "none"
    assert size_defaults("mts_unet", "demo")["markers"] == "idh,codel,grade"

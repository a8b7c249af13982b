"""Sets of changes by name, and what differs from them."""

from __future__ import annotations

import pytest

from workbench.errors import ParameterError
from workbench.sampling.augmentation_settings import SETS, AugmentationSettings, augmentation_settings, canonical_augmentation


def test_nnunets_set_is_that_of_its_trainer() -> None:
    s = augmentation_settings("nnunet")
    assert (s.flip, s.rotate, s.rotation, s.zoom, s.zoom_low, s.zoom_high) == ((0.5, 0.5, 0.5), 0.2, 30, 0.2, 0.7, 1.4)
    assert (s.gaussian, s.gaussian_deviation, s.blur, s.blur_low, s.blur_high) == (0.1, 0.1, 0.2, 0.5, 1.0)
    assert (s.brightness, s.brightness_range, s.contrast, s.contrast_range) == (0.15, 0.25, 0.15, 0.25)
    assert (s.low_resolution, s.lowest_resolution) == (0.25, 0.5)
    assert (s.gamma_inverted, s.gamma_plain, s.gamma_low, s.gamma_high) == (0.1, 0.3, 0.7, 1.5)
    assert not any((s.affine, s.gamma, s.noise, s.bias)), "and nothing of the other set"
    assert augmentation_settings("light") == AugmentationSettings()


def test_changes_follow_the_name() -> None:
    found = augmentation_settings("nnunet, rotation=15, flip=0.5/0/0, blur=0")
    assert found == SETS["nnunet"].model_copy(update={"rotation": 15.0, "flip": (0.5, 0.0, 0.0), "blur": 0.0})
    assert augmentation_settings("light,flip=0.25").flip == (0.25, 0.25, 0.25)


def test_the_same_settings_are_written_in_one_way() -> None:
    assert canonical_augmentation(" light ") == "light"
    assert canonical_augmentation("nnunet,blur=0.20,rotation=15.0") == "nnunet,rotation=15"
    third = canonical_augmentation(f"light,flip=0.5,noise={1 / 3!r}")
    assert augmentation_settings(third).noise == 1 / 3
    assert canonical_augmentation(third) == third


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heavy", "'heavy' is unknown; there are light, nnunet"), ("nnunet,sharpen=1", "'sharpen=1' is no change.*blur_low"),
        ("nnunet,blur", "'blur' is no change"), ("light,blur=much", "blur='much' is no number"), ("light,blur=2", "blur: .*1"),
        ("light,noise=nan", "noise: .*finite"), ("light,flip=1/0", "flip='1/0'"), ("light,flip=2", "flip: expected three"),
        ("nnunet,blur=1,blur=0", "'blur' is set twice"), ("light,blur_low=3", "blur_low must not exceed blur_high"), ("", "''"),
    ],
)  # fmt: skip
def test_what_it_cannot_read_is_named(text: str, said: str) -> None:
    with pytest.raises(ParameterError, match=f"parameter 'augmentation'.*{said}"):
        augmentation_settings(text)

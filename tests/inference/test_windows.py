from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from workbench.inference.windows import centred_start, crop, mirrored, paste, slide, tumour_centre, whole_shape


def volume(*shape: int) -> torch.Tensor:
    return torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(20, 17, 23), (8, 8, 8), (5, 30, 3), (9, 8, 7)])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_equal_one_pass_for_a_pointwise_net(shape: tuple[int, int, int], batch: int) -> None:
    net = nn.Conv3d(2, 3, 1).requires_grad_(False)
    images = volume(*shape)
    sizes = set()

    def predictor(windows: torch.Tensor) -> torch.Tensor:
        sizes.add(tuple(windows.shape[2:]))
        assert len(windows) <= batch
        return net(windows)

    found = slide(images, (8, 8, 8), predictor, overlap=0.5, batch=batch)
    assert found.shape == (1, 3, *shape)
    assert torch.allclose(found, net(images), atol=1e-5)
    assert sizes == {(8, 8, 8)}


def test_a_short_side_is_padded_with_zeros_on_both_ends() -> None:
    seen = []

    def predictor(windows: torch.Tensor) -> torch.Tensor:
        seen.append(windows.clone())
        return windows[:, :1]

    images = volume(5, 8, 8) + 10
    found = slide(images, (8, 8, 8), predictor)
    (window,) = seen
    assert not window[:, :, 0].any()
    assert not window[:, :, 6:].any()
    assert torch.equal(window[:, :, 1:6], images)
    assert torch.allclose(found, images[:, :1], rtol=1e-6)


def test_blending_weights_are_gaussian() -> None:
    """Two windows of length 8 overlap by half; each says its own number, the blend shows the weights."""
    starts = []

    def predictor(window: torch.Tensor) -> torch.Tensor:
        starts.append(float(window[0, 0, 0, 0, 0]))
        return torch.full((1, 1, 8, 8, 8), starts[-1])

    images = torch.arange(12.0)[None, None, :, None, None].expand(1, 1, 12, 8, 8)
    # the middle line: near the corners MONAI clamps the weights at 0.001
    found = slide(images, (8, 8, 8), predictor, overlap=0.5)[0, 0, :, 4, 4]
    assert starts == [0.0, 4.0]
    assert torch.equal(found[:4], torch.zeros(4))
    assert torch.equal(found[8:], torch.full((4,), 4.0))
    for x in range(4, 8):
        first, second = (math.exp(-0.5 * ((x - start - 3.5) / (8 / 8)) ** 2) for start in (0, 4))
        assert float(found[x]) == pytest.approx(4 * second / (first + second), abs=1e-4)


def test_crop_and_paste_undo_each_other() -> None:
    images = volume(7, 6, 5)[0]
    for start in [(-3, 2, 1), (0, 0, 0), (4, -2, 3), (5, 5, 4), (-20, 0, 0)]:
        window = crop(images, start, (6, 8, 4))
        assert window.shape == (2, 6, 8, 4)
        back = paste(window, start, (7, 6, 5))
        inside = paste(torch.ones(1, 6, 8, 4), start, (7, 6, 5)).bool()
        assert torch.equal(back, torch.where(inside, images, torch.zeros(())))
        for x, y, z in np.ndindex(6, 8, 4):
            where = np.add(start, (x, y, z))
            expected = images[:, *where] if ((where >= 0) & (where < (7, 6, 5))).all() else torch.zeros(2)
            assert torch.equal(window[:, x, y, z], expected)


def test_the_window_of_a_whole_case() -> None:
    assert whole_shape((29, 37, 32), (32, 32, 32), 16, 32) == (32, 48, 32)
    assert whole_shape((29, 37, 32), (64, 64, 64), 32, 64) == (64, 64, 64)
    assert whole_shape((5, 5, 5), (4, 4, 4), 1, 1) == (5, 5, 5)
    # as sampling lays it: the patch around voxel n // 2
    assert centred_start((29, 36, 70), (64, 64, 64)) == (14 - 32, 18 - 32, 35 - 32)


def test_centre_of_the_largest_component() -> None:
    labels = np.zeros((20, 18, 16), np.uint8)
    assert tumour_centre(labels) is None
    labels[2:5, 3:6, 4:7] = 1
    labels[10:17, 9:12, 5:8] = 3  # larger, of another label
    labels[10, 9, 5] = 2  # labels do not split a component
    x, y, z = tumour_centre(labels)
    assert (x, y, z) == (13, 10, 6)
    labels[10:18] = 0
    assert tumour_centre(labels) == (3, 4, 5)


def test_parts_that_touch_by_a_corner_are_one() -> None:
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[0:3, 0:3, 0:3] = labels[3:6, 3:6, 3:6] = 1  # 54 voxels together
    labels[10:13, 10:15, 10:12] = 1  # 30
    centre = tumour_centre(labels)
    assert centre is not None
    assert max(centre) <= 3


def test_mirroring_averages_over_all_flips() -> None:
    images = volume(4, 4, 4)

    def ramp(windows: torch.Tensor) -> torch.Tensor:
        return windows[:, :1] + torch.arange(4.0)[:, None, None] + 10 * torch.arange(4.0)

    assert mirrored(ramp, ()) is ramp
    found = mirrored(ramp, (0, 2))(images)
    assert torch.allclose(found, images[:, :1] + 1.5 + 15, atol=1e-5)  # the ramps average out, the images do not
    once = mirrored(ramp, (2,))(images)
    assert torch.allclose(once, images[:, :1] + torch.arange(4.0)[:, None, None] + 15, atol=1e-5)

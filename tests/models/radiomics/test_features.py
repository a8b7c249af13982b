"""Radiomics features against what can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.models.radiomics.features import case_features, intensity, location, shape, surface_area


def ball(radius: float, margin: int = 3) -> np.ndarray:
    side = 2 * int(np.ceil(radius)) + 2 * margin + 1
    places = np.indices((side,) * 3) - (side - 1) / 2
    return (places**2).sum(axis=0) <= radius**2


@pytest.mark.parametrize(("radius", "tolerance"), [(6, 0.03), (10, 0.02), (16, 0.01)])
@pytest.mark.parametrize("spacing", [1.0, 2.5])
def test_a_ball_has_the_size_and_form_of_a_ball(radius: float, tolerance: float, spacing: float) -> None:
    found = shape(ball(radius), spacing)
    r = radius * spacing
    assert found["volume"] * 1000 == pytest.approx(4 / 3 * np.pi * r**3, rel=0.03)
    assert found["area"] * 100 == pytest.approx(4 * np.pi * r**2, rel=tolerance)
    assert found["sphericity"] == pytest.approx(1, abs=tolerance)
    assert found["compactness"] == pytest.approx(1 / (6 * np.pi), rel=2 * tolerance)  # IBSI's first compactness of a ball
    assert found["surface_to_volume"] == pytest.approx(3 / r, rel=0.05)
    assert found["major_axis"] == pytest.approx(2 * r, rel=0.02)
    assert (found["elongation"], found["flatness"]) == (pytest.approx(1, abs=1e-9), pytest.approx(1, abs=1e-9))
    assert found["components"] == 1


def test_a_box_has_its_own_axes_whichever_way_it_lies() -> None:
    """An a x b x c box has second moments a²/12, ...: ratios of axes are ratios of edges, exactly."""
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        mask = np.zeros((50, 50, 50), bool)
        mask[10:20, 10:30, 5:45] = True
        found = shape(mask.transpose(order), 1.0)
        assert found["volume"] == pytest.approx(8.0)
        assert found["elongation"] == pytest.approx(20 / 40, rel=1e-9)
        assert found["flatness"] == pytest.approx(10 / 40, rel=1e-9)
        # edges and corners are rounded by the smoothing, faces are not
        assert 0.9 < found["area"] * 100 / (2 * (10 * 20 + 10 * 40 + 20 * 40)) < 1.0
        assert found["sphericity"] < 0.8


def test_area_adds_up_over_distant_parts_and_scales_with_the_square_of_the_voxel() -> None:
    two = np.zeros((60, 30, 30), bool)
    two[4:23, 4:23, 4:23], two[34:53, 4:23, 4:23] = ball(6), ball(6)
    assert surface_area(two, 1.0) == pytest.approx(2 * surface_area(ball(6), 1.0), rel=1e-9)
    assert shape(two, 1.0)["components"] == 2
    assert surface_area(two, 3.0) == pytest.approx(9 * surface_area(two, 1.0), rel=1e-9)


def test_small_and_empty_regions_have_what_they_can_have() -> None:
    assert shape(np.zeros((4, 4, 4), bool), 1.0) == {"volume": 0.0}
    voxel = np.zeros((4, 4, 4), bool)
    voxel[1, 2, 3] = True
    found = shape(voxel, 2.0)
    assert found["volume"] == pytest.approx(0.008)
    assert "elongation" not in found
    assert all(np.isfinite(value) for value in found.values())


def test_a_constant_region_has_no_entropy_and_no_spread() -> None:
    found = intensity(np.full(50, 1.3), 2.0)
    assert found["mean"] == pytest.approx(1.3)
    assert [found[name] for name in ("deviation", "skewness", "kurtosis", "entropy", "interquartile")] == pytest.approx([0] * 5)
    assert found["energy"] == pytest.approx(50 * 1.3**2 * 8 / 1000)


def test_first_order_features_of_known_values() -> None:
    found = intensity(np.array([0.0, 0.0, 0.0, 1.0]), 10.0)
    # mean 1/4, variance 3/16; third and fourth standardised moments of a Bernoulli variable
    assert found["deviation"] == pytest.approx(np.sqrt(3 / 16))
    assert found["skewness"] == pytest.approx((1 - 2 / 4) / np.sqrt(3 / 16))
    assert found["kurtosis"] == pytest.approx((1 - 6 * 3 / 16) / (3 / 16))
    assert found["entropy"] == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))
    assert found["energy"] == pytest.approx(1.0)
    normal = intensity(np.random.default_rng(0).normal(2, 3, 200_000), 1.0)
    assert normal["p90"] - normal["p10"] == pytest.approx(2 * 1.2816 * 3, rel=0.02)
    assert (normal["skewness"], normal["kurtosis"]) == (pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.04))


def a_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    brain = ball(12)
    labels = np.zeros(brain.shape, np.uint8)
    for label, radius in ((2, 6), (3, 4), (1, 2)):
        labels[np.roll(ball(radius, margin=15 - radius), 4, axis=0)] = label
    images = rng.normal(size=(2, *brain.shape)).astype(np.float32) * brain
    return images, brain, labels


def test_a_case_is_measured_in_every_region_and_sequence() -> None:
    images, brain, labels = a_case()
    found = case_features(images, (True, True), ("t1", "flair"), brain, labels, "glioma", 1.0)
    assert all(np.isfinite(value) for value in found.values())
    assert {name.split("/")[0] for name in found} == {"missing", "composition", "location", "shape", "intensity", "texture"}
    assert {name.split("/")[1] for name in found if name.startswith("shape")} == {"WT", "ET", "NCR", "ED"}
    assert {name.split("/")[1] for name in found if name.startswith("texture")} == {"WT", "ET"}
    shares = [found[f"composition/{name}_share"] for name in ("ET", "NCR", "ED")]
    assert sum(shares) == pytest.approx(1)
    assert found["location/right"] > 0.55
    assert found["location/lateral"] == pytest.approx(found["location/right"] - 0.5)
    plain = case_features(images, (True, True), ("t1", "flair"), brain, labels, "glioma", 1.0, textured=False)
    assert set(found) - set(plain) == {name for name in found if name.startswith("texture")}


def test_what_is_absent_is_left_out_and_said() -> None:
    images, brain, labels = a_case()
    found = case_features(images, (True, False), ("t1", "flair"), brain, labels, "glioma", 1.0)
    assert (found["missing/t1"], found["missing/flair"]) == (0, 1)
    assert not any("/flair/" in name for name in found)
    whole = case_features(images, (True, True), ("t1", "flair"), brain, (labels > 0).astype(np.uint8), "WT", 1.0)
    assert not any("/ET/" in name or "/NCR/" in name or name.startswith("composition") for name in whole)
    empty = case_features(images, (True, True), ("t1", "flair"), brain, np.zeros_like(labels), "glioma", 1.0)
    assert empty == {"missing/t1": 0, "missing/flair": 0, **{f"shape/{name}/volume": 0 for name in ("WT", "ET", "NCR", "ED")}}
    nothing = case_features(images, (True, True), ("t1", "flair"), brain, None, "", 1.0)
    assert {name.split("/")[1] for name in nothing if name.startswith("shape")} == {"brain"}


def test_location_follows_the_axes() -> None:
    brain = np.ones((10, 20, 40), bool)
    tumour = np.zeros_like(brain)
    tumour[0, 19, 20] = True
    found = location(tumour, brain)
    assert (found["location/right"], found["location/front"]) == (pytest.approx(0.05), pytest.approx(0.975))
    assert found["location/lateral"] == pytest.approx(0.45)
    assert location(np.zeros_like(brain), brain) == {}

"""Growth against the travelling wave of Fisher and Kolmogorov, conservation of mass, and walls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from workbench.cohort.phantom import growth
from workbench.cohort.phantom.growth import diffusivity, grow, growth_spacing


def wave_width(high: float = 0.8, low: float = 0.16) -> float:
    """Distance between u = high and u = low in the slowest travelling wave (speed 2), in units of sqrt(D/rho)."""
    root = (-2 + np.sqrt(8)) / 2  # u = 1 - e exp(root z) near u = 1
    start = [1 - 1e-6, -1e-6 * root]
    found = []
    for level in (high, low):
        event = lambda z, y, level=level: y[0] - level  # noqa: E731
        event.terminal = True  # type: ignore[attr-defined]
        wave = solve_ivp(lambda z, y: [y[1], -2 * y[1] - y[0] * (1 - y[0])], (0, 200), start, events=event, rtol=1e-9, atol=1e-12)
        found.append(wave.t_events[0][0])
    return found[1] - found[0]


def bar(width: float, spacing: float, length: float = 110.0) -> tuple[np.ndarray, float]:
    """u along a bar of uniform tissue, and the time."""
    n = int(length / spacing)
    grown = grow(np.full((n, 5, 5), width**2, np.float32), spacing, (2, 2, 2), 0.7 * length * (5 * spacing) ** 2)
    return grown.concentration[:, 2, 2], grown.time


def crossing(profile: np.ndarray, level: float) -> float:
    last = np.flatnonzero(profile > level)[-1]
    return last + (profile[last] - level) / (profile[last] - profile[last + 1])


@pytest.mark.parametrize(("width", "spacing"), [(2.0, 1.0), (3.0, 1.5), (3.0, 1.0)])
def test_front_is_as_wide_as_the_travelling_wave(width: float, spacing: float) -> None:
    profile, _ = bar(width, spacing)
    measured = (crossing(profile, 0.16) - crossing(profile, 0.8)) * spacing
    assert measured == pytest.approx(wave_width() * width, rel=0.1)


def test_the_grid_hardly_matters() -> None:
    (fine, fine_time), (coarse, coarse_time) = bar(3.0, 1.0), bar(3.0, 1.5)
    assert fine_time == pytest.approx(coarse_time, rel=0.04)
    assert crossing(fine, 0.5) * 1.0 == pytest.approx(crossing(coarse, 0.5) * 1.5, abs=1.5)


def test_volume_is_met_in_a_uniform_medium_and_the_tumour_is_a_ball() -> None:
    grown = grow(np.full((51, 53, 55), 4.0, np.float32), 1.0, (25, 26, 27), 20_000)
    assert grown.volume == pytest.approx(20_000, rel=2e-3)
    where = np.argwhere(grown.concentration > 0.16)
    assert np.allclose(where.mean(0), (25, 26, 27), atol=0.05)
    radius = (20_000 * 3 / 4 / np.pi) ** (1 / 3)
    assert np.abs(where - where.mean(0)).max() == pytest.approx(radius, abs=1.5)


def test_without_proliferation_mass_is_conserved_and_no_flux_crosses_a_wall() -> None:
    diffusion = np.full((21, 18, 16), 4.0, np.float32)
    diffusion[12] = 0  # CSF
    nothing = np.zeros(diffusion.shape, np.float32)
    short = grow(diffusion, 1.0, (6, 9, 8), 1e9, rate=nothing, longest=0.2)
    long = grow(diffusion, 1.0, (6, 9, 8), 1e9, rate=nothing, longest=6.0)
    assert long.concentration.sum() == pytest.approx(short.concentration.sum(), rel=1e-4)
    assert long.concentration.max() < 0.5 * short.concentration.max()
    assert long.concentration[12:].max() == 0


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    diffusion = (rng.random((30, 26, 28)) * 4 + 0.5).astype(np.float32)
    one = grow(diffusion, 1.0, (15, 13, 14), 3_000).concentration
    monkeypatch.setattr(growth, "_SLAB", 1000)
    assert np.array_equal(one, grow(diffusion, 1.0, (15, 13, 14), 3_000).concentration)


def test_it_grows_farther_along_white_matter() -> None:
    white = np.zeros((50, 50, 50), np.float32)
    white[:, 18:32, 18:32] = 1
    diffusion = diffusivity(1 - white, white, 2.0, 10.0)
    assert diffusion[25, 25, 25] == pytest.approx(4.0)
    assert diffusion[25, 2, 2] == pytest.approx(0.4)
    seen = np.argwhere(grow(diffusion, 1.0, (25, 25, 25), 12_000).concentration > 0.16)
    along, across = (np.ptp(seen[:, axis]) for axis in (0, 1))
    assert along > 1.25 * across


def test_a_full_cave_ends_the_growth() -> None:
    diffusion = np.zeros((20, 20, 20), np.float32)
    diffusion[6:13, 6:13, 6:13] = 4
    grown = grow(diffusion, 1.0, (9, 9, 9), 1e9)
    assert grown.volume == 7**3


def test_two_voxels_per_front() -> None:
    for width in (2.0, 2.4, 3.0, 5.0):
        assert width / growth_spacing(width) >= 2 - 1e-9
        assert 1.0 <= growth_spacing(width) <= 1.5

"""Fluxes in apertures and half-light radii, against sep's and the truth."""

import numpy as np
import pytest
import sep

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.apertures import aperture_fluxes, half_light_radii


@pytest.fixture
def exposure(stars_on_a_grid):
    """A noisy image of 100 stars on a grid, some of its pixels bad, and the stars' positions."""
    rng = np.random.default_rng(6)
    image, x, y = stars_on_a_grid(rng.uniform(3e3, 1e5, 100))
    image.mask[rng.random(image.shape) < 0.003] = planes.BAD
    return image, x, y


def is_touched(bad, x, y, radius):
    """Whether a circle leaves the image, or one of 5×5 points of a bad pixel lies in it."""
    ny, nx = bad.shape
    if x - radius < -0.5 or y - radius < -0.5 or x + radius > nx - 0.5 or y + radius > ny - 0.5:
        return True
    rows, columns = np.nonzero(bad)
    parts = np.arange(-0.4, 0.5, 0.2)
    dx, dy = (columns - x)[:, None, None] + parts, (rows - y)[:, None, None] + parts[:, None]
    return bool((dx**2 + dy**2 < radius**2).any())


def test_fluxes_and_errors_are_seps_and_flags_are_true(exposure):
    """The whole image, its edges too: apertures that leave it (sep misses some at the left), some with bad pixels."""
    image, x, y = exposure
    rng = np.random.default_rng(3)
    x, y = np.append(x, rng.uniform(-3, 643, 300)), np.append(y, rng.uniform(-3, 643, 300))
    bad = (image.mask & planes.BAD) != 0
    for radius in (1.3, 4.0, 7.7):
        flux, error, touched = aperture_fluxes(image, x, y, radius)
        wanted = sep.sum_circle(image.image, x, y, radius, var=image.variance, mask=bad, gain=None, subpix=5)
        known = np.isfinite(wanted[0]) & np.isfinite(flux)
        assert known.sum() > 390
        np.testing.assert_allclose(flux[known], wanted[0][known], rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(error[known], wanted[1][known], rtol=1e-6)
        assert touched.tolist() == [is_touched(bad, *at, radius) for at in zip(x, y)]


def test_bad_pixels_are_replaced_by_the_mean_of_the_good_ones_and_told(stars_on_a_grid):
    image, x, y = stars_on_a_grid(np.full(100, 3000.0))
    image.mask[int(y[0]) + 1, int(x[0])] |= planes.BAD
    image.image[int(y[0]) + 1, int(x[0])] = 1e6
    flux, error, touched = aperture_fluxes(image, x[:2], y[:2], 8.0)
    assert touched.tolist() == [True, False]
    assert flux[0] < 1e4
    assert error[1] == pytest.approx(np.sqrt(np.pi * 64 * 500 + 3000), rel=0.05)
    assert [len(part) for part in aperture_fluxes(image, [], [], 8.0)] == [0, 0, 0]


def test_an_aperture_without_a_good_pixel_has_no_flux(exposure):
    image, x, y = exposure
    image.mask[:100, :100] |= planes.BAD
    flux, error, touched = aperture_fluxes(image, [40.0, 1e4], [40.0, 50.0], 4.0)
    assert np.isnan(flux).all() and np.isnan(error).all() and touched.all()


def test_half_light_radii_are_seps_with_many_parts_of_a_pixel(exposure):
    image, x, y = exposure
    found = half_light_radii(image.image, x, y, 13.0)
    wanted = sep.flux_radius(image.image, x, y, np.full(len(x), 13.0), 0.5, subpix=21)[0]
    assert np.abs(found - wanted).max() < 0.02
    assert abs(np.mean(found - wanted)) < 0.002


def test_the_half_light_radius_of_a_gaussian_is_known():
    sigma, size = 2.0, 61
    y, x = np.mgrid[:size, :size]
    image = np.exp(-((x - 30.3) ** 2 + (y - 29.8) ** 2) / (2 * sigma**2)).astype(np.float32)
    # pixels make it a little broader: a variance of a twelfth on each axis
    true = np.sqrt(2 * np.log(2) * (sigma**2 + 1 / 12))
    assert half_light_radii(image, [30.3], [29.8], 20.0)[0] == pytest.approx(true, rel=2e-3)


def test_what_has_no_light_has_no_radius():
    assert np.isnan(half_light_radii(np.full((50, 50), -1, np.float32), [25.0], [25.0], 8.0)).all()
    assert len(half_light_radii(np.zeros((50, 50), np.float32), [], [], 8.0)) == 0

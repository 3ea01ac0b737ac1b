"""Cosmic rays: found as completely as astroscrappy finds them, without touching stars of 0.8 arcsec seeing."""

import numpy as np
import pytest
from ccd_scene import scene
from scipy.ndimage import binary_dilation

from proc_decam_dagster.pixels.cosmic_rays import find_cosmic_rays, repair
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BAD, CR, INTERP, SAT

SHAPE = (512, 512)
READ_NOISE = 7.0


def tracks(rng, n, shape=SHAPE):
    """Return the charge (electrons) of n straight, diffused tracks."""
    charge = np.zeros(shape)
    for _ in range(n):
        x, y, angle = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(0, 2 * np.pi)
        length = 1 + min(rng.exponential(8), 60)
        dose = rng.lognormal(np.log(1200), 0.6)
        t = np.linspace(0, length, int(8 * length) + 4)
        i = (x + t * np.cos(angle) + 0.3 * rng.standard_normal(t.size)).astype(int)
        j = (y + t * np.sin(angle) + 0.3 * rng.standard_normal(t.size)).astype(int)
        inside = (i >= 0) & (i < shape[1]) & (j >= 0) & (j < shape[0])
        np.add.at(charge, (j[inside], i[inside]), dose * length / t.size)
    return charge


def expected_sky(sky_fixture, rng, fwhm, level, n_stars, shape=SHAPE):
    """Return sky and stars (electrons) without noise; half of the stars overlap with a brighter one."""
    mean = np.full(shape, float(level))
    x, y = rng.uniform(0, shape[1], n_stars), rng.uniform(0, shape[0], n_stars)
    x[1::2], y[1::2] = x[::2] + rng.uniform(-6, 6, n_stars // 2), y[::2] + rng.uniform(-6, 6, n_stars // 2)
    sky_fixture.add_stars(mean, x, y, 10 ** rng.uniform(2.5, 6.0, n_stars), fwhm, size=81)
    return mean


def observe(mean, charge, rng):
    """Return image and variance as ISR gives them."""
    image = rng.poisson(mean) + charge + READ_NOISE * rng.standard_normal(mean.shape)
    return image.astype(np.float32), (np.maximum(image, 0) + READ_NOISE**2).astype(np.float32)


@pytest.mark.parametrize(("fwhm", "level"), [(3.0, 300), (4.5, 800)])
def test_complete_and_pure(sky, fwhm, level):
    rng = np.random.default_rng(7)
    mean = expected_sky(sky, rng, fwhm, level, 60)
    charge = tracks(rng, 40)
    image, variance = observe(mean, charge, rng)
    mask = np.where(binary_dilation(mean > 180000, iterations=2), SAT, 0).astype(np.int32)
    hit = find_cosmic_rays(image, variance, mask)
    significant = (charge > 3 * np.sqrt(mean + READ_NOISE**2)) & (mask == 0)
    assert hit[significant].mean() > 0.95
    assert charge[hit].sum() > 0.98 * charge[mask == 0].sum()
    false = hit & ~binary_dilation(charge > 0, iterations=2)
    assert false.sum() <= 50 * hit.size / (4096 * 2048) + 3


def test_not_worse_than_astroscrappy(sky):
    import astroscrappy

    rng = np.random.default_rng(17)
    mean = expected_sky(sky, rng, 3.6, 500, 40)
    charge = tracks(rng, 40)
    image, variance = observe(mean, charge, rng)
    mask = np.where(binary_dilation(mean > 180000, iterations=2), SAT, 0).astype(np.int32)
    peer, _ = astroscrappy.detect_cosmics(
        image, inmask=mask != 0, invar=variance, sigclip=4.5, sigfrac=0.3, objlim=5.0, readnoise=READ_NOISE,
        satlevel=np.inf, cleantype="meanmask",
    )  # fmt: skip
    hit = find_cosmic_rays(image, variance, mask)
    significant = (charge > 3 * np.sqrt(mean + READ_NOISE**2)) & (mask == 0)
    away = ~binary_dilation(charge > 0, iterations=2)
    assert hit[significant].mean() >= peer[significant].mean() - 0.01
    assert (hit & away).sum() <= (peer & away).sum() + 3


@pytest.mark.parametrize("fwhm", [2.5, 4.2])
def test_whole_ccd(fwhm):
    """At 0.66 and 1.1 arcsec: most pixels above 3 sigma, at most 50 false ones, no core of a star."""
    truth = scene(3, fwhm=fwhm)
    image = truth.image
    hit = find_cosmic_rays(image.image, image.variance, image.mask)
    usable = (image.mask & SAT) == 0
    assert hit[(truth.rays > 3 * truth.noise) & usable].mean() >= 0.95
    away = ~binary_dilation(truth.rays > 1, iterations=2)
    assert (hit & away).sum() <= 50
    x, y = np.rint(truth.x).astype(int), np.rint(truth.y).astype(int)
    inside = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0])
    cores = np.zeros(image.shape, bool)
    cores[y[inside], x[inside]] = True
    significant = truth.sources > 5 * truth.noise
    assert not (hit & away & significant & binary_dilation(cores, np.ones((3, 3)))).any()


def test_stars_alone_are_untouched(sky):
    rng = np.random.default_rng(3)
    mean = expected_sky(sky, rng, 3.0, 300, 150)
    image, variance = observe(mean, 0.0, rng)
    mask = np.where(binary_dilation(mean > 180000, iterations=2), SAT, 0).astype(np.int32)
    hit = find_cosmic_rays(image, variance, mask)
    assert not hit[mean > 450].any()
    assert hit.sum() <= 5


def test_hit_on_a_star_is_found_and_repaired(sky):
    rng = np.random.default_rng(5)
    mean = np.full((101, 101), 300.0)
    sky.add_stars(mean, 50.0, 50.0, 30000.0, 4.0)
    charge = np.zeros_like(mean)
    charge[52, 49] = 8000
    charge[20, 20:30] = 1500
    image = MaskedImage(*observe(mean, charge, rng), np.zeros(mean.shape, np.int32))
    hits = repair(image)
    assert (image.mask[charge > 0] == CR | INTERP).all()
    assert hits <= (charge > 0).sum() + 4
    filled = charge > 0
    pull = (image.image - mean)[filled] / np.sqrt(mean[filled] + READ_NOISE**2)
    assert np.abs(pull).max() < 6
    assert image.variance[filled] == pytest.approx(mean[filled] + READ_NOISE**2, rel=0.3)


def test_unusable_pixels_and_nan_are_left_alone():
    rng = np.random.default_rng(1)
    image, variance = observe(np.full((80, 80), 300.0), 0.0, rng)
    mask = np.zeros(image.shape, np.int32)
    image[40, 40] = 1e5
    mask[40, 40] = BAD
    image[10, 10] = np.nan
    hit = find_cosmic_rays(image, variance, mask)
    assert not hit[40, 40]
    assert not hit[10, 10]


def test_frame_full_of_edges_does_not_overflow():
    rng = np.random.default_rng(2)
    image = rng.choice(np.float32([0, 50000]), (64, 64))
    hit = find_cosmic_rays(image, np.full(image.shape, 50, np.float32), np.zeros(image.shape, np.int32))
    assert hit.shape == image.shape

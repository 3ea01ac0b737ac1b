"""The sky: recovered under sources, and not eaten by bright stars."""

import numpy as np
import pytest
from ccd_scene import scene

from proc_decam_dagster.pixels import background, detection
from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage


@pytest.fixture
def field(sky):
    """A sloping sky with stars, one of them very bright and saturated; the true sky."""
    rng = np.random.default_rng(3)
    shape = (900, 900)
    y, x = np.mgrid[:900, :900]
    truth = 1000 + 0.05 * x + 0.02 * y
    clean = np.zeros(shape)
    sky.add_stars(clean, rng.uniform(0, 900, 150), rng.uniform(0, 900, 150), 10 ** rng.uniform(3, 5, 150), 4.0)
    sky.add_stars(clean, 450, 450, 2e7, 4.0, size=401)
    image = rng.poisson(clean + truth).astype(np.float32)
    mask = np.where(image > 1e5, planes.SAT, 0).astype(np.int32)
    return MaskedImage(np.minimum(image, np.float32(1e5)), (clean + truth).astype(np.float32), mask), truth


def test_sky_is_recovered_and_its_noise_known(field):
    exposure, truth = field
    sky = background.subtract(exposure)
    far = np.hypot(*(np.mgrid[:900, :900] - 450)) > 250
    assert np.abs(np.median((sky.image - truth)[far])) < 1.0
    assert np.sqrt(np.mean((sky.image - truth)[far] ** 2)) < 0.1 * np.sqrt(1030)
    assert np.abs((sky.image - truth)[far]).max() < 0.5 * np.sqrt(1030)
    assert sky.rms == pytest.approx(np.sqrt(1030), rel=0.05)
    assert sky.level == pytest.approx(np.median(truth), rel=0.01)


def test_the_wings_of_a_bright_star_stay(field):
    exposure, truth = field
    sky = background.subtract(exposure)
    ring = np.hypot(*(np.mgrid[:900, :900] - 450))
    ring = (ring > 60) & (ring < 90)
    assert (sky.image - truth)[ring].mean() < 0.25 * np.sqrt(1030)


SMALLEST = pytest.param(3e6, 60.0, False, marks=pytest.mark.full)


@pytest.mark.parametrize(
    ("flux", "radius", "bulge"), [SMALLEST, (1e7, 80.0, True), (3e7, 250.0, False), (5e8, 0.0, False)]
)
def test_bright_galaxies_and_stars_leave_the_sky_right_on_a_whole_ccd(flux, radius, bulge):
    """Galaxies of 16, 21 and 66 arcsec half-light radius, and a star of 5e8 electrons: 1 % of the sky, no hole."""
    from proc_decam_dagster.simulation import optics, rendering

    light = np.zeros((4096, 2048), np.float32)
    x, y, psf = np.array([1000.0]), np.array([2000.0]), optics.PsfField(4.2, 3.8)
    if radius:
        shape = (np.array([radius]), np.array([0.7]), np.array([0.5]), np.array([bulge]))
        rendering.draw_galaxies(light, x, y, np.array([flux]), *shape, psf)
    else:
        rendering.draw_stars(light, x, y, np.array([flux]), psf)
    truth = scene(11, extra=light)
    error = (background.subtract(truth.image).image - truth.sky) / truth.sky
    assert np.abs(error).max() < 0.01
    distance = np.hypot(np.arange(2048) - 1000, np.arange(4096)[:, None] - 2000)
    for low, high in ((0, 100), (100, 200), (200, 400), (400, 700)):
        ring = (distance >= low) & (distance < high)
        assert -0.002 < error[ring].mean() < 0.004


def test_detection_finds_few_sources_in_noise_and_most_faint_stars(sky):
    rng = np.random.default_rng(5)
    shape = (800, 800)
    noise = np.full(shape, 10, np.float32)
    blank = rng.normal(0, 10, shape).astype(np.float32)
    assert len(detection.detect(blank, noise, None, 4.0).sources) <= 3
    x, y = (g.ravel().astype(float) for g in np.meshgrid(np.arange(40, 800, 80), np.arange(40, 800, 80)))
    clean = np.zeros(shape)
    area = 1 / (sky.moffat(61, 4.0) ** 2).sum()
    sky.add_stars(clean, x, y, np.full(100, 10 * 10 * np.sqrt(area)), 4.0)  # signal-to-noise ratio 10
    found = detection.detect(blank + clean.astype(np.float32), noise, None, 4.0)
    assert 95 <= len(found.sources) <= 105
    assert found.segmentation.max() == len(found.sources)


def test_an_image_that_is_no_sky_is_a_named_failure():
    rng = np.random.default_rng(0)
    noise = np.full((2200, 2200), 1e-3, np.float32)
    checkered = np.abs(rng.normal(0, 1, noise.shape)).astype(np.float32)
    with pytest.raises(MeasurementFailure, match="overflowed"):
        detection.detect(checkered, noise, None, 2.0)

"""Synthetic sources: where they were put, as bright as asked, with their own noise, and the same every time."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.injection import inject, magnitude_to_njy, measure_injected


@pytest.fixture
def exposure(sky):
    shape = (500, 500)
    made = sky.observe(shape, sky.tan_wcs(shape), [], [], [], fwhm=4.0, sky=300.0)
    made.mask[100:110, 100:110] |= planes.BAD
    return made


def grid(exposure, magnitude, n=6):
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(60, 440, n), np.linspace(60, 440, n)))
    ra, dec = exposure.wcs.all_pix2world(x + 0.3, y - 0.2, 0)
    return ra, dec, np.full(len(ra), magnitude), x + 0.3, y - 0.2


def test_injected_sources_are_measured_where_and_as_bright_as_they_were_put(exposure):
    ra, dec, mag, x, y = grid(exposure, 19.5)
    made = inject(exposure, ra, dec, mag, (1, 2))
    assert np.abs(made.x - x).max() < 1e-3 and np.abs(made.y - y).max() < 1e-3
    catalogue = Table({"fake_id": np.arange(36), "x": made.x, "y": made.y, "flux": magnitude_to_njy(mag)})
    sources = measure_injected(made.exposure, catalogue)
    found = sources[np.asarray(sources["fake_id"]) >= 0]
    assert len(found) == 36
    pull = (found["psf_flux"] - found["fake_flux"]) / found["psf_flux_err"]
    assert abs(np.mean(pull)) < 0.6 and np.std(pull) == pytest.approx(1, abs=0.4)
    assert (made.exposure.mask[200:300, 200:300] & planes.INJECTED).any()


def test_the_exposure_itself_is_left_alone_and_the_noise_is_reproducible(exposure):
    before = exposure.image.copy()
    ra, dec, mag, *_ = grid(exposure, 20.0)
    first, again = (inject(exposure, ra, dec, mag, (7, 3)).exposure.image for _ in range(2))
    other = inject(exposure, ra, dec, mag, (7, 4)).exposure.image
    assert np.array_equal(exposure.image, before) and not (exposure.mask & planes.INJECTED).any()
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_photon_noise_and_variance_agree(exposure):
    exposure.image[:] = 0
    ra, dec, mag, *_ = grid(exposure, 18.0)
    made = inject(exposure, ra, dec, mag, (5,)).exposure
    expected = made.variance - exposure.variance
    bright = expected > 500
    assert np.mean((made.image - expected)[bright] ** 2 / expected[bright]) == pytest.approx(1, abs=0.2)


def test_sources_off_the_image_or_on_bad_pixels(exposure):
    ra, dec = exposure.wcs.all_pix2world([104.0, -5.0, 900.0], [104.0, 250.0, 250.0], 0)
    made = inject(exposure, np.append(ra, 10.0), np.append(dec, -80.0), np.full(4, 20.0), (1,))
    assert list(made.index) == [0, 1]
    assert made.usable[0] < 0.4 and made.usable[1] < 0.2


def test_no_sources_give_a_copy(exposure):
    made = inject(exposure, [], [], [], (1,))
    assert np.array_equal(made.exposure.image, exposure.image) and made.exposure.image is not exposure.image
    assert (np.asarray(measure_injected(made.exposure, Table({"fake_id": [], "x": [], "y": [], "flux": []}))["fake_id"])
            == -1).all()  # fmt: skip


def test_recovered_fluxes_are_unbiased(exposure):
    """Within 1 %, at four brightnesses, with the positions of the detections."""
    for magnitude in (18.0, 19.0, 20.0, 20.5):
        ra, dec, mag, x, y = grid(exposure, magnitude, n=9)
        made = inject(exposure, ra, dec, mag, (int(10 * magnitude),))
        catalogue = Table({"fake_id": np.arange(81), "x": made.x, "y": made.y, "flux": magnitude_to_njy(mag)})
        sources = measure_injected(made.exposure, catalogue)
        ratio = np.asarray(sources["fake_ratio"])[np.asarray(sources["fake_id"]) >= 0]
        ratio = ratio[np.isfinite(ratio)]
        assert len(ratio) > 75
        error = np.median(sources["psf_flux_err"] / sources["psf_flux"]) * 1.25 / np.sqrt(len(ratio))
        assert abs(np.median(ratio) - 1) < 0.01 + 2 * error

"""PSF matching: stars of any seeing become one Gaussian, with their flux, and nothing leaks out of masked pixels."""

import numpy as np
import pytest
import sep

from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.mask import NODATA, SAT
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_match import match_psf

SHAPE = (300, 280)
X, Y = np.array([70.3, 200.8, 140.0]), np.array([80.0, 90.6, 220.2])
FLUX = np.array([4e4, 8e4, 2e5])


def image(sky, fwhm, noise=True, q=1.0):
    wcs = sky.tan_wcs(SHAPE)
    return sky.observe(SHAPE, wcs, *wcs.all_pix2world(X, Y, 0), FLUX, fwhm=fwhm, flux_scale=1.0, noise=noise, q=q)


@pytest.mark.parametrize("fwhm, q", [(3.5, 1.0), (4.6, 1.15), (5.8, 1.0)])
def test_stars_become_the_gaussian(sky, fwhm, q):
    """Within 1 % of the peak, elongated ones too; the flux is the PSF's normalisation, the light within its stamp."""
    made = match_psf(image(sky, fwhm, noise=False, q=q), 7.0)
    assert made.psf.fwhm(100, 100) == pytest.approx(7.0, rel=0.01)
    fit = psf_fluxes(made, X, Y)
    np.testing.assert_allclose(fit.flux, FLUX, rtol=0.03)
    for x, y, flux in zip(X, Y, fit.flux):
        half = made.psf.size // 2
        cx, cy = int(x + 0.5), int(y + 0.5)
        star = made.image[cy - half : cy + half + 1, cx - half : cx + half + 1] / flux
        model = made.psf.stamp(x, y)
        assert np.abs(star - model).max() < 0.015 * model.max()


def test_sums_have_the_noise_that_the_variance_says(sky):
    made = match_psf(image(sky, 4.0), 6.0)
    x, y = np.random.default_rng(1).uniform(40, 240, (2, 3000))
    far = np.hypot(x[:, None] - X, y[:, None] - Y).min(1) > 40
    flux, _, _ = sep.sum_circle(made.image, x[far], y[far], 9.0)
    scatter = 1.4826 * np.median(np.abs(flux - np.median(flux)))
    # the kernel is as wide as the aperture: some of the noise averages out over its edge
    assert 0.7 < scatter / np.sqrt(600 * np.pi * 81) < 1.05


def test_masked_pixels_do_not_leak_and_holes_stay_holes(sky):
    spoilt = image(sky, 4.0)
    clean = match_psf(spoilt, 6.0)
    spoilt.image[150:152, 60:62] = 1e7
    spoilt.mask[150:152, 60:62] |= SAT
    spoilt.image[:, 250:], spoilt.variance[:, 250:], spoilt.mask[:, 250:] = np.nan, np.inf, NODATA
    made = match_psf(spoilt, 6.0)
    assert np.isnan(made.image[:, 256:]).all() and (made.mask[:, 256:] & NODATA).all()
    inner = np.s_[30:290, 20:240]
    known = np.isfinite(made.image[inner])
    assert known.mean() > 0.99
    assert np.abs(made.image[inner] - clean.image[inner])[known].max() < 40  # of a sky noise of 24 a pixel


def test_a_coadd_of_matched_images_has_that_psf_everywhere(sky):
    made = [match_psf(image(sky, fwhm), 6.5) for fwhm in (3.6, 4.4, 5.2)]
    out, _ = coadd(made, 3, SHAPE, statistic="median")
    assert out.psf.fwhm(40, 40) == pytest.approx(6.5, rel=0.01) == out.psf.fwhm(240, 250)
    np.testing.assert_allclose(psf_fluxes(out, X, Y).flux, FLUX, rtol=0.05)


def test_a_broader_psf_is_refused(sky):
    with pytest.raises(MeasurementFailure, match="cannot be matched"):
        match_psf(image(sky, 5.0), 4.5)

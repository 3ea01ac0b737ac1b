"""Fluxes: unbiased, with honest errors, and nothing invented on bad pixels."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.measurement import aperture_fraction, measure_fluxes
from proc_decam_dagster.pixels.photometry import encircled_fraction, psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.psf_shape import moffat


@pytest.fixture
def exposure(sky, stars_on_a_grid):
    """A noisy image of 100 equal faint stars on a grid, with the true PSF."""
    made, x, y = stars_on_a_grid(np.full(100, 3000.0))
    made.psf = sky.psf_model(made.shape, 4.0, size=61)
    return made, x, y


def test_psf_fluxes_are_unbiased_with_honest_errors(exposure):
    image, x, y = exposure
    measured = psf_fluxes(image, x, y)
    pull = (measured.flux - 3000) / measured.flux_err
    assert abs(pull.mean()) < 0.35
    assert pull.std() == pytest.approx(1, abs=0.2)
    assert measured.chi2.mean() == pytest.approx(1, abs=0.05)
    assert (measured.usable > 0.999).all()


def test_bad_pixels_do_not_reach_a_flux(exposure):
    image, x, y = exposure
    before = psf_fluxes(image, x[:1], y[:1]).flux[0]
    cx, cy = int(x[0]), int(y[0])
    image.image[cy + 2, cx + 1] = 1e6
    image.mask[cy + 2, cx + 1] |= planes.CR
    image.image[cy + 3, cx] = np.nan
    after = psf_fluxes(image, x[:1], y[:1])
    assert after.flux[0] == pytest.approx(before, abs=3 * after.flux_err[0])
    assert 0.8 < after.usable[0] < 1


def test_a_source_off_the_image_has_no_flux(exposure):
    image, *_ = exposure
    measured = psf_fluxes(image, np.array([-3.0, 320.0, np.nan, 5.0, 1e4]), np.array([300.0, 700.0, 3.0, np.inf, 9.0]))
    assert np.isnan(measured.flux).all() and np.isnan(measured.flux_err).all()


def test_psf_fluxes_are_the_least_squares_fit_of_the_good_pixels(exposure):
    """Also at the edges, on bad pixels, and in whatever order the sources come."""
    image, *_ = exposure
    rng = np.random.default_rng(4)
    ny, nx = image.shape
    image.variance *= rng.uniform(0.5, 2, image.shape).astype(np.float32)
    image.mask[rng.random(image.shape) < 0.01] |= planes.BAD
    image.image[rng.random(image.shape) < 0.01] = np.nan
    x = np.concatenate([rng.uniform(0, nx - 1, 20), [0.0, nx - 1.0, 2.3, nx - 8.6, 300.4]])
    y = np.concatenate([rng.uniform(0, ny - 1, 20), [0.0, ny - 1.0, 411.7, 99.2, ny - 3.1]])
    measured = psf_fluxes(image, x, y)
    half = image.psf.size // 2
    for k, (column, row) in enumerate(zip(np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int))):
        stamp = image.psf.stamp(x[k], y[k])
        j, i = np.mgrid[row - half : row + half + 1, column - half : column + half + 1]
        inside = (j >= 0) & (i >= 0) & (j < ny) & (i < nx)
        values, variances, flags = (a[j[inside], i[inside]] for a in (image.image, image.variance, image.mask))
        good = ((flags & planes.UNUSABLE) == 0) & np.isfinite(values)
        profile, values, variances = stamp[inside][good], values[good].astype(float), variances[good].astype(float)
        assert measured.usable[k] == pytest.approx(profile.sum() / stamp.sum(), rel=1e-9)
        if measured.usable[k] < 0.6:
            assert np.isnan(measured.flux[k])
            continue
        flux = (profile @ values) / (profile @ profile)
        assert measured.flux[k] == pytest.approx(flux, rel=1e-9, abs=1e-6)
        error = np.sqrt(profile**2 @ variances) / (profile @ profile)
        assert measured.flux_err[k] == pytest.approx(error, rel=1e-9)
        chi2 = ((values - flux * profile) ** 2 / variances).sum() / (good.sum() - 1)
        assert measured.chi2[k] == pytest.approx(chi2, rel=1e-6)
    assert 5 < np.isfinite(measured.flux).sum() < len(x)


def test_psf_fluxes_need_a_psf(exposure):
    image, x, y = exposure
    image.psf = None
    with pytest.raises(ValueError, match="PSF"):
        psf_fluxes(image, x, y)


@pytest.mark.parametrize(("fwhm", "beta"), [(3.4, 2.5), (5.0, 3.5)])
def test_light_outside_the_stamp_is_found_from_the_wings(sky, fwhm, beta):
    half, size = int(np.ceil(3.5 * fwhm)), 2 * int(np.ceil(5.5 * fwhm)) + 1
    truth = sky.moffat(401, fwhm, beta=beta)
    inside = truth[200 - half : 201 + half, 200 - half : 201 + half].sum()
    rng = np.random.default_rng(0)
    profile = sky.moffat(size, fwhm, beta=beta) / inside
    noise = 2e-6
    found = encircled_fraction(profile + rng.normal(0, noise, profile.shape), noise, fwhm, half)
    assert found == pytest.approx(inside, abs=0.0015)


def test_the_aperture_fraction_follows_the_psf_over_the_image():
    """Where the PSF is broader, less light is within an aperture: the total flux of a star is the same everywhere."""
    shape, flux = (400, 1600), 1e6
    narrow, wide = moffat(61, 3.6, 3.0), moffat(61, 4.4, 3.0)
    psf = PsfModel(np.stack([(narrow + wide) / 2, wide - narrow, 0 * wide]), 1, shape)  # across x
    x, y = np.array([100.0, 800.0, 1500.0]), np.full(3, 200.0)
    image = np.zeros(shape, np.float32)
    for at_x, at_y in zip(x.astype(int), y.astype(int)):
        image[at_y - 30 : at_y + 31, at_x - 30 : at_x + 31] += flux * psf.kernel(at_x, at_y)
    exposure = MaskedImage(image, np.ones(shape, np.float32), np.zeros(shape, np.int32), psf=psf)
    table = Table({"x": x, "y": y})
    measure_fluxes(exposure, table, psf.fwhm(800, 200))
    np.testing.assert_allclose(table["ap_flux_e"], flux, rtol=2e-3)
    fraction = aperture_fraction(psf, x, y, 7.0)
    assert (np.diff(fraction) < -0.01).all()
    assert float(aperture_fraction(psf, 800, 200, 7.0)) == pytest.approx(fraction[1])

"""Coadds: noise as theory says, star cores kept, outliers gone, PSF and number of inputs right."""

import numpy as np
import pytest
import sep

from proc_decam_dagster.pixels.coadd import STATISTICS, coadd, psf_tolerances
from proc_decam_dagster.pixels.mask import CLIPPED, CR, NODATA, SAT, SUSPECT
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.pixels.warp_stack import WarpStack

SHAPE = (420, 400)
SEEINGS = (3.6, 4.0, 4.4, 5.0, 5.6, 4.2, 3.8, 4.6)


@pytest.fixture(scope="module")
def warps(sky):
    """Eight warps with dithers, rotations, seeing from 0.95 to 1.5 arcsec and depths that differ by 60 %."""
    ra, dec, flux = sky.star_field(SHAPE, 60, seed=4, bright=3e6)
    made = []
    for k, seeing in enumerate(SEEINGS):
        wcs = sky.tan_wcs((520, 520), 150.0 + 2e-4 * (k % 3), 2.0 - 3e-4 * (k % 4), rotation=3.0 * k)
        exposure = sky.observe(
            (520, 520), wcs, ra, dec, flux, fwhm=seeing, sky=500.0 * (1 + 0.2 * (k % 4)), seed=100 + k
        )
        warped = warp([exposure], sky.tan_wcs(SHAPE), SHAPE)
        warped.metadata |= {"visit": 1000 + k, "mjd": 59000.0 + k}
        made.append(warped)
    return made, (ra, dec, flux)


def aperture_noise(image, stars, radius=4.0, seed=2):
    x, y = np.random.default_rng(seed).uniform(30, 370, (2, 4000))
    bright = np.stack(stars, 1)
    far = np.hypot(x[:, None] - bright[:, 0], y[:, None] - bright[:, 1]).min(1) > 22
    flux, _, _ = sep.sum_circle(np.nan_to_num(image), x[far], y[far], radius)
    return 1.4826 * np.median(np.abs(flux - np.median(flux)))


@pytest.mark.parametrize("statistic, worst", [("mean", 1.05), ("meanclip", 1.05), ("median", 1.30)])
def test_noise_is_that_of_theory(sky, warps, statistic, worst):
    """Noise of apertures against the inverse-variance expectation from the single warps."""
    images, (ra, dec, flux) = warps
    stars = images[0].wcs.all_world2pix(ra, dec, 0)
    singles = np.array([aperture_noise(w.image, stars) for w in images])
    out, n_image = coadd(images, 8, SHAPE, statistic=statistic)
    noise = aperture_noise(out.image, stars)
    assert noise / (1 / np.sqrt((1 / singles**2).sum())) < worst
    expected = np.sqrt(np.median(out.variance[n_image == 8]) * np.pi * 16)
    assert noise / expected == pytest.approx(1.0, abs=0.08)


def test_star_cores_of_all_seeings_survive_clipping(sky, warps):
    """Clipping takes no flux from stars of any brightness: meanclip gives the mean."""
    images, (ra, dec, flux) = warps
    x, y = images[0].wcs.all_world2pix(ra, dec, 0)
    inside = (x > 30) & (y > 30) & (x < 370) & (y < 390)
    mean, _ = coadd(images, 8, SHAPE, statistic="mean")
    clipped, n_image = coadd(images, 8, SHAPE, statistic="meanclip")
    for radius in (2.0, 6.0):
        a, _, _ = sep.sum_circle(mean.image, x[inside], y[inside], radius)
        b, _, _ = sep.sum_circle(clipped.image, x[inside], y[inside], radius)
        bright = flux[inside] > 3e4
        np.testing.assert_allclose(b[bright], a[bright], rtol=2e-3)
    assert clipped.metadata["clipped_fraction"] < 2e-3


def test_outliers_of_one_epoch_are_rejected(sky, warps):
    """A satellite trail and an asteroid of one epoch vanish from meanclip and median; mean keeps them."""
    images, (ra, dec, flux) = warps
    spoilt = [w.copy() for w in images]
    trail = np.abs(np.arange(SHAPE[0])[:, None] - np.arange(SHAPE[1])[None]) <= 2
    spoilt[2].image[trail] += 3e3
    sky.add_stars(spoilt[5].image, 210.3, 120.6, 8e4, SEEINGS[5])
    clean, _ = coadd(images, 8, SHAPE, statistic="mean")
    noise = np.sqrt(np.median(clean.variance))
    for statistic, most in (("meanclip", 0.3), ("median", 0.8)):
        out, n_image = coadd(spoilt, 8, SHAPE, statistic=statistic)
        assert np.nanmedian((out.image - clean.image)[trail]) < most * noise
        asteroid, _, _ = sep.sum_circle(np.nan_to_num(out.image - clean.image), [210.3], [120.6], 5.0)
        assert abs(asteroid[0]) < 0.08 * 8e4 / 8 * 8
        if statistic == "meanclip":
            assert (out.mask[trail] & CLIPPED != 0).mean() > 0.7
            assert n_image[trail].mean() < 7.5
    mean, _ = coadd(spoilt, 8, SHAPE, statistic="mean")
    assert np.nanmedian((mean.image - clean.image)[trail]) > 1.5 * noise


def test_minimum(warps):
    """The minimum is the smallest good input."""
    images, _ = warps
    out, n_image = coadd(images, 8, SHAPE, statistic="min")
    stack = np.stack([w.image for w in images])
    full = n_image == 8
    np.testing.assert_array_equal(out.image[full], stack.min(0)[full])


@pytest.mark.parametrize("statistic", STATISTICS)
def test_masked_inputs_are_left_out(warps, statistic):
    """Bad pixels of one input lower the count; pixels bad in all inputs hold nothing; other bits pass."""
    images = [w.copy() for w in warps[0][:4]]
    images[0].mask[50:60, 50:60] |= CR
    images[0].image[50:60, 50:60] = -1e6
    for image in images:
        image.mask[100:110, 100:110] |= SAT
    images[1].mask[150, 150] |= SUSPECT
    out, n_image = coadd(images, 4, SHAPE, statistic=statistic)
    assert (n_image[50:60, 50:60] <= 3).all() and np.abs(out.image[52:58, 52:58]).max() < 1e4
    assert np.isnan(out.image[105, 105]) and np.isinf(out.variance[105, 105])
    assert out.mask[105, 105] & (NODATA | SAT) == NODATA | SAT and n_image[105, 105] == 0
    assert out.mask[150, 150] & SUSPECT


def test_psf_is_the_weighted_mean(sky, warps):
    """A coadded star looks like the coadd's PSF."""
    images, _ = warps
    star = [sky.observe(SHAPE, sky.tan_wcs(SHAPE), [150.0], [2.0], [1e6], fwhm=s, noise=False) for s in SEEINGS]
    for k, image in enumerate(star):
        image.image *= 4
        image.variance = np.full(SHAPE, 100.0 * (1 + k), np.float32)
    out, _ = coadd(star, 8, SHAPE, statistic="meanclip")
    x, y = (float(v) for v in out.wcs.all_world2pix(150.0, 2.0, 0))
    half = out.psf.size // 2
    x0, y0 = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    seen = out.image[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1]
    model = out.psf.stamp(x, y)
    assert np.abs(seen / seen.sum() - model).max() < 0.005 * model.max()
    assert out.metadata["clipped_fraction"] == 0.0


def test_metadata_names_the_inputs(warps):
    """Visits, their number and the mean date are kept."""
    out, _ = coadd(warps[0], 8, SHAPE, statistic="median")
    assert out.metadata["visits"] == ",".join(str(1000 + k) for k in range(8))
    assert out.metadata["n_inputs"] == 8 and 59000 < out.metadata["mjd"] < 59007


def test_a_stack_in_a_file_gives_the_same(warps):
    """Beyond the memory limit the pixels go through a scratch file, unchanged."""
    images, _ = warps
    with WarpStack(SHAPE, 8, 1000) as stack:
        assert not stack.in_memory
    for statistic in ("meanclip", "median"):
        here, n_here = coadd(images, 8, SHAPE, statistic=statistic)
        there, n_there = coadd(iter(images), 8, SHAPE, statistic=statistic, memory_bytes=1000)
        np.testing.assert_array_equal(here.image, there.image)
        np.testing.assert_array_equal(here.mask, there.mask)
        np.testing.assert_array_equal(n_here, n_there)


def test_tolerance_grows_with_the_difference_in_seeing(sky):
    """A warp whose seeing is the median's gets little tolerance, a sharp one more."""
    psfs = [sky.psf_model(SHAPE, fwhm) for fwhm in (3.4, 4.5, 4.5, 4.5, 6.0)]
    tolerance = psf_tolerances(psfs, SHAPE)
    assert tolerance[1] < 0.1 < tolerance[4] < tolerance[0] < 1.2


def test_unusable_requests_are_named():
    """No warps, or a statistic that does not exist."""
    with pytest.raises(ValueError, match="at least one"):
        coadd([], 0, SHAPE)
    with pytest.raises(ValueError, match="meanclip"):
        coadd([], 0, SHAPE, statistic="mode")


def test_where_inputs_are_missing_the_variance_holds_the_psf_error(sky):
    """A strip that only the epoch of bad seeing covers: its stars are not the coadd's PSF, and no noise hides it."""
    seeings, x, y = (3.8, 4.0, 4.2, 6.0), np.array([60.0, 383.0]), np.array([200.0, 200.0])
    images = []
    for seeing in seeings:
        image = sky.observe(SHAPE, sky.tan_wcs(SHAPE), [], [], [], fwhm=seeing, sky=400.0, seed=int(10 * seeing))
        sky.add_stars(image.image, x, y, np.full(2, 2e5), seeing)
        if seeing < 6:
            image.image[:, 366:], image.variance[:, 366:], image.mask[:, 366:] = np.nan, np.inf, NODATA
        images.append(image)
    out, n_image = coadd(images, 4, SHAPE, statistic="mean")
    assert n_image[200, 60] == 4 and n_image[200, 383] == 1
    fit = psf_fluxes(out, x, y)
    # the coadd's PSF measures the blurred star wrong, far beyond the noise of its pixels, but not beyond the variance
    wrong = abs(fit.flux[1] / fit.flux[0] - 1)
    noise = np.sqrt(images[3].variance[100, 383] * out.psf.effective_area(*SHAPE)) * images[3].flux_scale
    assert wrong > 0.1 and wrong * 2e5 * images[3].flux_scale > 50 * noise
    star = np.s_[200, 383]
    assert np.sqrt(out.variance[star]) > 0.1 * out.image[star]
    # blank sky and stars with all inputs keep the variance of their noise
    blank = np.s_[300:400, 370:396]
    assert np.median(out.variance[blank]) == pytest.approx(np.median(images[3].variance[blank]), rel=0.02)
    assert np.sqrt(out.variance[200, 60]) < 0.02 * out.image[200, 60]


def test_a_warp_of_a_corner_says_nothing_of_the_psf_elsewhere(sky):
    """Its polynomial, extrapolated over the patch, would spoil the coadd's PSF."""
    whole = [sky.observe(SHAPE, sky.tan_wcs(SHAPE), [], [], [], fwhm=4.2, sky=400.0, seed=k) for k in range(2)]
    corner = sky.observe(SHAPE, sky.tan_wcs(SHAPE), [], [], [], fwhm=4.2, sky=400.0, seed=3)
    corner.image[60:], corner.variance[60:], corner.mask[60:] = np.nan, np.inf, NODATA
    base = corner.psf.coefficients[0]
    slope = np.zeros_like(base)
    slope[0], slope[-1] = 0.05, -0.05
    corner.psf = PsfModel(np.stack([base + 0.43 * slope, 0 * base, slope]), 1, SHAPE)  # right where it has pixels
    out, _ = coadd([*whole, corner], 3, SHAPE, statistic="mean")
    np.testing.assert_allclose(out.psf.kernel(200, 380), whole[0].psf.kernel(200, 380), atol=1e-3)

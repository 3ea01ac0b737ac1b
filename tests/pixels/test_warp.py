"""Warping conserves flux, position, noise and PSF."""

import numpy as np
import pytest
import sep
from astropy.wcs import WCS

from proc_decam_dagster.pixels.mask import BAD, CR, NODATA, SAT
from proc_decam_dagster.pixels.warp import coordinate_grid, empty, repaired, warp, warp_into

SHAPE = (400, 360)


def mad_sigma(values):
    values = values[np.isfinite(values)]
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def tpv_wcs(shape):
    """A DECam-like CCD far from the field centre: rotated by 90 degrees, distorted by several pixels."""
    wcs = WCS(naxis=2)
    header = wcs.to_header()
    header.update({
        "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
        "CRVAL1": 150.5, "CRVAL2": 2.6, "CRPIX1": 8000.0, "CRPIX2": 7200.0,
        "CD1_1": 0.0, "CD1_2": 7.3e-5, "CD2_1": -7.3e-5, "CD2_2": 0.0,
        "PV1_1": 1.0, "PV1_7": 6e-3, "PV1_9": 6e-3, "PV2_1": 1.0, "PV2_7": 6e-3, "PV2_9": 6e-3,
    })  # fmt: skip
    for card in ("PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2"):
        header.remove(card, ignore_missing=True)
    return WCS(header)


@pytest.mark.parametrize("rotation, flip, scale", [(0.0, True, 0.263), (90.3, False, 0.263), (33.0, True, 0.25)])
def test_flux_and_position_are_conserved(sky, rotation, flip, scale):
    """A star's flux in nJy and its sky position survive rotation, parity and a change of pixel size."""
    ra, dec = np.array([150.0, 150.004, 149.995]), np.array([2.0, 2.003, 1.996])
    flux = np.array([1e5, 4e4, 2e5])
    source_wcs = sky.tan_wcs(SHAPE, rotation=rotation, flip=flip, scale=scale)
    source = sky.observe(SHAPE, source_wcs, ra, dec, flux, fwhm=4.0, noise=False)
    warped = warp([source], sky.tan_wcs(SHAPE), SHAPE)
    x, y = warped.wcs.all_world2pix(ra, dec, 0)
    filled = np.nan_to_num(warped.image)
    measured, _, _ = sep.sum_circle(filled, x, y, 16.0)
    radius = 16.0 * sky.scale / scale
    expected, _, _ = sep.sum_circle(source.image, *source_wcs.all_world2pix(ra, dec, 0), radius)
    np.testing.assert_allclose(measured, expected * source.flux_scale, rtol=1e-3)
    np.testing.assert_allclose(measured, flux, rtol=0.02)
    wx, wy, _ = sep.winpos(filled, x, y, np.full(3, 1.8))
    np.testing.assert_allclose(wx, x, atol=0.01)
    np.testing.assert_allclose(wy, y, atol=0.01)


def test_surface_brightness_scales_with_the_pixel_area(sky):
    """A flat sky of 1 e/pixel keeps its flux per unit of sky."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE, scale=0.2), [], [], [], fwhm=4.0, noise=False)
    source.image += 1
    warped = warp([source], sky.tan_wcs(SHAPE, scale=0.3), SHAPE)
    assert np.nanmedian(warped.image) == pytest.approx(source.flux_scale * (0.3 / 0.2) ** 2, rel=1e-5)


def test_noise_of_apertures_follows_the_variance(sky):
    """Single pixels are quieter than the variance says; sums over apertures obey it."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE, rotation=12.0), [], [], [], fwhm=4.0)
    warped = warp([source], sky.tan_wcs(SHAPE), SHAPE)
    good = warped.mask == 0
    assert warped.variance[good].mean() == pytest.approx(600 * 16, rel=1e-3)
    assert 0.7 < mad_sigma(warped.image[good]) / np.sqrt(600 * 16) < 1.0
    rng = np.random.default_rng(3)
    x, y = rng.uniform(60, 300, (2, 3000))
    flux, _, _ = sep.sum_circle(np.nan_to_num(warped.image), x, y, 5.0)
    assert mad_sigma(flux) / np.sqrt(np.pi * 25 * 600 * 16) == pytest.approx(1.0, abs=0.07)


def test_coordinate_grid_is_exact_to_a_hundredth_of_a_pixel(sky):
    """The bilinear grid follows the DECam distortion in the corner of the field."""
    ccd = tpv_wcs((4096, 2048))
    ra, dec = ccd.all_pix2world(1024, 2048, 0)
    patch = sky.tan_wcs((640, 640), float(ra), float(dec))
    grid = coordinate_grid(ccd, patch, (0, 0, 640, 640))
    middle = (grid[:, :-1, :-1] + grid[:, 1:, :-1] + grid[:, :-1, 1:] + grid[:, 1:, 1:]) / 4
    x, y = np.meshgrid(16.0 + 32 * np.arange(20), 16.0 + 32 * np.arange(20))
    exact = ccd.all_world2pix(*patch.all_pix2world(x.ravel(), y.ravel(), 0), 0)
    assert np.abs(middle.reshape(2, -1) - exact).max() < 0.01


def test_psf_follows_the_rotation(sky):
    """An elongated PSF turns with the grid, and the warped star looks like it."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE, rotation=90.0), [150.0], [2.0], [1e5], fwhm=5.0, noise=False, q=1.3)
    warped = warp([source], sky.tan_wcs(SHAPE), SHAPE)
    x, y = (float(v) for v in warped.wcs.all_world2pix(150.0, 2.0, 0))
    model = warped.psf.stamp(x, y)
    half = model.shape[0] // 2
    x0, y0 = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    star = warped.image[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1]
    assert np.abs(star / star.sum() - model).max() < 0.01 * model.max()
    kernel = warped.psf.kernel(x, y)
    unequal = np.array([kernel[half + 3, half], kernel[half, half + 3]])
    assert unequal.min() < 0.97 * unequal.max()


def test_nothing_outside_the_input(sky):
    """Pixels that no input reaches are NaN, of infinite variance and NODATA; a far-away image reaches none."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE, 150.02), [], [], [], fwhm=4.0)
    target = empty(SHAPE, sky.tan_wcs(SHAPE))
    assert warp_into(target, source)
    outside = (target.mask & NODATA) != 0
    assert 0.3 < outside.mean() < 0.95
    assert np.isnan(target.image[outside]).all() and np.isinf(target.variance[outside]).all()
    assert np.isfinite(target.image[~outside]).all()
    assert not warp_into(target, source)  # what has a value keeps it
    source.image[:] = np.nan
    assert not warp_into(empty(SHAPE, sky.tan_wcs(SHAPE)), source)
    far = sky.observe(SHAPE, sky.tan_wcs(SHAPE, 151.0), [], [], [], fwhm=4.0)
    assert not warp_into(empty(SHAPE, sky.tan_wcs(SHAPE)), far)


def test_mask_is_carried_and_small_defects_do_not_ring(sky):
    """A bad column and a cosmic ray leave their bits and no ringing; a large saturated core keeps its bit."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE, 150.0001, 2.0001), [], [], [], fwhm=4.0, noise=False)
    source.image[:, 100] = 6e4
    source.mask[:, 100] |= BAD
    source.image[200, 150:153] = 3e4
    source.mask[200, 150:153] |= CR
    source.mask[300:310, 200:210] |= SAT
    warped = warp([source], sky.tan_wcs(SHAPE), SHAPE)
    for bit in (BAD, CR, SAT):
        assert (warped.mask & bit).any()
    assert np.nanmax(np.abs(warped.image)) < 1e-3
    np.testing.assert_array_equal(source.image[:, 100], np.float32(6e4))  # the input is not changed


def test_detectors_share_one_warp(sky):
    """Two detectors fall on one patch: each gives its pixels, and the PSF is that of each in its part."""
    left = sky.observe((400, 180), sky.tan_wcs((400, 180), 150.0065), [], [], [], fwhm=4.0)
    right = sky.observe((400, 180), sky.tan_wcs((400, 180), 149.9935), [], [], [], fwhm=4.6)
    warped = warp([left, right], sky.tan_wcs((400, 400)), (400, 400))
    assert warped.metadata["n_sources"] == 2
    assert np.isfinite(warped.image[200, 60]) and np.isfinite(warped.image[200, 340])
    assert warped.psf.fwhm(100, 200) == pytest.approx(4.0, rel=0.03)
    assert warped.psf.fwhm(300, 200) == pytest.approx(4.6, rel=0.03)


def test_uncalibrated_image_is_refused(sky):
    """Without a flux scale there is no nJy."""
    source = sky.observe(SHAPE, sky.tan_wcs(SHAPE), [], [], [], fwhm=4.0, flux_scale=4.0)
    source.flux_scale = float("nan")
    with pytest.raises(ValueError, match="flux_scale"):
        warp([source], sky.tan_wcs(SHAPE), SHAPE)


def test_repair_interpolates_runs_along_rows():
    """Short runs become the line between their neighbours; long ones stay."""
    image = np.tile(np.arange(40, dtype=np.float32), (2, 1))
    mask = np.zeros(image.shape, np.int32)
    mask[0, 5:9] = CR
    mask[1, 5:30] = BAD
    spoilt = np.where(mask != 0, np.float32(1e6), image)
    fixed = repaired(spoilt, mask)
    np.testing.assert_allclose(fixed[0], image[0])
    assert fixed[1, 10] == 1e6

"""Difference images: stars vanish, transients stay with their flux, the noise is what the variance says."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.difference import WING_BLOCK, SubtractionSettings, _wings, choose_direction, subtract
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.mask import BAD, NODATA, SAT
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.warp import warp

SHAPE = (560, 600)
SKY = 600.0
SCALE = 4.0


@pytest.fixture(scope="module")
def field(sky):
    """Stars of a small field."""
    return sky.star_field(SHAPE, 140, seed=8, faint=4e3, bright=2e6)


@pytest.fixture(scope="module")
def template_maker(sky, field):
    """A function that makes the template, on a science image's pixels, from five epochs of a given seeing."""
    coadds = {}

    def make(wcs, fwhm):
        if fwhm not in coadds:
            warps = []
            for k in range(5):
                epoch_wcs = sky.tan_wcs((720, 720), 150 + 2e-4 * k, 2 - 1e-4 * k, rotation=90 + k)
                epoch = sky.observe((720, 720), epoch_wcs, *field, fwhm=fwhm * (0.95 + 0.025 * k), sky=SKY, seed=50 + k)
                warps.append(warp([epoch], sky.tan_wcs((700, 700)), (700, 700)))
            coadds[fwhm] = coadd(warps, 5, (700, 700))[0]
        return warp([coadds[fwhm]], wcs, SHAPE, repair=False)

    return make


def science_image(sky, field, wcs, fwhm, transients=None, seed=9, q=1.08):
    ra, dec, flux = field
    if transients is not None:
        ra, dec, flux = (np.concatenate([a, b]) for a, b in zip(field, transients))
    return sky.observe(SHAPE, wcs, ra, dec, flux, fwhm=fwhm, sky=SKY, seed=seed, q=q)


def stars_on(wcs, field):
    x, y = wcs.all_world2pix(field[0], field[1], 0)
    return x, y, field[2] / SCALE / np.sqrt(SKY * 40 + field[2] / SCALE)


def pull(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.mark.parametrize("science_fwhm, template_fwhm", [(4.6, 4.0), (4.1, 4.0), (3.6, 4.4), (6.0, 3.8)])
def test_noise_and_flux(sky, field, template_maker, science_fwhm, template_fwhm):
    """Pixel and PSF-flux pulls are 1, transients keep their flux, whichever image is the sharper one."""
    wcs = sky.tan_wcs(SHAPE, rotation=91.0, flip=False)
    rng = np.random.default_rng(5)
    # apart from the stars matched on, and from one another
    star_x, star_y, snr = stars_on(wcs, field)
    x, y = rng.uniform(40, 520, (2, 4000))
    apart = np.hypot(x[:, None] - star_x[snr > 20], y[:, None] - star_y[snr > 20]).min(1) > 22
    chosen = []
    for i in np.flatnonzero(apart):
        if all(np.hypot(x[i] - x[k], y[i] - y[k]) > 60 for k in chosen):
            chosen.append(i)
    x, y = x[chosen], y[chosen]
    assert len(x) > 8
    sky_position = wcs.all_pix2world(x, y, 0)
    flux = np.full(len(x), 3e5)
    science = science_image(sky, field, wcs, science_fwhm, (*sky_position, flux))
    template = template_maker(wcs, template_fwhm)
    difference = subtract(science, template, *stars_on(wcs, field))
    assert difference.metadata["direction"] == ("template" if science_fwhm > template_fwhm else "science")
    assert difference.metadata["kernel_sum"] == pytest.approx(1.0, abs=0.02)
    measured = psf_fluxes(difference, x, y)
    assert np.median(measured.flux / flux) == pytest.approx(1.0, abs=0.012)
    # blank positions: pixels, neighbours' correlation, PSF fluxes
    good = difference.mask == 0
    far = np.ones(SHAPE, bool)
    for a, b in zip(x, y):
        far[max(0, int(b) - 20) : int(b) + 20, max(0, int(a) - 20) : int(a) + 20] = False
    pulls = difference.image / np.sqrt(difference.variance)
    assert pull(pulls[good & far]) == pytest.approx(1.0, abs=0.05)
    grid_x, grid_y = (a.ravel() for a in np.meshgrid(np.arange(25, 580, 9.3), np.arange(25, 540, 9.3)))
    blank = far[grid_y.astype(int), grid_x.astype(int)] & good[grid_y.astype(int), grid_x.astype(int)]
    fluxes = psf_fluxes(difference, grid_x[blank], grid_y[blank])
    assert pull(fluxes.flux / fluxes.flux_err) == pytest.approx(1.0, abs=0.12)
    left = (pulls[:, 1:] * pulls[:, :-1])[(good & far)[:, 1:] & (good & far)[:, :-1]]
    assert abs(np.mean(np.clip(left, -9, 9))) < 0.12


def test_bright_stars_leave_less_than_the_assumed_error(sky, field, template_maker):
    """Residuals of stars obey the variance with its bright-star term."""
    wcs = sky.tan_wcs(SHAPE, rotation=1.0)
    difference = subtract(science_image(sky, field, wcs, 4.6), template_maker(wcs, 4.0), *stars_on(wcs, field))
    x, y, snr = stars_on(wcs, field)
    inside = (x > 20) & (x < 580) & (y > 20) & (y < 540) & (snr > 30)
    pulls = difference.image / np.sqrt(difference.variance)
    cores = np.concatenate([
        pulls[int(b) - 4 : int(b) + 5, int(a) - 4 : int(a) + 5].ravel() for a, b in zip(x[inside], y[inside])
    ])  # fmt: skip
    assert 0.7 < pull(cores) < 1.15
    assert np.abs(cores).max() < 7


def test_wings_of_very_bright_stars_raise_the_variance_of_theirs_alone():
    """Smooth, over several FWHM, in proportion to the flux; the shape need not be a multiple of the block."""
    image = np.zeros((101, 122), np.float32)
    image[40:44, 60:64] = 1e5 / 16
    smooth = np.repeat(np.repeat(_wings(image, 6.0), WING_BLOCK, 0), WING_BLOCK, 1)[:101, :122]
    assert smooth.sum() == pytest.approx(1e5, rel=0.02)
    np.testing.assert_allclose(smooth[42, 62], 1e5 / (2 * np.pi * 36), rtol=0.1)
    assert 0.3 < smooth[42, 62 + 9] / smooth[42, 62] * np.exp(0.5 * (9 / 6) ** 2) < 3
    assert smooth[5, 5] == 0


def test_masked_pixels_do_not_spread(sky, field, template_maker):
    """A saturated star, bad columns and a missing corner of the template leave the rest as it was."""
    wcs = sky.tan_wcs(SHAPE, rotation=1.0)
    science, template = science_image(sky, field, wcs, 4.6), template_maker(wcs, 4.0)
    clean = subtract(science, template, *stars_on(wcs, field))
    science.image[200:212, 300:312] = 1e6
    science.mask[200:212, 300:312] |= SAT
    science.image[:, 400] = -5e4
    science.mask[:, 400] |= BAD
    template.image[:60, :80] = np.nan
    template.variance[:60, :80] = np.inf
    template.mask[:60, :80] |= NODATA
    spoilt = subtract(science, template, *stars_on(wcs, field))
    assert np.isnan(spoilt.image[30, 40]) and spoilt.mask[30, 40] & NODATA
    assert spoilt.mask[205, 305] & SAT
    usable = spoilt.mask == 0
    change = np.abs(spoilt.image - clean.image)[usable] / np.sqrt(clean.variance[usable])
    assert np.percentile(change, 99.5) < 0.5 and change.max() < 5


def test_direction_follows_the_seeing():
    """The sharper image is convolved."""
    assert choose_direction(4.5, 3.5) == "template"
    assert choose_direction(3.5, 4.5) == "science"


def test_failures_are_named(sky, field, template_maker):
    """Too few stars; fluxes that disagree; images of different shape."""
    wcs = sky.tan_wcs(SHAPE, rotation=1.0)
    science, template = science_image(sky, field, wcs, 4.6), template_maker(wcs, 4.0)
    none = np.zeros(0)
    with pytest.raises(MeasurementFailure, match="0 usable star stamps"):
        subtract(science, template, none, none, none)
    science.flux_scale *= 2
    with pytest.raises(MeasurementFailure, match="disagree"):
        subtract(science, template, *stars_on(wcs, field))
    small = sky.observe((100, 100), wcs, [], [], [], fwhm=4)
    with pytest.raises(ValueError, match="shape"):
        subtract(small, template, none, none, none, SubtractionSettings())


def test_a_template_of_a_part_decides_by_its_psf_there(sky, field, template_maker):
    """A PSF model means nothing where the template has no pixels: its extrapolation chose the wrong direction."""
    wcs = sky.tan_wcs(SHAPE, rotation=1.0)
    science, template = science_image(sky, field, wcs, 4.6), template_maker(wcs, 4.0)
    template.image[:, 300:], template.variance[:, 300:] = np.nan, np.inf
    template.mask[:, 300:] |= NODATA
    narrow, wide = sky.moffat(31, 4.0), sky.moffat(31, 8.0)
    # right amid the left half, x/nx - 0.5 = -0.25, and far too wide at the image's middle
    template.psf = PsfModel(np.stack([wide, 4 * (wide - narrow), 0 * wide]), 1, SHAPE)
    amid = SHAPE[1] / 2, SHAPE[0] / 2
    assert choose_direction(science.psf.fwhm(*amid), template.psf.fwhm(*amid)) == "science"
    difference = subtract(science, template, *stars_on(wcs, field))
    assert difference.metadata["direction"] == "template"
    assert difference.metadata["template_fwhm_px"] == pytest.approx(4.0, rel=0.05)
    assert np.isnan(difference.image[:, 310:]).all() and np.isfinite(difference.image[40:500, 40:280]).mean() > 0.99

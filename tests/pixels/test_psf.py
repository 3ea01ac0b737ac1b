"""The PSF model and its fit: shapes, sizes and totals against stars whose form is known."""

import numpy as np
import pytest

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf import fit_psf, half_light_mode, select_stars
from proc_decam_dagster.pixels.psf_model import PsfModel, shift
from proc_decam_dagster.pixels.psf_shape import moffat

FWHM, SKY = 3.4, 400.0


def star(size, dx, dy, fwhm=FWHM, beta=3.0, over=9):
    """Return a pixel-integrated round Moffat star of unit total flux, off the middle by (dx, dy)."""
    half = size // 2
    fine = (np.arange(-half, half + 1)[:, None] + (np.arange(over) - (over - 1) / 2) / over).ravel()
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    profile = (1 + ((fine[None] - dx) ** 2 + (fine[:, None] - dy) ** 2) / alpha**2) ** -beta
    return profile.reshape(size, over, size, over).mean((1, 3)) * (beta - 1) / np.pi / alpha**2


def make_field(across: int, width):
    """Make a field of across² isolated stars, whose width is a function of u, from -0.5 left to 0.5 right.

    Returned are the image, the stars' positions and total fluxes.
    """
    rng = np.random.default_rng(4)
    clean = np.zeros((900, 900))
    x, y = (g.ravel() for g in np.meshgrid(*[60 + np.arange(across) * 800 // across] * 2))
    x, y = x + rng.uniform(-0.5, 0.5, across**2), y + rng.uniform(-0.5, 0.5, across**2)
    flux = 10 ** rng.uniform(4.3, 5.7, across**2)
    for sx, sy, f in zip(x, y, flux):
        cx, cy = int(sx + 0.5), int(sy + 0.5)
        clean[cy - 50 : cy + 51, cx - 50 : cx + 51] += f * star(101, sx - cx, sy - cy, width(sx / 900 - 0.5), 2.5, 5)
    image = rng.poisson(clean + SKY) - SKY
    exposure = MaskedImage(image.astype(np.float32), (clean + SKY).astype(np.float32), np.zeros(clean.shape, np.int32))
    return exposure, x, y, flux


@pytest.fixture(scope="module")
def field():
    """A field of 64 isolated stars whose width grows by 6 % across the image; total fluxes known."""
    return make_field(8, lambda u: FWHM * (1 + 0.06 * u))


@pytest.mark.parametrize("offset", [(0.5, -0.5), (0.25, 0.1), (-0.4, 0.3)])
def test_a_star_is_rendered_between_pixels(offset):
    model = PsfModel(star(31, 0, 0)[None], 0, (100, 100))
    truth = star(31, *offset)
    x, y = 50 + offset[0], 50 + offset[1]
    rendered = model.stamp(x, y)
    if offset[0] == 0.5:  # the middle pixel is then the next one
        truth = star(31, -0.5, -0.5)
    assert np.abs(rendered - truth).max() < 1e-3 * truth.max()


def test_shift_there_and_back_changes_little():
    stamp = star(31, 0.2, -0.1)
    assert np.abs(shift(shift(stamp, 0.4, 0.3), -0.4, -0.3) - stamp).max() < 6e-3 * stamp.max()
    with pytest.raises(ValueError, match="one pixel"):
        shift(stamp, 2.0, 0.0)


def test_a_model_refuses_the_wrong_number_of_terms():
    with pytest.raises(ValueError, match="3 terms"):
        PsfModel(np.zeros((2, 11, 11)), 1, (10, 10))


def test_fitted_psf_has_the_width_and_variation_of_its_stars(field):
    exposure, x, y, _ = field
    fit = fit_psf(exposure, x, y, FWHM)
    assert fit.used.sum() > 55
    for px in (100, 450, 800):
        truth = PsfModel(star(61, 0, 0, FWHM * (1 + 0.06 * (px / 900 - 0.5)), beta=2.5)[None], 0, (61, 61))
        assert fit.model.fwhm(px, 450) == pytest.approx(truth.fwhm(30, 30), rel=0.01)
        kernel = fit.model.kernel(px, 450)
        half = fit.model.size // 2
        expected = truth.kernel(30, 30)[30 - half : 31 + half, 30 - half : 31 + half]
        assert np.abs(kernel - expected).max() < 0.01 * expected.max()


def test_a_cubic_variation_is_followed_by_many_stars():
    def width(u):
        return FWHM * (1 + 0.6 * u**3)

    def errors(fit):
        true = [PsfModel(star(61, 0, 0, width(px / 900 - 0.5), 2.5)[None], 0, (61, 61)).fwhm(30, 30) for px in places]
        return np.abs([fit.model.fwhm(px, 450) for px in places] / np.array(true) - 1)

    exposure, x, y, _ = make_field(12, width)
    places = (60, 200, 450, 600, 790)
    assert errors(fit_psf(exposure, x, y, FWHM)).max() < 0.008
    assert errors(fit_psf(exposure, x, y, FWHM, degree=2)).max() > 0.014


def test_psf_flux_is_the_total_flux_whatever_the_stamp_holds(field):
    exposure, x, y, flux = field
    fit = fit_psf(exposure, x, y, FWHM)
    stamp = star(201, 0, 0, beta=2.5, over=3)
    half = fit.model.size // 2
    assert fit.stamp_fraction == pytest.approx(stamp[100 - half : 101 + half, 100 - half : 101 + half].sum(), abs=0.003)
    measured = psf_fluxes(exposure, x, y, fit.model)
    bright = flux > 1e5
    assert np.median(measured.flux[bright] / flux[bright]) == pytest.approx(1, abs=0.003)


def test_a_galaxy_among_the_stars_is_rejected(field):
    exposure, x, y, flux = field
    spoilt = exposure.copy()
    cx, cy = int(x[5] + 0.5), int(y[5] + 0.5)
    spoilt.image[cy - 30 : cy + 31, cx - 30 : cx + 31] += 2e5 * star(61, 0, 0, 2 * FWHM, over=3).astype(np.float32)
    assert not fit_psf(spoilt, x, y, FWHM).used[5]


def test_masked_stars_are_not_used_and_too_few_are_an_error(field):
    exposure, x, y, _ = field
    masked = exposure.copy()
    masked.mask[:, :820] |= planes.CR
    with pytest.raises(MeasurementFailure, match="needed") as failure:
        fit_psf(masked, x, y, FWHM)
    assert failure.value.figures["needed"] == 8


def test_stars_are_told_from_galaxies_by_their_size():
    rng = np.random.default_rng(1)
    n = 200
    half_light = np.concatenate([rng.normal(2.0, 0.03, 100), rng.uniform(2.6, 6, 100)])
    assert half_light_mode(half_light) == pytest.approx(2.0, abs=0.05)
    x, y = (g.ravel()[:n] * 60.0 for g in np.meshgrid(np.arange(20), np.arange(20)))
    chosen = select_stars(x, y, np.full(n, 1e5), np.full(n, 300.0), half_light, np.ones(n, bool))
    assert len(chosen) > 80 and (chosen < 100).all()


def test_crowded_stars_are_left_out():
    x = np.repeat(np.arange(20) * 100.0, 2) + np.tile([0, 8], 20)
    y, flux = np.zeros(40), np.tile([1e5, 3e4], 20)
    with pytest.raises(MeasurementFailure, match="isolated"):
        select_stars(x, y, flux, np.full(40, 300.0), np.full(40, 2.0), np.ones(40, bool))


def test_moffat_template_matches_the_definition():
    assert np.abs(moffat(31, FWHM, 3.0, over=9) - star(31, 0, 0)).max() < 1e-6
    wide = moffat(31, FWHM, 3.0, e1=0.2)
    assert wide[15, 18] > wide[18, 15]

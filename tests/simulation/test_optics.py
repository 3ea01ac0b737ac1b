"""Where light falls, and how it is spread."""

import numpy as np
import pytest

from proc_decam_dagster.simulation import optics
from proc_decam_dagster.simulation.plan import SurveyPlan, exposures_of_night


@pytest.fixture
def exposure():
    return exposures_of_night(SurveyPlan(seed=2), 0, "20190217", "science")[-1]


def test_true_wcs_inverts(exposure):
    cards = optics.true_cards(35, exposure)
    x, y = np.array([0.0, 2047, 1000, 3]), np.array([0.0, 4095, 2000, 4000])
    ra, dec = optics.pixel_to_sky(cards, x, y)
    back = optics.sky_to_pixel(cards, ra, dec)
    np.testing.assert_allclose(back, [x, y], atol=1e-4)
    assert np.isnan(optics.sky_to_pixel(cards, 0.0, 0.0)[0]).all()


def test_header_is_off_by_arcseconds_and_a_linear_fit_leaves_milliarcseconds(exposure):
    y, x = (g.ravel().astype(float) for g in np.mgrid[0:4096:16j, 0:2048:8j])
    true = np.array(optics.pixel_to_sky(optics.true_cards(35, exposure), x, y))
    header = np.array(optics.pixel_to_sky(optics.header_cards(35, exposure), x, y))
    off = (true - header) * [[np.cos(np.radians(exposure.dec))], [1]] * 3600
    assert 0.05 < np.hypot(*off).mean() < 15
    design = np.stack([np.ones_like(x), x, y], axis=1)
    left = off.T - design @ np.linalg.lstsq(design, off.T, rcond=None)[0]
    assert 1e-4 < np.sqrt((left**2).mean()) < 0.015


def test_psf_has_unit_flux_and_the_width_asked_for():
    psf = optics.PsfField(8.0, 4.0)
    stamp = psf.stamp(1000, 2000, half=120)
    assert stamp.sum() == pytest.approx(1, abs=2e-3)
    # Pixels widen by about 0.17 px at FWHM 4, little at 8; the profile's own variation is up to 3 %.
    assert psf.pixel_fwhm() == pytest.approx(8.0, rel=0.03)
    narrow = optics.PsfField(3.5, 4.0)
    assert narrow.pixel_fwhm() > 3.5


def test_psf_varies_over_the_ccd(exposure):
    psf = optics.PsfField.of(exposure)
    a, b, c = psf.quadratic_form(np.array([0.0, 1000, 2047]), np.array([0.0, 2000, 4095]))
    assert np.ptp(a) / a.mean() > 0.01
    assert (a * c - b**2 > 0).all()

"""Forced photometry at sky positions."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.forced import forced_fluxes, positions_on
from proc_decam_dagster.pixels.mask import NODATA


def test_fluxes_in_njy_at_sky_positions(sky):
    """Stars give their flux, blank sky gives zero within its error; positions off the image are told apart."""
    shape = (300, 280)
    ra, dec, flux = np.array([150.0, 150.005]), np.array([2.0, 2.005]), np.array([2e5, 1e5])
    image = sky.observe(shape, sky.tan_wcs(shape, rotation=20), ra, dec, flux, fwhm=4.0)
    all_ra, all_dec = np.append(ra, [149.995, 150.4, 10.0]), np.append(dec, [1.996, 2.0, -80.0])
    x, y, inside = positions_on(image, all_ra, all_dec)
    assert inside.tolist() == [True, True, True, False, False]
    table = forced_fluxes(image, x[inside], y[inside], "psf_", error_scale=1.1)
    np.testing.assert_allclose(table["psf_flux"][:2], flux, rtol=0.03)
    assert abs(table["psf_flux"][2]) < 4 * table["psf_flux_err"][2]
    plain = forced_fluxes(image, x[inside], y[inside])
    np.testing.assert_allclose(table["psf_flux_err"], 1.1 * plain["flux_err"])
    assert (plain["flags"] == 0).all()


def test_positions_without_data(sky):
    """A masked position has no flux and says why."""
    image = sky.observe((100, 100), sky.tan_wcs((100, 100)), [], [], [], fwhm=4.0)
    image.mask[:, :50] |= NODATA
    table = forced_fluxes(image, np.array([20.0, 80.0]), np.array([50.0, 50.0]))
    assert np.isnan(table["flux"][0]) and table["flags"][0] == NODATA
    assert table["flux"][1] == pytest.approx(0, abs=5 * table["flux_err"][1])

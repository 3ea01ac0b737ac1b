"""Forced photometry at sky positions."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.difference import subtract
from proc_decam_dagster.pixels.forced import forced_differences, forced_fluxes, positions_on
from proc_decam_dagster.pixels.mask import NODATA
from proc_decam_dagster.pixels.warp import warp


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


@pytest.mark.full
def test_light_curves_of_constant_stars_have_the_scatter_of_their_errors(sky):
    """On differences of five epochs from a template of six: fluxes over errors, about no change."""
    shape, wide = (700, 700), (850, 850)
    field = sky.star_field(shape, 190, seed=12, faint=3e3, bright=1e6)
    warps = []
    for k in range(6):
        wcs = sky.tan_wcs(wide, 150 + 2e-4 * k, 2 - 1e-4 * k, rotation=90 + k)
        warps.append(warp([sky.observe(wide, wcs, *field, fwhm=3.8 + 0.1 * k, seed=30 + k)], sky.tan_wcs(wide), wide))
    wcs = sky.tan_wcs(shape, rotation=91.0, flip=False)
    template = warp([coadd(warps, 6, wide)[0]], wcs, shape, repair=False)
    x, y = wcs.all_world2pix(field[0], field[1], 0)
    snr = field[2] / 4 / np.sqrt(600 * 40 + field[2] / 4)
    on = (np.minimum(x, y) > 40) & (np.maximum(x, y) < 660) & (snr < 100)
    made = []
    for k in range(5):
        difference = subtract(sky.observe(shape, wcs, *field, fwhm=3.6 + 0.4 * k, seed=80 + k), template, x, y, snr)
        made.append(forced_differences(difference, x[on], y[on]))
    flux, error, own = (np.array([table[name] for table in made]) for name in ("flux", "flux_err", "flux_err_epoch"))
    assert flux.size > 500
    assert np.nanmean((flux / error) ** 2) == pytest.approx(1, abs=0.2)  # 0.08 is the error of so few stars
    assert abs(np.nanmean(flux / error)) < 0.2
    mean = np.nansum(flux / own**2, 0) / np.nansum(1 / own**2, 0)
    assert np.nansum(((flux - mean) / own) ** 2, 0).mean() / (len(flux) - 1) == pytest.approx(1, abs=0.2)
    assert np.nanmedian(own / error) == pytest.approx(np.sqrt(6 / 7), abs=0.03)  # a template of six such epochs

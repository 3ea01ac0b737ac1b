"""Reference catalogues: units, epochs, and columns that do not mean what they are called."""

import numpy as np
import pytest
from astropy.coordinates import get_body_barycentric
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS, ColourTerm
from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.reference import colour_term, parallax_factors, read

MAS = np.deg2rad(1 / 3.6e6)


def shard(**columns):
    table = Table({"coord_ra": np.deg2rad([10.0, 10.1]), "coord_dec": np.deg2rad([60.0, 60.0])})
    for name, values in columns.items():
        table[name] = values
    return table


def test_proper_motion_is_applied_along_the_great_circle():
    table = shard(pm_ra=[100 * MAS, np.nan], pm_dec=[-50 * MAS, 0.0], epoch=[57205.0, 57205.0], g_flux=[1e4, 2e4])
    stars = read([table], "g_flux", 57205.0 + 10 * 365.25)
    assert (stars.ra[0] - 10.0) * np.cos(np.deg2rad(60)) * 3.6e6 == pytest.approx(1000, rel=1e-3)
    assert (stars.dec[0] - 60.0) * 3.6e6 == pytest.approx(-500, rel=1e-6)
    assert stars.ra[1] == pytest.approx(10.1, abs=1e-12)


def test_motions_in_other_units_are_not_applied():
    table = shard(pm_ra=[0.01, -0.9], pm_dec=[0.02, 0.5], epoch=[1357424256, 1357424256], r_flux=[1.0, 2.0])
    assert read([table], "r_flux", 59000.0).ra == pytest.approx([10.0, 10.1], abs=1e-12)


def test_errors_and_masked_values():
    table = shard(coord_raErr=[2 * MAS, np.nan], r_flux=MaskedColumn([5.0, 6.0], mask=[False, True]),
                  r_fluxErr=[0.1, 0.2])  # fmt: skip
    stars = read([table[:0], table], "r_flux", 59000.0, default_error_mas=30.0)
    assert stars.position_error_mas == pytest.approx([2, 30])
    assert stars.flux[0] == 5 and np.isnan(stars.flux[1])
    assert len(stars.take(np.array([True, False]))) == 1
    assert np.isnan(read([table], "y_flux", 59000.0).flux).all()


def test_an_empty_catalogue_and_an_unknown_band_are_named():
    with pytest.raises(MeasurementFailure, match="no star"):
        read([], "r_flux", 59000.0)
    with pytest.raises(MeasurementFailure, match="'white'"):
        colour_term("white")


def test_broad_bands_have_a_reference():
    broad = {f.band for f in FILTERS.values()} & {"u", "g", "r", "i", "z", "y", "VR"}
    assert len(broad) == 7 and broad <= set(COLOUR_TERMS)
    assert colour_term("VR").primary == "r" and colour_term("y").primary == "y"


def test_parallax_follows_the_earth():
    """Against astropy's own ephemeris, over a year and the sky."""
    ra, dec = np.deg2rad([10.0, 150.0, 270.0]), np.deg2rad([-60.0, 2.0, 66.0])
    for mjd in np.arange(58500.0, 58866.0, 61.0):
        earth = get_body_barycentric("earth", Time(mjd, format="mjd", scale="tai")).xyz.to_value("au")
        east = np.stack([-np.sin(ra), np.cos(ra), 0 * ra])
        north = np.stack([-np.cos(ra) * np.sin(dec), -np.sin(ra) * np.sin(dec), np.cos(dec)])
        along_ra, along_dec = parallax_factors(ra, dec, mjd)
        assert along_ra == pytest.approx(-earth @ east, abs=0.02)
        assert along_dec == pytest.approx(-earth @ north, abs=0.02)


def test_only_measured_parallaxes_move_a_star():
    columns = {"pm_ra": [0.0, 0.0], "pm_dec": [0.0, 0.0], "epoch": [57388.5] * 2, "g_flux": [1.0, 1.0]}
    still = read([shard(**columns)], "g_flux", 58600.0)
    moved = read([shard(**columns, parallax=[300 * MAS, 0.5 * MAS], parallaxErr=[MAS, MAS])], "g_flux", 58600.0)
    shift = np.hypot((moved.ra - still.ra) * np.cos(np.deg2rad(60)), moved.dec - still.dec) * 3.6e6
    assert 50 < shift[0] < 305 and shift[1] == 0


def test_a_colour_term_is_applied_to_stars_within_its_range():
    term = ColourTerm("r", "g", "i", (0.01, -0.1), (0.4, 2.0))
    njy = 1e4
    table = shard(r_flux=[njy, njy], r_fluxErr=[50.0, 50.0], i_flux=[njy, njy], i_fluxErr=[50.0, 50.0],
                  g_flux=njy * 10 ** (-0.4 * np.array([1.0, 3.0])), g_fluxErr=[50.0, 50.0])  # fmt: skip
    stars = read([table], "r_flux", 59000.0, term=term)
    assert stars.flux[0] == pytest.approx(njy * 10 ** (-0.4 * (0.01 - 0.1)))
    assert np.isnan(stars.flux[1])
    assert stars.flux_err[0] > 50.0


def test_real_pan_starrs_positions_stay_where_they_are(shared_data):
    file = next(iter(sorted(shared_data.glob("refcats/ps1*/*.fits"))))
    table = Table.read(file, unit_parse_strict="silent")
    stars = read([table], "r_flux", 58600.0)
    assert np.allclose(stars.ra, np.rad2deg(np.asarray(table["coord_ra"])), atol=1e-9)
    assert np.isfinite(stars.flux).mean() > 0.9

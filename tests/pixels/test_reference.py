"""Reference catalogues: units, epochs, and columns that do not mean what they are called."""

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.reference import REFERENCE_FLUX, flux_column, read

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
        flux_column("white")


def test_broad_bands_have_a_reference():
    broad = {f.band for f in FILTERS.values()} & {"u", "g", "r", "i", "z", "y", "VR"}
    assert len(broad) == 7 and broad <= set(REFERENCE_FLUX)
    assert flux_column("VR") == "r_flux" and flux_column("y") == "y_flux"


def test_real_pan_starrs_positions_stay_where_they_are(shared_data):
    file = next(iter(sorted(shared_data.glob("refcats/ps1*/*.fits"))))
    table = Table.read(file, unit_parse_strict="silent")
    stars = read([table], "r_flux", 58600.0)
    assert np.allclose(stars.ra, np.rad2deg(np.asarray(table["coord_ra"])), atol=1e-9)
    assert np.isfinite(stars.flux).mean() > 0.9

"""Reference-catalogue shards."""

import numpy as np
import pytest
from astropy.io import fits

from proc_decam_dagster.simulation import catalogue, refcats


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refcats")
    tables = {t: (catalogue.stars(1, t, 0.1), catalogue.galaxies(1, t, 0.1)) for t in (231865, 231866)}
    refcats.write_shards(folder, 1, tables)
    return folder, tables


@pytest.mark.parametrize(
    "ours, real", [(refcats.GAIA_DIRECTORY, "gaia_dr2_20200414"), (refcats.PS1_DIRECTORY, "ps1_pv3_3pi_20170110")]
)
def test_same_columns_units_and_keywords_as_the_real_shards(shards, shared_data, ours, real):
    mine = fits.getheader(shards[0] / ours / "231865.fits", 1)
    theirs = fits.getheader(shared_data / "refcats" / real / "231865.fits", 1)
    counted = ("NAXIS1", "NAXIS2", "FLAGCOL")
    for key in theirs:
        if key not in counted and key != "COMMENT":
            expected = theirs[key]
            if key.startswith("TFORM"):
                assert str(mine[key]).removeprefix("1") == str(expected).removeprefix("1"), key
            else:
                assert mine[key] == expected, key


def test_every_shard_holds_its_own_pixel_and_index_lists_all(shards):
    folder, tables = shards
    for name in (refcats.GAIA_DIRECTORY, refcats.PS1_DIRECTORY):
        assert (folder / name / "index.dat").read_text().split() == ["231865.fits", "231866.fits"]
        for trixel in tables:
            rows = fits.getdata(folder / name / f"{trixel}.fits")
            vectors = catalogue.vector(np.degrees(rows["coord_ra"]), np.degrees(rows["coord_dec"]))
            assert catalogue.inside_trixel(trixel, vectors).mean() > 0.999  # errors of place move one out now and then


def test_errors_are_those_given(shards):
    folder, tables = shards
    stars = tables[231865][0]
    rows = fits.getdata(folder / refcats.GAIA_DIRECTORY / "231865.fits")
    truth = stars[np.isin(stars["id"], rows["id"])]
    pull = (rows["coord_dec"] - np.radians(truth["dec"])) / rows["coord_decErr"]
    assert 0.9 < pull.std() < 1.1
    assert (rows["flags"][:, 0] == (rows["pm_raErr"] == 0)).all()
    moving = rows["pm_decErr"] > 0
    pull = (rows["pm_dec"] - truth["pm_dec"] * np.pi / 180 / 3.6e6)[moving] / rows["pm_decErr"][moving]
    assert 0.9 < pull.std() < 1.1

    rows = fits.getdata(folder / refcats.PS1_DIRECTORY / "231865.fits")
    known = rows[np.isin(rows["id"], stars["id"])]
    truth = 10 ** (0.4 * (31.4 - stars["r"][np.isin(stars["id"], rows["id"])]))
    pull = (known["r_flux"] - truth) / known["r_fluxErr"]
    assert 0.9 < pull.std() < 1.1 and abs(pull.mean()) < 0.2

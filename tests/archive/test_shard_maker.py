"""Shards made from TAP services: the columns and values of real ones, each source in one shard, none from a part."""

from dataclasses import replace

import numpy as np
import pytest
from archive.tap_server import LocalTap
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.time import Time
from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

from proc_decam_dagster.archive import make_shards, shards_for
from proc_decam_dagster.archive import shard_format as form
from proc_decam_dagster.archive.errors import TransferFailed
from proc_decam_dagster.archive.footprint import shards_of_positions
from proc_decam_dagster.archive.shard_maker import (
    GAIA_COLUMNS,
    GAIA_CORRELATIONS,
    SOURCES,
    boxes_of,
    gaia_columns,
    make_shard,
)
from proc_decam_dagster.archive.tap import TapSite, TapTable
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.refcats import check_shard
from proc_decam_dagster.survey import datasets

GAIA, PS1 = datasets.REFCAT_ASTROMETRY, datasets.REFCAT_PHOTOMETRY
QUICK = {"retries": 1, "backoff": 0.001}


def gaia_rows(ra, dec, seed: int = 1) -> Table:
    """Return rows as `gaia_source` has them; every tenth has a position only."""
    rng, n = np.random.default_rng(seed), len(ra)
    rows = Table({"source_id": 4611686018427387904 + np.arange(n), "ra": ra, "dec": dec})
    for name in ("ra_error", "dec_error", "pmra_error", "pmdec_error", "parallax_error"):
        rows[name] = rng.uniform(0.02, 2, n)
    for name in ("pmra", "pmdec", "parallax"):
        rows[name] = rng.normal(0, 20, n)
    for name in GAIA_CORRELATIONS:
        rows[name] = rng.uniform(-0.5, 0.5, n).astype(np.float32)
    for band in ("g", "bp", "rp"):
        rows[f"phot_{band}_mean_flux"] = 10 ** rng.uniform(2, 6, n)
        rows[f"phot_{band}_mean_flux_error"] = rows[f"phot_{band}_mean_flux"] * 0.01
    rows["ref_epoch"], rows["astrometric_excess_noise"] = 2016.0, rng.uniform(0, 1, n)
    rows["phot_variable_flag"] = np.where(np.arange(n) % 7 == 0, "VARIABLE", "NOT_AVAILABLE")
    unknown = np.arange(n) % 10 == 0
    for name in ("pmra", "pmdec", "parallax", "pmra_error", "pmdec_error", "parallax_error", *GAIA_CORRELATIONS[1:]):
        rows[name] = np.where(unknown, np.nan, rows[name])
    return rows


def around(ra: float, dec: float, radius: float, n: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return random positions within some degrees of a place, also at a pole."""
    rng = np.random.default_rng(seed)
    z, turn = rng.uniform(np.cos(np.radians(radius)), 1, n), rng.uniform(0, 2 * np.pi, n)
    r = np.sqrt(1 - z**2)
    east = np.array([-np.sin(np.radians(ra)), np.cos(np.radians(ra)), 0])
    place = UnitVector3d(LonLat.fromDegrees(ra, dec))
    centre = np.array([place.x(), place.y(), place.z()])
    north = np.cross(centre, east)
    v = z[:, None] * centre + r[:, None] * (np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * north)
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(np.arcsin(v[:, 2]))


@pytest.mark.parametrize("place", [(149.4, 1.7), (0.02, -30.0), (12.0, 89.7), (200.0, -89.9)])
def test_every_source_is_in_exactly_one_shard(place, tmp_path):
    """In the midst of the sky, across RA 0, and around both poles."""
    rows = gaia_rows(*around(*place, 2.5, 2000))
    field = Table({"RA(deg)": [place[0]], "DEC(deg)": [place[1]]})
    with LocalTap(gaia_dr3__gaia_source=rows) as tap:
        tap.row_limit = 150  # boxes are divided on the way
        made = make_shards(field, tmp_path, names=[GAIA], urls={GAIA: tap.url}, jobs=2, **QUICK)[GAIA]
    wanted = set(shards_for(field))
    home = shards_of_positions(rows["ra"], rows["dec"])
    assert {check_shard(p) for p in made} == wanted & set(home.tolist())
    written = vstack([Table.read(p)["id", "coord_ra", "coord_dec"] for p in made], metadata_conflicts="silent")
    assert sorted(written["id"]) == sorted(rows["source_id"][np.isin(home, list(wanted))])
    order = np.argsort(written["id"])
    expected = rows[np.isin(rows["source_id"], written["id"])]
    np.testing.assert_allclose(np.degrees(written["coord_ra"][order]), expected["ra"], rtol=0, atol=1e-12)
    assert not list(tmp_path.rglob("*.part"))


def test_boxes_hold_their_trixels():
    pixels = HtmPixelization(7)
    rng = np.random.default_rng(3)
    places = [(0.0, 0.0), (0.0, 90.0), (45.0, -89.95), (359.999, 12.0), *zip(rng.uniform(0, 360, 30),
              rng.uniform(-90, 90, 30))]  # fmt: skip
    for ra, dec in places:
        shard = pixels.index(UnitVector3d(LonLat.fromDegrees(float(ra), float(dec))))
        corners = np.array([[v.x(), v.y(), v.z()] for v in pixels.triangle(shard).getVertices()])
        inside = rng.dirichlet([1, 1, 1], 400) @ corners
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        lon, lat = np.degrees(np.arctan2(inside[:, 1], inside[:, 0])) % 360, np.degrees(np.arcsin(inside[:, 2]))
        held = np.zeros(400, int)
        for box in boxes_of(shard):
            assert 0 <= box.ra0 < box.ra1 <= 360 and -90 <= box.dec0 < box.dec1 <= 90
            held += (lon >= box.ra0) & (lon < box.ra1) & (lat >= box.dec0) & ((lat < box.dec1) | (box.dec1 == 90))
        assert (held == 1).all()


def test_gaia_values_in_lsst_units():
    """Against the published relations, written out here by hand."""
    rows = gaia_rows([10.0, 20.0], [-5.0, 60.0])[1:]
    columns = gaia_columns(rows)
    row, mas = rows[0], np.radians(1 / 3.6e6)
    assert columns["coord_ra"][0] == np.radians(20.0) and columns["pm_ra"][0] == pytest.approx(row["pmra"] * mas)
    assert columns["coord_decErr"][0] == pytest.approx(row["dec_error"] * mas)
    assert columns["parallaxErr"][0] == pytest.approx(row["parallax_error"] * mas)
    # Vega magnitudes of the archive by its own zero point, then the published AB - Vega of G, BP and RP.
    for band, vega, offset in (("g", 25.6873668671, 0.1136777774), ("bp", 25.3385422158, 0.0154133401),
                               ("rp", 24.7478955012, 0.3560882381)):  # fmt: skip
        ab = vega - 2.5 * np.log10(row[f"phot_{band}_mean_flux"]) + offset
        assert -2.5 * np.log10(columns[f"phot_{band}_mean_flux"][0]) + 31.4 == pytest.approx(ab, abs=1e-6)
        ratio = columns[f"phot_{band}_mean_fluxErr"][0] / columns[f"phot_{band}_mean_flux"][0]
        assert ratio == pytest.approx(0.01)
    # The real DR2 shards say 57205.87440947 for J2015.5; DR3 is half a Julian year later.
    assert columns["epoch"][0] == pytest.approx(57205.87440947 + 182.625, abs=1e-5)  # TCB runs faster
    assert columns["epoch"][0] == Time("J2016.0", scale="tcb").tai.mjd
    covariance = row["pmra_error"] * row["parallax_error"] * row["parallax_pmra_corr"] * mas**2
    assert columns["pm_ra_parallax_Cov"][0] == pytest.approx(covariance)
    covariance = row["ra_error"] * row["pmdec_error"] * row["ra_pmdec_corr"] * mas**2
    assert columns["coord_ra_pm_dec_Cov"][0] == pytest.approx(covariance)
    assert columns["flags"].tolist() == [[False, False]]


def test_stars_with_a_position_only_are_flagged(tmp_path):
    rows = gaia_rows(*around(149.4, 1.7, 0.2, 50))
    form.write_shard(tmp_path / "s.fits", form.GAIA, gaia_columns(rows))
    table = Table.read(tmp_path / "s.fits")
    flagged = np.asarray(table["flags"])
    assert flagged.tolist() == [[i % 10 == 0] * 2 for i in range(50)]
    assert np.isnan(np.ma.filled(np.ma.asarray(table["pm_ra"]), np.nan)).tolist() == [i % 10 == 0 for i in range(50)]
    assert np.isfinite(table["coord_ra_coord_dec_Cov"]).all() and (np.asarray(table["coord_raErr"]) > 0).all()


def columns_of(path) -> list[tuple]:
    with fits.open(path) as hdus:
        return [(c.name, c.format, c.unit, hdus[1].header.get(f"TCCLS{n}")) for n, c in enumerate(hdus[1].columns, 1)]


def test_columns_are_those_of_the_real_shards(shared_data, tmp_path):
    """PS1 as it is; Gaia as the real DR2 shards are, and besides the ten covariances of the format's version 2."""
    rows = gaia_rows(*around(149.4, 1.7, 0.2, 5))
    form.write_shard(tmp_path / "s.fits", form.GAIA, gaia_columns(rows))
    ours = columns_of(tmp_path / "s.fits")
    real = columns_of(shared_data / "refcats" / datasets.REFCAT_GAIA_DR2 / "231818.fits")
    assert [c for c in ours if not c[0].endswith("_Cov")] == real
    assert len([c for c in ours if c[0].endswith("_Cov")]) == 10 and set(GAIA_COLUMNS) >= set(GAIA_CORRELATIONS)
    header, real_header = (fits.getheader(p, 1) for p in (
        tmp_path / "s.fits", shared_data / "refcats" / datasets.REFCAT_GAIA_DR2 / "231818.fits",
    ))  # fmt: skip
    for key in ("FLAGCOL", "TFLAG1", "TFLAG2", "TFDOC1", "AFW_TYPE", "AFW_TABLE_VERSION"):
        assert header[key] == real_header[key]
    assert header["REFCAT_FORMAT_VERSION"] == 2


def test_a_real_ps1_shard_comes_back(shared_data, tmp_path):
    """A real shard turned into rows of the service's table (magnitudes, degrees) and made into a shard again."""
    path = shared_data / "refcats" / PS1 / "231862.fits"
    real = Table.read(path)[::6]  # all of its 17,885 sources take the parser of VOTables a minute
    rows = Table(
        {"objID": real["id"], "raMean": np.degrees(real["coord_ra"]), "decMean": np.degrees(real["coord_dec"])}
    )
    rows["raMeanErr"] = rows["decMeanErr"] = 0.01
    rows["epochMean"] = Time(np.asarray(real["epoch"]), format="unix").mjd
    rows["nDetections"] = 5
    for band in "grizy":
        flux, error = (np.ma.filled(np.ma.asarray(real[f"{band}_{w}"]), np.nan) for w in ("flux", "fluxErr"))
        rows[f"{band}MeanPSFMag"] = np.nan_to_num(31.4 - 2.5 * np.log10(flux), nan=-999.0)
        rows[f"{band}MeanPSFMagErr"] = np.nan_to_num(error / flux * 2.5 / np.log(10), nan=-999.0)
    rows["nDetections"][::4] = 1
    with LocalTap(dbo__MeanObjectView=rows) as tap:
        tap.row_limit = 800  # several queries, each of a part
        table = TapTable(tap.url, "dbo.MeanObjectView", SOURCES[PS1].table.columns, "raMean", "decMean",
                         "nDetections > 1")  # fmt: skip
        source = replace(SOURCES[PS1], table=table)
        assert make_shard(TapSite(tap.url, **QUICK), source, 231862, tmp_path / "231862.fits") > 1000
    assert check_shard(tmp_path / "231862.fits") == 231862
    assert columns_of(tmp_path / "231862.fits") == columns_of(path)
    made = Table.read(tmp_path / "231862.fits")
    home = shards_of_positions(rows["raMean"], rows["decMean"]) == 231862
    expected = real[(np.asarray(rows["nDetections"]) > 1) & home]
    expected.sort("id")
    made.sort("id")
    for name in made.colnames:
        if name[:2] == "pm" or name.endswith("_err"):
            continue
        ours, theirs = (np.ma.filled(np.ma.asarray(t[name]).astype(float), np.nan) for t in (made, expected))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1 if name == "epoch" else 0, err_msg=name)


def test_a_truncated_answer_is_never_a_shard(tmp_path):
    field = Table({"RA(deg)": [149.4], "DEC(deg)": [1.7]})
    with LocalTap(gaia_dr3__gaia_source=gaia_rows(*around(149.4, 1.7, 1.5, 500))) as tap:
        tap.silent_limit = 0
        with pytest.raises(TransferFailed):
            make_shards(field, tmp_path, names=[GAIA], urls={GAIA: tap.url}, **QUICK)
        assert not list(tmp_path.rglob("*.fits*"))
        tap.silent_limit = 10**9
        made = make_shards(field, tmp_path, names=[GAIA], urls={GAIA: tap.url}, **QUICK)
        asked = len(tap.queries)
        assert make_shards(field, tmp_path, names=[GAIA], urls={GAIA: tap.url}, **QUICK) == made
        assert len(tap.queries) - asked <= 2 * (len(shards_for(field)) - len(made[GAIA]))  # only what is not there


def test_errors_name_what_to_do(tmp_path):
    field = Table({"RA(deg)": [149.4], "DEC(deg)": [1.7]})
    with pytest.raises(SurveyError, match="gaia_dr2_20200414 cannot be made from a TAP service"):
        make_shards(field, tmp_path, names=[datasets.REFCAT_GAIA_DR2])
    with (
        LocalTap(other__stars=gaia_rows([10.0], [80.0])) as tap,
        pytest.raises(SurveyError, match="no service has a source in any of"),
    ):
        make_shards(field, tmp_path, names=[GAIA], urls={GAIA: tap.url}, tables={GAIA: "other.stars"}, **QUICK)

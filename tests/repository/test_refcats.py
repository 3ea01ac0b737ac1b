"""Reference catalogues: real shards, ingested where they lie; a shard that is not its id lets nothing in."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from lsst.daf.butler import CollectionType
from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import ingest_refcats
from proc_decam_dagster.repository.refcats import check_shard
from proc_decam_dagster.survey import datasets

PS1, GAIA = datasets.REFCAT_PHOTOMETRY, datasets.REFCAT_GAIA_DR2


@pytest.fixture
def real(shared_data):
    """Catalogue → its real shards."""
    return {name: sorted((shared_data / "refcats" / name).glob("*.fits")) for name in (PS1, GAIA)}


def test_every_real_shard_is_its_id(real):
    for paths in real.values():
        assert [check_shard(p) for p in paths] == [int(p.stem) for p in paths]


def test_ingested_where_they_lie_and_chained(repo, real):
    assert ingest_refcats(repo, real) == {PS1: 11, GAIA: 11}
    butler = repo.butler()
    info = butler.collections.get_info("refcats")
    assert info.type is CollectionType.CHAINED
    assert set(info.children) == {"refcats/ps1", "refcats/gaia_dr2"}
    shard = HtmPixelization(7).index(UnitVector3d(LonLat.fromDegrees(149.4, 1.7)))
    ref = butler.find_dataset(PS1, htm7=shard, collections="refcats")
    assert butler.getURI(ref).ospath == str(real[PS1][0].resolve().with_name(f"{shard}.fits"))
    table = butler.get(ref)
    assert len(table) > 100
    assert "coord_ra" in table.colnames


def test_a_second_time_adds_nothing(repo, real):
    ingest_refcats(repo, {"ps1": real[PS1][:5]})
    assert ingest_refcats(repo, {"ps1": real[PS1]}) == {PS1: 6}
    assert ingest_refcats(repo, real) == {PS1: 0, GAIA: 11}
    assert list(repo.butler().collections.get_info("refcats").children) == ["refcats/ps1", "refcats/gaia_dr2"]


def test_a_shard_under_another_id_lets_nothing_in(repo, real, tmp_path):
    one, other, *rest = real[GAIA]
    wrong = tmp_path / one.name
    shutil.copy(other, wrong)
    with pytest.raises(
        SurveyError, match=f"{wrong} holds sources of htm7 {other.stem}; expected only those of {one.stem}"
    ):
        ingest_refcats(repo, {PS1: real[PS1], GAIA: [*rest, wrong]})
    assert not list(repo.butler().registry.queryDatasetTypes(PS1))


@pytest.mark.parametrize("name", ["gaia_231862.fits", "23186.fits", "231862.fits.gz"])
def test_name_that_is_no_id(tmp_path, name):
    with pytest.raises(SurveyError, match="has no htm7 id for a name"):
        check_shard(tmp_path / name)


def test_a_source_just_over_the_edge_is_of_the_shard(tmp_path):
    """Positions are improved after shards are made: 0.1 arcsec over an edge are no other shard, 10 are."""
    pixels = HtmPixelization(7)
    shard = pixels.index(UnitVector3d(LonLat.fromDegrees(149.4, 1.7)))
    corners = [np.array([v.x(), v.y(), v.z()]) for v in pixels.triangle(shard).getVertices()]
    normal = np.cross(corners[0], corners[1])
    normal /= np.linalg.norm(normal)
    for arcsec, good in ((0.1, True), (10.0, False)):
        source = corners[0] + corners[1] - 2 * normal * np.radians(arcsec / 3600)
        place = LonLat(UnitVector3d(*source))
        columns = [
            fits.Column("coord_ra", "D", array=[place.getLon().asRadians()]),
            fits.Column("coord_dec", "D", array=[place.getLat().asRadians()]),
        ]
        path = tmp_path / f"{shard}.fits"
        fits.BinTableHDU.from_columns(columns).writeto(path, overwrite=True)
        assert pixels.index(UnitVector3d(*source)) != shard
        if good:
            assert check_shard(path) == shard
        else:
            with pytest.raises(SurveyError, match="holds sources of htm7"):
                check_shard(path)


def test_an_id_that_is_no_trixel(tmp_path):
    path = tmp_path / "999999.fits"
    columns = [fits.Column(c, "D", array=[0.1]) for c in ("coord_ra", "coord_dec")]
    fits.BinTableHDU.from_columns(columns).writeto(path)
    with pytest.raises(SurveyError, match="only those of 999999"):
        check_shard(path)


def test_missing_damaged_and_strange_shards(tmp_path):
    path = tmp_path / "231862.fits"
    with pytest.raises(SurveyError, match="does not exist"):
        check_shard(path)
    path.write_bytes(b"no table")
    with pytest.raises(SurveyError, match="cannot be read"):
        check_shard(path)
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=[1.0])])]).writeto(
        path, overwrite=True
    )
    with pytest.raises(SurveyError, match="coord_ra and coord_dec"):
        check_shard(path)


def test_unknown_catalogue(repo):
    with pytest.raises(SurveyError, match="ps1 .ps1_pv3_3pi_20170110.*gaia_dr3"):
        ingest_refcats(repo, {"usno": []})

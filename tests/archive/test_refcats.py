"""Shards of the footprint, exactly matched, over HTTP."""

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import fetch_masks, fetch_refcats, given_shards, shards_for
from proc_decam_dagster.archive.refcats import FOLDERS, parse_index
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import datasets

FIELD = Table({"RA(deg)": [149.4, 149.4, float("nan")], "DEC(deg)": [1.7, 1.7, 0.0], "obs_type": ["object"] * 3})


def test_the_real_shards_are_those_of_their_field(shared_data):
    """The shards given with the project cover 0.6 degrees around RA 149.4, Dec +1.7."""
    given = given_shards(shared_data / "refcats")
    assert set(given) == {datasets.REFCAT_PHOTOMETRY, datasets.REFCAT_GAIA_DR2}
    ids = {int(p.stem) for p in given[datasets.REFCAT_PHOTOMETRY]}
    assert ids <= set(shards_for(FIELD)) and len(shards_for(FIELD)) < 40


def test_an_index_is_matched_exactly():
    index = parse_index("./231818.fits\nps1_pv3_3pi_20170110_231861_refcats_gen2.fits\n1231862.fits\nREADME\n\n")
    assert index == {231818: "231818.fits", 231861: "ps1_pv3_3pi_20170110_231861_refcats_gen2.fits"}
    assert parse_index("231818_231861.fits") == {}


def test_shards_are_fetched_once_and_by_catalogue(local, site, tmp_path):
    ids = shards_for(FIELD)
    folder = FOLDERS[datasets.REFCAT_PHOTOMETRY]
    listed = [*ids[:3], 131072]  # one far away
    local.files[f"/{folder}/index.dat"] = "".join(f"{i}.fits\n" for i in listed).encode()
    local.files |= {f"/{folder}/{i}.fits": b"shard %d" % i for i in listed}
    steps = []
    found = fetch_refcats(FIELD, tmp_path, site=site, progress=lambda *a: steps.append(a))
    assert found == {datasets.REFCAT_PHOTOMETRY: [tmp_path / datasets.REFCAT_PHOTOMETRY / f"{i}.fits" for i in ids[:3]]}
    assert found[datasets.REFCAT_PHOTOMETRY][1].read_bytes() == b"shard %d" % ids[1] and steps[-1][:2] == (3, 3)
    before = len(local.requests)
    assert fetch_refcats(FIELD, tmp_path, site=site) == found
    assert not [p for p, _, _ in local.requests[before:] if p.endswith(".fits")]
    with pytest.raises(SurveyError, match="does not exist"):
        fetch_refcats(FIELD, tmp_path, site=site, names=[datasets.REFCAT_ASTROMETRY])
    with pytest.raises(SurveyError, match="unknown"):
        fetch_refcats(FIELD, tmp_path, site=site, names=["tycho"])


def test_footprint_errors(site, tmp_path):
    with pytest.raises(SurveyError, match="no reference-catalogue shard"):
        fetch_refcats(FIELD, tmp_path, site=site)
    with pytest.raises(SurveyError, match=r"no column DEC\(deg\)"):
        shards_for(Table({"RA(deg)": [1.0]}))
    with pytest.raises(SurveyError, match="no object exposure with a position"):
        shards_for(FIELD[2:])
    with pytest.raises(SurveyError, match="holds no reference-catalogue shards"):
        given_shards(tmp_path)


def test_masks_of_both_families(local, site, tmp_path):
    local.files["/cp/index.dat"] = b"DECam_Master_20140209v2_cd_01.fits\n"
    local.files["/cp/DECam_Master_20140209v2_cd_01.fits"] = b"cp"
    local.files["/des/index.dat"] = b"D_n20150105t0115_c01_r2134p01_bpm.fits\n../../evil.fits\n"
    local.files["/des/D_n20150105t0115_c01_r2134p01_bpm.fits"] = b"des"
    found = fetch_masks(tmp_path, site=site)
    assert {f: [p.name for p in ps] for f, ps in found.items()} == {
        "cp": ["DECam_Master_20140209v2_cd_01.fits"], "des": ["D_n20150105t0115_c01_r2134p01_bpm.fits"],
    }  # fmt: skip
    assert found["des"][0].read_bytes() == b"des"
    local.files["/cp/index.dat"] = b"<html>"
    with pytest.raises(SurveyError, match="lists no FITS file"):
        fetch_masks(tmp_path, site=site)

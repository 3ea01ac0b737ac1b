"""Shards of the footprint, exactly matched, over HTTP."""

from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from proc_decam_dagster.archive import fetch_masks, fetch_refcats, given_shards, shards_for
from proc_decam_dagster.archive.client import HttpSite
from proc_decam_dagster.archive.footprint import trixel_corners
from proc_decam_dagster.archive.refcats import FOLDERS, parse_index
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import datasets

FIELD = Table({"RA(deg)": [149.4, 149.4, float("nan")], "DEC(deg)": [1.7, 1.7, 0.0], "obs_type": ["object"] * 3})


def shard(trixel: int) -> bytes:
    """Return a shard with one source, in the middle of its trixel."""
    x, y, z = trixel_corners(trixel).mean(axis=0)
    buffer = BytesIO()
    table = Table({"coord_ra": [np.arctan2(y, x)], "coord_dec": [np.arctan2(z, np.hypot(x, y))]})
    table.write(buffer, format="fits")
    return buffer.getvalue()


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
    local.files |= {f"/{folder}/{i}.fits": shard(i) for i in listed}
    steps = []
    found = fetch_refcats(FIELD, tmp_path, site=site, progress=lambda *a: steps.append(a))
    assert found == {datasets.REFCAT_PHOTOMETRY: [tmp_path / datasets.REFCAT_PHOTOMETRY / f"{i}.fits" for i in ids[:3]]}
    assert found[datasets.REFCAT_PHOTOMETRY][1].read_bytes() == shard(ids[1]) and steps[-1][:2] == (3, 3)
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


def test_a_shard_of_another_trixel_or_a_part_of_one_never_gets_its_name(local, site, tmp_path):
    ids = shards_for(FIELD)
    folder = FOLDERS[datasets.REFCAT_PHOTOMETRY]
    local.files[f"/{folder}/index.dat"] = "".join(f"{i}.fits\n" for i in ids[:2]).encode()
    local.files[f"/{folder}/{ids[0]}.fits"] = shard(ids[0])
    for body in (shard(131072), shard(ids[1])[:3000], b"<html>sorry</html>"):
        local.files[f"/{folder}/{ids[1]}.fits"] = body
        with pytest.raises(SurveyError, match=f"shard .*{ids[1]}.fits"):
            fetch_refcats(FIELD, tmp_path, site=HttpSite(local.site, retries=0))
        assert [p.name for p in tmp_path.rglob("*.fits*")] == [f"{ids[0]}.fits"]


def mask_file(shape=(4096, 2048)) -> bytes:
    image = np.zeros(shape, np.int32)
    image[10:20, 5] = 1
    buffer = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, compression_type="RICE_1")]).writeto(buffer)
    return buffer.getvalue()


def test_masks_of_both_families(local, site, tmp_path):
    cp, des = "DECam_Master_20140209v2_cd_01.fits", "D_n20150105t0115_c01_r2134p01_bpm.fits"
    local.files["/cp/index.dat"] = f"{cp}\n".encode()
    local.files["/des/index.dat"] = f"{des}\n../../evil.fits\n".encode()
    local.files[f"/cp/{cp}"] = local.files[f"/des/{des}"] = mask_file()
    found = fetch_masks(tmp_path, site=site)
    assert {f: [p.name for p in ps] for f, ps in found.items()} == {"cp": [cp], "des": [des]}
    assert found["des"][0].read_bytes() == mask_file()
    local.files["/cp/index.dat"] = b"<html>"
    with pytest.raises(SurveyError, match="lists no FITS file"):
        fetch_masks(tmp_path, site=site)


@pytest.mark.parametrize("body", [mask_file((10, 20)), mask_file()[:4000], b"<html>", b""])
def test_what_is_no_mask_never_gets_its_name(local, tmp_path, body):
    name = "DECam_Master_20140209v2_cd_01.fits"
    local.files |= {"/cp/index.dat": name.encode(), "/des/index.dat": b"d.fits", "/des/d.fits": mask_file()}
    local.files[f"/cp/{name}"] = body
    with pytest.raises(SurveyError, match=f"mask {name} (holds|cannot be read)"):
        fetch_masks(tmp_path, site=HttpSite(local.site, retries=0), jobs=1)
    assert not list((tmp_path / "cp").iterdir())

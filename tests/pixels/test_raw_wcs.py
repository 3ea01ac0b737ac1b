"""The raw header's WCS, moved to the trimmed image."""

import numpy as np
import yaml
from astropy.io.fits import Header
from astropy.wcs import WCS

from proc_decam_dagster.pixels.raw_wcs import trimmed_wcs


def test_real_header_is_moved_by_its_prescan(shared_data):
    cards = yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())
    wcs = trimmed_wcs(cards, (0, 0), (4096, 2048))
    header = Header({k: v for k, v in cards.items() if k.startswith(("CTYPE", "CRVAL", "CRPIX", "CUNIT", "CD", "PV"))
                     and k[-1].isdigit()})  # fmt: skip
    raw = WCS(header)
    for x, y in ((0, 0), (2047, 0), (1000, 4095)):
        np.testing.assert_allclose(wcs.all_pix2world(x, y, 0), raw.all_pix2world(x + 56, y + 50, 0), atol=1e-9)
    ra, dec = wcs.all_pix2world(1023.5, 2047.5, 0)
    assert abs(dec - cards["CRVAL2"]) < 1.1
    assert wcs.wcs.radesys == "FK5"


def test_offset_of_the_sections_serves_where_the_header_has_none():
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 2.0, "CRPIX1": 100.0, "CRPIX2": 200.0,
        "CD1_1": -7e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 7e-5,
    }  # fmt: skip
    assert list(trimmed_wcs(cards, (56, 0), (100, 100)).wcs.crpix) == [44, 200]


def test_frames_without_sky_have_none():
    assert trimmed_wcs({"OBSTYPE": "zero"}, (56, 50), (4096, 2048)) is None

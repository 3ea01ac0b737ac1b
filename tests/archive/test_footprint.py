"""Trixels of the footprint: against the pixels of every CCD, at the poles and across RA 0."""

import numpy as np
import pytest
from astropy.table import Table
from lsst.sphgeom import Angle, Circle, HtmPixelization, LonLat, UnitVector3d

from proc_decam_dagster.archive.footprint import shards_for, shards_of_positions, touches, trixel_corners
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import field_radius_deg, pixel_to_sky
from proc_decam_dagster.survey.exposures import read_exposures


def at(*places) -> Table:
    ra, dec = zip(*places)
    return Table({"RA(deg)": list(ra), "DEC(deg)": list(dec), "obs_type": ["object"] * len(ra)})


def seen(ra: float, dec: float, step: int = 32) -> set[int]:
    """Return the trixels in which pixels of the CCDs lie, a grid of them with all the edges."""
    x, y = np.meshgrid(np.r_[0:2048:step, 2047] - 0.0, np.r_[0:4096:step, 4095] - 0.0)
    found = set()
    for detector in DETECTORS:
        found |= set(shards_of_positions(*pixel_to_sky(detector, x.ravel(), y.ravel(), ra, dec)).tolist())
    return found


@pytest.mark.parametrize("place", [(149.4, 1.7), (0.1, -30.0), (210.0, 89.9), (33.0, -88.0), (90.0, 0.0)])
def test_exactly_the_trixels_of_the_pixels(place):
    pixels = seen(*place, 128)
    exact, grown = set(shards_for(at(place), 0.0)), set(shards_for(at(place)))
    # A grid of pixels may miss a sliver of a trixel; the outline may not miss a pixel.
    assert pixels <= exact <= grown
    assert len(exact - pixels) <= 2
    radius = Angle.fromDegrees(field_radius_deg + 0.1)
    circle = Circle(UnitVector3d(LonLat.fromDegrees(*place)), radius)
    round_ones = {i for b, e in HtmPixelization(7).envelope(circle) for i in range(b, e)}
    assert grown <= round_ones


def test_touching_and_apart():
    corners = trixel_corners(231818)
    middle = corners.mean(axis=0) / np.linalg.norm(corners.mean(axis=0))
    small = middle + 0.01 * (corners - middle)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert touches(small[None], corners) and touches(corners[None], small)  # one within the other
    assert touches(corners[None], corners)
    assert not touches(-corners[None], corners)
    beyond = corners + 4 * (corners[0] - middle)
    assert not touches((beyond / np.linalg.norm(beyond, axis=1, keepdims=True))[None], corners)


def test_dithers_and_wrap():
    assert shards_for(at((0.0, -5.0), (359.9999, -5.0))) == shards_for(at((0.0, -5.0)))
    both = set(shards_for(at((10.0, 0.0), (12.0, 0.0))))
    assert both == set(shards_for(at((10.0, 0.0)))) | set(shards_for(at((12.0, 0.0))))


def test_the_real_survey(shared_data):
    table = read_exposures(shared_data / "archive" / "exposures_object_raw.ecsv")
    wanted = set(shards_for(table))
    for row in table[:: len(table) // 5]:
        assert seen(row["RA(deg)"], row["DEC(deg)"], 512) <= wanted
    assert 500 < len(wanted) < 3000

"""Sky maps cover what they promise, number it as others do, and find it again."""

import json

import numpy as np
import pytest

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import camera_outline, detector_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.pixels.skymap import SkyMap


@pytest.fixture(scope="module")
def rings():
    return SkyMap.rings()


def test_whole_sky_map_has_the_numbers_of_the_science_stack(rings):
    """Known: COSMOS (150.1, 2.2) lies in tract 9813 of every map of 120 rings, each tract of 6 x 6 patches here."""
    assert len(rings) == len(rings.tracts) == 18938
    assert rings.find(150.1, 2.2)[0][0] == 9813
    assert {(tract.nx, tract.ny) for tract in (rings.tract(0), rings.tract(9813), rings.tracts[-1])} == {(6, 6)}
    assert rings.tract(9813).shape == (24000, 24000)
    assert (rings.tract(0).dec, rings.tracts[-1].dec) == (-90, 90)
    with pytest.raises(IndexError):
        rings.tract(len(rings))


def test_every_position_has_a_tract_and_the_first_is_the_nearest(rings):
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    positions = [*zip(ra, dec), (0, 90), (10, -90), (0, 0), (359.9999, 1.0), (45, 89.3), (200, -88.9)]
    centers = np.radians([(tract.ra, tract.dec) for tract in rings.tracts])
    for a, d in positions:
        found = dict(rings.find(a, d))
        assert found
        assert rings.home(a, d) == rings.find(a, d)[0]
        r, e = np.radians([a, d])
        cosine = np.sin(e) * np.sin(centers[:, 1]) + np.cos(e) * np.cos(centers[:, 1]) * np.cos(r - centers[:, 0])
        near = np.flatnonzero(cosine > np.cos(np.radians(1.3)))
        expected = {int(each): patch for each in near if (patch := rings.tract(each).patch_at(a, d)) is not None}
        assert found == expected


def test_patches_tile_their_tract_and_overlap_by_their_borders(rings):
    tract = SkyMap.discrete("x", [(10.0, 0.0, 0.2)], patch_inner=1000, border=50).tract(0)
    covered = np.zeros(tract.shape, np.uint8)
    for patch in tract.patches:
        x0, y0, x1, y1 = patch.inner
        covered[y0:y1, x0:x1] += 1
        assert patch.index == patch.cell[1] * tract.nx + patch.cell[0]
    assert (covered == 1).all()
    middle = rings.tract(9813).patch(7)
    assert (middle.inner, middle.bbox) == ((4000, 4000, 8000, 8000), (3900, 3900, 8100, 8100))
    assert middle.shape == (4200, 4200)
    assert rings.tract(9813).patch(0).bbox == (0, 0, 4100, 4100)


def test_wcs_of_a_patch_is_that_of_its_tract_shifted(rings):
    tract = rings.tract(9813)
    patch = tract.patch(20)
    wcs = patch.wcs()
    assert wcs.array_shape == patch.shape
    x, y = np.random.default_rng(0).uniform(0, 4000, (2, 20))
    ra, dec = wcs.all_pix2world(x, y, 0)
    np.testing.assert_allclose(tract.sky_to_pixel(ra, dec), (x + patch.bbox[0], y + patch.bbox[1]), atol=1e-6)
    np.testing.assert_allclose(tract.pixel_to_sky(x + patch.bbox[0], y + patch.bbox[1]), (ra, dec), atol=1e-10)
    np.testing.assert_allclose(tract.wcs().all_world2pix(ra, dec, 0), (x + patch.bbox[0], y + patch.bbox[1]), atol=1e-6)
    corners = wcs.all_world2pix(patch.polygon(), 0)
    ny, nx = patch.shape
    edges = [[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]]
    np.testing.assert_allclose(corners, edges, atol=1e-6)
    # East is to the left, north is up.
    assert ra[np.argmax(x)] < tract.ra + 1 and np.corrcoef(x, ra)[0, 1] < -0.99 and np.corrcoef(y, dec)[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["rings", "discrete"])
def test_patches_that_a_detector_touches_hold_every_pixel_of_it(rings, kind):
    skymap = rings if kind == "rings" else SkyMap.discrete("x", [(149.4, 1.7)])
    outline = detector_outline(10, 149.4, 1.7)
    touched = skymap.overlapping(outline)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), 300)
    inside = weights @ outline
    for ra, dec in inside:
        assert set(skymap.find(ra, dec)) <= set(touched)
    tract, index = skymap.find(*outline.mean(0))[0]
    assert index in [patch.index for patch in skymap.tract(tract).patches_overlapping(outline)]
    # Patches that are not among them lie outside: no corner or inner point of the detector falls on their pixels.
    x, y = skymap.tract(tract).sky_to_pixel(*inside.T)
    for patch in skymap.tract(tract).patches:
        if (tract, patch.index) not in touched:
            x0, y0, x1, y1 = patch.bbox
            assert not ((x > x0 - 0.5) & (x < x1 - 0.5) & (y > y0 - 0.5) & (y < y1 - 0.5)).any()


@pytest.mark.parametrize("pointing", [(149.4, 1.7), (359.9, -30.0), (80.0, -89.0)])
def test_discrete_map_contains_every_detector_with_room_for_pointing_errors(pointing):
    skymap = SkyMap.discrete("x", [pointing])
    tract = skymap.tract(0)
    assert len(skymap) == 1
    x, y = tract.sky_to_pixel(*np.concatenate([detector_outline(each, *pointing) for each in DETECTORS]).T)
    margin = 60 / tract.pixel_scale
    ny, nx = tract.shape
    assert x.min() > margin - 1 and y.min() > margin - 1 and x.max() < nx - margin and y.max() < ny - margin
    assert max(x.min(), nx - x.max()) < margin + 2048, "a column of patches more than needed"
    assert max(y.min(), ny - y.max()) < margin + 2048
    assert skymap.find(*pointing) == [(0, tract.patch_at(*pointing))]
    assert skymap.find(pointing[0] + 180, -pointing[1]) == []


def test_outline_of_the_camera_holds_all_detectors():
    from proc_decam_dagster.camera.fields import vectors

    corners = vectors(*np.concatenate([detector_outline(each, 30, -40) for each in DETECTORS]).T)
    outline = vectors(*camera_outline(30, -40).T)
    for one, other in zip(outline, np.roll(outline, -1, axis=0)):
        side = corners @ np.cross(one, other)
        assert (side < 1e-12).all() or (side > -1e-12).all()


def test_connected_fields_share_a_tract_and_distant_ones_do_not():
    dithered = [(149.4 + 0.1 * n, 1.7) for n in range(4)]
    skymap = SkyMap.discrete("x", [*dithered, (359.9, -20.0), (0.5, -20.0), (150.0, -50.0)])
    assert len(skymap) == 3
    assert [skymap.find(*each)[0][0] for each in ((359.9, -20.0), (0.5, -20.0))] == [skymap.find(0.2, -20.0)[0][0]] * 2
    assert len({skymap.find(*each)[0][0] for each in dithered}) == 1
    for each in dithered:
        assert all(skymap.find(*corner) for corner in camera_outline(*each))


def test_a_long_strip_of_fields_is_divided_into_planes_of_moderate_size():
    strip = [(ra, 0.5) for ra in np.arange(100.0, 130.0, 1.5)]
    skymap = SkyMap.discrete("x", strip)
    assert 3 <= len(skymap) <= 8
    for pointing in strip:
        outline = camera_outline(*pointing)
        assert any(
            all(skymap.tract(tract).patch_at(*corner) is not None for corner in outline)
            for tract in range(len(skymap))
        ), "no tract holds the field whole"  # fmt: skip


def test_circles_and_outlines_are_fields_too():
    circle = SkyMap.discrete("x", [(10.0, 60.0, 0.5)]).tract(0)
    angle = np.radians(np.arange(0, 360, 10))
    dec = 60 + 0.4999 * np.cos(angle)
    ra = 10 + 0.4999 * np.sin(angle) / np.cos(np.radians(dec))
    assert all(circle.patch_at(*each) is not None for each in zip(ra, dec))
    corners = [(10.0, 0.0), (10.3, 0.0), (10.3, 0.2), (10.0, 0.2)]
    outline = SkyMap.discrete("x", [corners]).tract(0)
    assert all(outline.patch_at(*each) is not None for each in corners)
    with pytest.raises(SurveyError, match="no fields"):
        SkyMap.discrete("x", [])
    with pytest.raises(ValueError, match="field of shape"):
        SkyMap.discrete("x", [(1.0,)])


def test_maps_survive_json_and_their_hash_tells_them_apart(rings):
    maps = [rings, SkyMap.discrete("a", [(149.4, 1.7)]), SkyMap.discrete("a", [(149.4, 3.7)])]
    for skymap in maps:
        back = SkyMap.from_dict(json.loads(json.dumps(skymap.to_dict())))
        assert back == skymap and back.sha1 == skymap.sha1 and back.kind == skymap.kind
        assert back.tract(0) == skymap.tract(0)
    assert len({skymap.sha1 for skymap in maps}) == 3
    assert all(len(bytes.fromhex(skymap.sha1)) == 20 for skymap in maps)
    fields = [(149.4, 1.7), (149.6, 1.7), (149.4, 1.9)]
    assert SkyMap.discrete("b", fields).sha1 == SkyMap.discrete("c", fields[::-1]).sha1, "order makes no difference"
    with pytest.raises(ValueError, match="kind"):
        SkyMap.from_dict({"name": "x", "kind": "healpix", "parameters": {}})


def test_a_real_survey(shared_data):
    """Every pointing of 8,915 real exposures lies inside its map with the whole camera."""
    from astropy.table import Table

    table = Table.read(shared_data / "archive" / "exposures_object_raw.ecsv")
    pointings = {(round(float(ra), 2), round(float(dec), 2)) for ra, dec in zip(table["RA(deg)"], table["DEC(deg)"])}
    skymap = SkyMap.discrete("survey", pointings)
    assert 1 <= len(skymap) < 100
    for pointing in sorted(pointings)[:: max(1, len(pointings) // 50)]:
        for corner in camera_outline(*pointing):
            assert skymap.find(*corner)

"""Regions on the sky: the camera's true outlines, padded by what is asked for."""

import numpy as np
import pytest
from lsst.sphgeom import LonLat, UnitVector3d

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import detector_outline
from proc_decam_dagster.instrument.regions import camera_vectors, polygon, positions, unit_vectors, visit_polygons


def holds(region, ra, dec):
    return region.contains(UnitVector3d(LonLat.fromDegrees(ra, dec)))


@pytest.mark.parametrize("pointing", [(149.4, 1.7), (0.02, -30.0), (359.9, 60.0), (12.0, -89.0)])
def test_camera_is_turned_as_a_whole(pointing):
    turned = camera_vectors(*pointing)
    assert set(turned) == set(DETECTORS)
    for detector, vectors in turned.items():
        expected = unit_vectors(detector_outline(detector, *pointing))
        assert np.abs(vectors - expected).max() < 1e-10  # 0.02 mas


def test_positions_are_the_inverse_of_unit_vectors():
    sky = np.array([[0.0, 0.0], [359.5, 45.0], [180.0, -89.9]])
    assert np.allclose(positions(unit_vectors(sky)), sky)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("ra", [10.0, 0.0])
def test_sides_move_outwards_by_the_padding(order, ra):
    square = np.array([[ra - 0.1, -0.1], [ra + 0.1, -0.1], [ra + 0.1, 0.1], [ra - 0.1, 0.1]])[::order]
    region = polygon(square, padding_arcsec=36.0)
    for side in (0.1, -0.1):
        inside, outside = side * (1 + 0.0095 / 0.1), side * (1 + 0.0105 / 0.1)  # 36 arcsec are 0.01 deg
        assert holds(region, ra + inside, 0)
        assert holds(region, ra, inside)
        assert not holds(region, ra + outside, 0)
        assert not holds(region, ra, outside)


def test_visit_is_the_hull_of_its_detectors():
    visit, detectors = visit_polygons(149.4, 1.7)
    assert holds(visit, 149.4, 1.7)
    assert not holds(visit, 149.4, 1.7 + 1.2)
    for region in detectors.values():
        assert all(visit.contains(vertex) for vertex in region.getVertices()) or visit.contains(region)

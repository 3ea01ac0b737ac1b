"""Stars and galaxies on pixels."""

import numpy as np
import pytest

from proc_decam_dagster.simulation import rendering
from proc_decam_dagster.simulation.optics import PsfField

PSF = PsfField(4.2, 3.8, (0.3, 0.1, 0.6, 0.2, 0.5, 0.4, 0.9, 0.0))


def star(x, y, flux=1e5, size=161):
    image = np.zeros((size, size), np.float32)
    rendering.draw_stars(image, [x], [y], [flux], PSF)
    return image


def test_flux_and_centre_are_conserved():
    image = star(80.3, 79.6)
    yy, xx = np.mgrid[:161, :161]
    assert image.sum() == pytest.approx(1e5, rel=3e-3)
    assert (image * xx).sum() / image.sum() == pytest.approx(80.3, abs=0.01)
    assert (image * yy).sum() / image.sum() == pytest.approx(79.6, abs=0.01)


def test_star_is_the_pixel_integrated_profile():
    image = star(80, 80)[55:106, 55:106] / 1e5
    expected = PSF.stamp(80, 80)
    assert abs(image - expected).max() < 5e-4 * expected.max()


def test_brighter_stars_reach_farther_and_edges_do_not_fail():
    assert (star(80, 80, 1e7) > 0).sum() > (star(80, 80, 1e3) > 0).sum()
    assert 0 < star(-5, 170, 1e7).sum() < 1e7
    assert star(-500, 80).sum() == 0


def test_smallest_galaxy_is_a_star_and_large_ones_keep_their_flux():
    tiny = np.zeros((161, 161), np.float32)
    rendering.draw_galaxies(tiny, [80.3], [79.6], [1e5], [0.02], [1.0], [0.0], [False], PSF)
    expected = star(80.3, 79.6)
    assert abs(tiny - expected).max() < 0.01 * expected.max()
    for bulge in (False, True):
        image = np.zeros((801, 801), np.float32)
        rendering.draw_galaxies(image, [400.0], [400.0], [1e6], [6.0], [0.4], [0.5], [bulge], PSF)
        assert image.sum() == pytest.approx(1e6, rel=0.02)


def test_galaxy_lies_along_its_angle():
    image = np.zeros((201, 201), np.float32)
    rendering.draw_galaxies(image, [100.0], [100.0], [1e6], [12.0], [0.3], [np.pi / 2], [False], PSF)
    assert image[160, 100] > 10 * image[100, 160]

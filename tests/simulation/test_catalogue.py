"""The simulated sky."""

import numpy as np

from proc_decam_dagster.simulation import catalogue


def test_sources_lie_in_their_htm7_pixel():
    from lsst.sphgeom import HtmPixelization, UnitVector3d

    pixels = HtmPixelization(catalogue.LEVEL)
    trixel = catalogue.trixels_of_circle(149.4, 1.7, 0.05)[0]
    stars, galaxies = catalogue.stars(1, trixel), catalogue.galaxies(1, trixel)
    for table in (stars[:300], galaxies[:300]):
        vectors = catalogue.vector(table["ra"], table["dec"])
        assert {pixels.index(UnitVector3d(*map(float, v))) for v in vectors} == {trixel}
        assert catalogue.inside_trixel(trixel, vectors).all()
    # Uniform: the same number on both sides of the middle.
    middle = np.median(stars["dec"])
    assert abs(middle - stars["dec"].mean()) < 0.03
    assert len(set(stars["id"])) == stars.size


def test_sky_depends_on_seed_and_pixel_alone():
    trixel = 231865
    np.testing.assert_array_equal(catalogue.stars(1, trixel), catalogue.stars(1, trixel))
    assert catalogue.stars(1, trixel).size != catalogue.stars(2, trixel).size


def test_counts_follow_the_density():
    trixel = 231865
    stars = catalogue.stars(1, trixel)
    expected = catalogue.STAR_DENSITY * catalogue.area(trixel)
    assert abs((stars["r"] < 24).sum() - expected) < 5 * np.sqrt(expected)
    assert 4 * np.pi * np.degrees(1) ** 2 / (8 * 4**7) / catalogue.area(trixel) < 1.6


def test_stars_move():
    star = np.zeros(1, catalogue.STAR)
    star["dec"], star["pm_ra"], star["pm_dec"] = 60.0, 1000.0, -500.0
    ra, dec = catalogue.moved(star, catalogue.EPOCH + 365.25)
    np.testing.assert_allclose([ra[0] * 3600, (dec[0] - 60) * 3600], [2.0, -0.5], rtol=1e-6)

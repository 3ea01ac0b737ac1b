"""The zero point: recovered among galaxies, variables and wrong matches; refused with too few stars."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.reference import ReferenceStars
from proc_decam_dagster.pixels.zero_point import flux_scale, measure

ZERO_POINT = 30.7


@pytest.fixture
def stars():
    """120 reference stars, and what an exposure of a known zero point measures of them."""
    rng = np.random.default_rng(6)
    n = 120
    ra, dec = 150 + rng.uniform(-0.1, 0.1, n), 2 + rng.uniform(-0.1, 0.1, n)
    njy = 10 ** rng.uniform(4, 6, n)
    reference = ReferenceStars(ra, dec, np.full(n, 20.0), njy * (1 + 0.005 * rng.normal(size=n)), 0.005 * njy)
    flux = njy / flux_scale(ZERO_POINT)
    error = np.sqrt(flux + 2e5)
    return reference, ra + 5e-6 * rng.normal(size=n), dec, flux + error * rng.normal(size=n), error


def test_zero_point_is_recovered(stars):
    reference, *measured = stars
    found = measure(*measured, reference)
    assert found.magnitude == pytest.approx(ZERO_POINT, abs=0.003)
    assert abs(found.magnitude - ZERO_POINT) < 5 * found.error
    assert found.flux_scale == pytest.approx(flux_scale(found.magnitude))
    assert found.n_stars > 80 and len(found.source_index) == found.n_stars


def test_outliers_do_not_move_it(stars):
    reference, ra, dec, flux, error = stars
    spoilt = flux.copy()
    spoilt[:30] *= 2.0  # blends: all on one side
    assert measure(ra, dec, spoilt, error, reference).magnitude == pytest.approx(ZERO_POINT, abs=0.005)


def test_flux_scale_is_the_definition_of_ab():
    assert flux_scale(31.4) == pytest.approx(1)
    assert flux_scale(28.9) == pytest.approx(10)


def test_too_few_stars_are_refused(stars):
    reference, *measured = stars
    with pytest.raises(MeasurementFailure, match="needed") as failure:
        measure(*(part[:4] for part in measured), reference)
    assert failure.value.figures["n_stars"] <= 4
    with pytest.raises(MeasurementFailure, match="needed"):
        measure(measured[0] + 0.01, *measured[1:], reference)  # 36 arcsec off: nothing matches
    with pytest.raises(MeasurementFailure, match="0 reference fluxes"):
        measure(*measured, reference.take(np.zeros(120, bool)))


def test_nonsense_is_refused(stars):
    reference, ra, dec, flux, error = stars
    rng = np.random.default_rng(0)
    shuffled = flux * 10 ** rng.uniform(-1, 1, len(flux))
    with pytest.raises(MeasurementFailure):
        measure(ra, dec, shuffled, error, reference)

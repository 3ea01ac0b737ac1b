"""Flats: illumination shared over detectors, bad exposures left out, defects found."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.flat import fit_illumination, flag_defects, tile_levels
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BAD, SAT


def levels(scales, responses, noise=2e-4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        (e, d): s * r * (1 + noise * rng.standard_normal()) for e, s in scales.items() for d, r in responses.items()
    }


def test_relative_response_of_detectors_is_kept():
    rng = np.random.default_rng(2)
    responses = dict(enumerate(1 + 0.1 * rng.standard_normal(20), start=1))
    scales = {100 + k: 30000.0 * (1 + 0.2 * rng.standard_normal()) for k in range(8)}
    measured = levels(scales, responses)
    del measured[103, 7]
    measured[104, 9] *= 1.5  # one odd amplifier in one exposure
    fit = fit_illumination(measured)
    mean = np.mean(list(responses.values()))
    assert np.mean(list(fit.levels.values())) == pytest.approx(1)
    assert [fit.levels[d] for d in responses] == pytest.approx([r / mean for r in responses.values()], rel=3e-4)
    assert [fit.scales[e] for e in scales] == pytest.approx([s * mean for s in scales.values()], rel=3e-4)
    assert not fit.rejected


def test_dark_and_misshapen_exposures_are_rejected_with_the_reason():
    responses = dict.fromkeys(range(1, 11), 1.0)
    measured = levels({1: 40000.0, 2: 41000.0, 3: 39000.0, 4: 100.0, 5: 40000.0}, responses)
    for detector in range(1, 7):
        measured[5, detector] *= 1 + 0.05 * detector
    fit = fit_illumination(measured)
    assert sorted(fit.scales) == [1, 2, 3]
    assert "below" in fit.rejected[4]
    assert "deviates" in fit.rejected[5]


def test_one_detector_alone_has_unit_level():
    fit = fit_illumination(levels({1: 40000.0, 2: 20000.0, 3: 30000.0}, {11: 0.8}, noise=0))
    assert fit.levels == {11: pytest.approx(1)}
    assert fit.scales[2] / fit.scales[1] == pytest.approx(0.5)
    assert fit.scales[2] == pytest.approx(20000 * 0.8)


def test_tile_levels_leave_unusable_pixels_out():
    image = MaskedImage.blank((160, 80))
    image.image += np.repeat(np.arange(16), 10)[:, None]
    image.mask[:10] = SAT
    image.image[:, 3] = 1e6
    tiles = tile_levels(image, step=1)
    assert np.isnan(tiles[0]).all()
    assert tiles[1:, 2] == pytest.approx(np.arange(1, 16))


@pytest.mark.parametrize("shape", [(64, 96), (50, 70)])
def test_defects_are_found_in_vignetted_flats(shape):
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: shape[0], : shape[1]]
    flat = MaskedImage.blank(shape)
    flat.image += ((1 - 1e-3 * x) * (1 + 0.003 * rng.standard_normal(shape))).astype(np.float32)
    dead = [(10, 10), (20, 33), (41, 60)]
    for k, (row, column) in enumerate(dead):
        flat.image[row, column] = (0.0, np.nan, 0.5)[k]
    flat.image[:, 25] *= 1.3
    expected = np.zeros(shape, bool)
    expected[:, 25] = True
    expected[tuple(np.array(dead).T)] = True
    assert flag_defects(flat) == expected.sum()
    assert ((flat.mask & BAD != 0) == expected).all()

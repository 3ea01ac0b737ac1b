"""The resampling kernel against the sum that defines it, whichever way the images are turned."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.lanczos import mask_around, resample, with_slack
from proc_decam_dagster.pixels.lanczos_run import LANES, lanczos_weights, weight_polynomials
from proc_decam_dagster.pixels.mask import BAD, CR, NODATA

STEP = 32
SHAPE, OUT = (150, 170), (131, 147)
"""Of input and output: no multiples of cells or vectors."""

MATRICES = {
    "shifted": ((1, 0), (0, 1)),
    "mirrored": ((-1, 0), (0, -1)),
    "turned": ((0, 1), (1, 0)),
    "turned and mirrored": ((0, -1), (1, 0)),
    "rotated": ((0.9994, -0.035), (0.035, 0.9994)),
    "turned and rotated": ((0.028, -0.9996), (0.9996, 0.028)),
    "finer": ((0.9, 0.02), (-0.02, 0.9)),
    "coarser": ((1.1, 0), (0, 1.1)),
    "far turned": ((0.71, -0.71), (0.71, 0.71)),
}


def directly(image, x, y):
    """Return the Lanczos-3 sum at a position, the nearest pixel, and whether all 36 pixels are there."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    if x < 2 or y < 2 or x >= image.shape[1] - 3 or y >= image.shape[0] - 3:
        return np.nan, None
    pixels = image[y0 - 2 : y0 + 4, x0 - 2 : x0 + 4]
    return lanczos_weights(y - y0) @ pixels @ lanczos_weights(x - x0), (int(y + 0.5), int(x + 0.5))


@pytest.fixture
def source():
    rng = np.random.default_rng(1)
    image = rng.normal(100, 10, SHAPE)
    image[70, 60] = np.nan
    variance = rng.uniform(1, 2, SHAPE).astype(np.float32)
    mask = np.where(rng.random(SHAPE) < 0.01, np.int32(CR), np.int32(0))
    mask[70, 60] = BAD
    return image, variance, mask


@pytest.mark.parametrize("name", MATRICES)
def test_every_pixel_is_the_sum_that_defines_it(source, name):
    image, variance, mask = source
    matrix = np.array(MATRICES[name], float)
    centre = np.array([SHAPE[1], SHAPE[0]]) / 2 + (0.31, -0.17)
    columns, rows = np.meshgrid(np.arange(OUT[1]), np.arange(OUT[0]))
    places = np.stack([columns - OUT[1] / 2, rows - OUT[0] / 2])
    x, y = np.tensordot(matrix, places, 1) + centre[:, None, None]
    nodes = np.meshgrid(np.arange(0, OUT[1] + STEP, STEP), np.arange(0, OUT[0] + STEP, STEP))
    nodes = np.stack([nodes[0] - OUT[1] / 2, nodes[1] - OUT[0] / 2])
    grid = np.tensordot(matrix, nodes, 1) + centre[:, None, None]
    out, errors = np.full(OUT, np.nan, np.float32), np.full(OUT, np.inf, np.float32)
    bits = np.full(OUT, NODATA, np.int32)
    out[50, 50:60], bits[50, 50:60] = 7, 0  # has a value already
    around = np.empty_like(mask)
    mask_around(mask, around)
    resample(
        with_slack(image), variance, mask, around, *(np.ascontiguousarray(g) for g in grid), STEP, 2.0,
        out, errors, bits,
    )  # fmt: skip
    factor = 2 * abs(np.linalg.det(matrix))
    assert (out[50, 50:60] == 7).all() and (bits[50, 50:60] == 0).all()
    checked = 0
    for row in range(0, OUT[0]):
        for column in range(row % 3, OUT[1], 3):
            at = x[row, column], y[row, column]
            wanted, nearest = directly(image, *at)
            # a position that is a pixel's edge to rounding may count to either
            if (row == 50 and 50 <= column < 60) or max(abs(np.array(at) % 0.5 - 0.25)) > 0.2499:
                continue
            if nearest is None or np.isnan(wanted):
                assert np.isnan(out[row, column]) and np.isinf(errors[row, column])
                assert bits[row, column] == (NODATA if nearest is None else NODATA | mask[nearest])
                continue
            assert out[row, column] == pytest.approx(wanted * factor, abs=2e-3 * factor)
            assert errors[row, column] == pytest.approx(variance[nearest] * factor**2, rel=1e-5)
            assert bits[row, column] == around[int(at[1]), int(at[0])]
            checked += 1
    assert checked > 2000


def test_the_polynomials_are_the_weights():
    even, odd = weight_polynomials()
    fraction = np.linspace(0, 1, 1001)
    g = fraction - 0.5
    e, o = np.vander(g**2, 5, increasing=True) @ even, g[:, None] * (np.vander(g**2, 4, increasing=True) @ odd)
    made = np.concatenate([e + o, (e - o)[:, ::-1]], 1)
    assert np.abs(made - lanczos_weights(fraction)).max() < 3e-6
    assert STEP % LANES == 0

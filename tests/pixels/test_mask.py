"""Masks: which pixels count, and masks that grow."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from proc_decam_dagster.pixels.mask import BAD, SUSPECT, grown, unusable


@pytest.mark.parametrize("radius", [1, 2, 5])
def test_a_mask_grows_by_steps_along_rows_and_columns(radius):
    flags = np.random.default_rng(radius).random((90, 130)) > 0.99
    flags[0, 0] = flags[-1, -1] = True
    assert np.array_equal(grown(flags, radius), binary_dilation(flags, iterations=radius))
    assert not grown(np.zeros((9, 9), bool), radius).any()


def test_pixels_without_value_or_error_are_unusable():
    image, variance, mask = np.ones((3, 4), np.float32), np.ones((3, 4), np.float32), np.zeros((3, 4), np.int32)
    mask[0, 0], mask[0, 1] = BAD, SUSPECT
    image[1, 0], image[1, 1] = np.nan, -np.inf
    variance[2] = 0, -1, np.inf, np.nan
    expected = np.zeros((3, 4), bool)
    expected[0, 0] = expected[1, 0] = expected[1, 1] = True
    expected[2] = True
    assert np.array_equal(unusable(image, variance, mask), expected)

"""The blur is scipy's, inside and at the edges."""

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from proc_decam_dagster.pixels.smoothing import blur, gaussian


@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 3.0), (1.2, 3.0), (4.0, 3.5)])
def test_it_is_scipys(sigma, truncate):
    image = np.random.default_rng(1).normal(0, 1, (120, 83)).astype(np.float32)
    expected = gaussian_filter(image.astype(float), sigma, truncate=truncate)
    assert np.abs(gaussian(image, sigma, truncate) - expected).max() < 1e-6


def test_beyond_the_edges_there_may_be_nothing():
    image = np.random.default_rng(2).normal(0, 1, (40, 33)).astype(np.float32)
    side = np.array([0.5, 0.3, 0.1])
    profile = np.concatenate([side[:0:-1], side])
    expected = convolve(image.astype(float), np.outer(profile, profile), mode="constant")
    assert np.abs(blur(image, side, mirrored=False) - expected).max() < 1e-6


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        gaussian(np.zeros((5, 50), np.float32), 4.0)

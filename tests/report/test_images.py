"""Images made small for pictures."""

import numpy as np
import pytest

from proc_decam_dagster.report.images import binned


@pytest.mark.parametrize("dtype", [np.float32, ">f4", np.float64, np.int32, ">i2", bool])
def test_a_bin_is_the_mean_of_its_block(dtype):
    rng = np.random.default_rng(1)
    image = (rng.normal(100, 30, (131, 70)) * (1 if dtype is not bool else 0.005)).astype(dtype)
    wanted = image[:128, :64].astype(float).reshape(8, 16, 4, 16).mean((1, 3))  # remainders are cut
    np.testing.assert_allclose(binned(image, 16), wanted, rtol=1e-5)


def test_pixels_without_a_value_are_left_out():
    image = np.full((32, 48), 3.0, np.float32)
    image[:16, :16] = np.nan
    image[20, 20], image[21, 21], image[22, 22] = np.nan, np.inf, -np.inf
    small = binned(image, 16)
    assert np.isnan(small[0, 0]) and np.isfinite(small).sum() == 5
    np.testing.assert_allclose(small[np.isfinite(small)], 3.0)

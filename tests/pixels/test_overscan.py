"""Overscan: drift followed, noise not printed, jitter kept, bleeds ignored."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.overscan import measure_overscan
from proc_decam_dagster.pixels.readout import Readout

NY, NOISE = 2000, 1.6
READOUT = Readout("A", (0, 0, 64, NY), (56, 40, 120, NY + 40), (6, 40, 56, NY + 40), 4.4, 7.0, 43000.0, False)


def make_raw(jitter=0.0, seed=0):
    """Return a raw array and the true level of its imaging rows."""
    rng = np.random.default_rng(seed)
    y = np.arange(NY + 40)
    level = 2000 + 3 * np.sin(y / 300) + jitter * rng.standard_normal(len(y))
    raw = level[:, None] + NOISE * rng.standard_normal((len(y), 130))
    return np.rint(raw).astype(np.uint16), level[40:]


def test_drift_is_followed_and_noise_is_not_printed():
    raw, level = make_raw()
    overscan = measure_overscan(raw, READOUT)
    error = overscan.levels - level
    assert np.sqrt(np.mean(error**2)) < 0.25 * NOISE / np.sqrt(50)
    assert abs(error.mean()) < 0.02
    assert overscan.noise == pytest.approx(np.sqrt(NOISE**2 + 1 / 12), rel=0.02)
    assert overscan.jitter < 0.1


def test_rows_that_really_jitter_are_followed():
    raw, level = make_raw(jitter=1.5)
    overscan = measure_overscan(raw, READOUT)
    assert overscan.jitter == pytest.approx(1.5, rel=0.1)
    assert np.std(overscan.levels - level) < 1.2 * NOISE / np.sqrt(50)


def test_bled_charge_does_not_move_the_level():
    raw, level = make_raw()
    raw[700:704, 6:56] += 3000  # a whole row, as from a saturated star's trail
    raw[1200, 50:56] += 500  # its last columns only
    overscan = measure_overscan(raw, READOUT)
    assert np.abs(overscan.levels - level).max() < 0.3

"""From electrons to raw numbers."""

import numpy as np
import pytest

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE
from proc_decam_dagster.simulation import readout


@pytest.mark.parametrize("level", [3.0, 30.0, 1500.0])
def test_photon_noise_is_poisson(level):
    image = np.full((600, 500), level, np.float32)
    readout.add_photon_noise(image, np.random.default_rng(1))
    assert image.mean() == pytest.approx(level, abs=5 * np.sqrt(level / image.size))
    assert image.var() == pytest.approx(level, rel=0.02)


def test_bleeding_conserves_charge_and_stays_in_its_column():
    amplifier = DETECTORS[35].amplifiers[0]
    well = readout.full_well(amplifier)
    charge = np.zeros(TRIMMED_SHAPE, np.float32)
    charge[2000:2003, 100] = 5 * well
    before = charge.sum(dtype=float)
    readout.bleed(charge, 35)
    assert charge.sum(dtype=float) == pytest.approx(before, rel=1e-6)
    assert charge.max() <= well * 1.000001
    assert set(np.nonzero(charge)[1]) == {100}
    rows = np.nonzero(charge[:, 100])[0]
    assert abs(rows.mean() - 2001) < 1 and 14 <= rows.size <= 17


@pytest.mark.parametrize("number", [28, 35])
def test_crosstalk_goes_to_the_pixel_read_at_the_same_time(number):
    from proc_decam_dagster.camera.crosstalk import intra_ccd

    signal = np.zeros(TRIMMED_SHAPE, np.float32)
    a, b = DETECTORS[number].amplifiers
    x = a.bbox.x0 + 10
    signal[500, x] = 40_000
    readout.add_crosstalk({number: signal})
    assert signal[500, 2047 - x] == pytest.approx(40_000 * intra_ccd(number)[1, 0], rel=1e-4)
    assert np.count_nonzero(signal) == 2


def test_crosstalk_between_detectors():
    # CCD 36's amplifier B leaks into CCD 35's A.
    signals = {n: np.zeros(TRIMMED_SHAPE, np.float32) for n in (35, 36)}
    source, victim = DETECTORS[36].amplifier("B"), DETECTORS[35].amplifier("A")
    signals[36][1000, source.bbox.x1 - 1 - 7] = 30_000
    readout.add_crosstalk(signals)
    y, x = np.argwhere(signals[35])[0]
    assert (y, x) == (1000, victim.bbox.x0 + 7)


def test_raw_has_overscan_beside_each_amplifier_and_the_right_noise():
    rng = np.random.default_rng(2)
    signal = np.full(TRIMMED_SHAPE, 5000.0, np.float32)
    raw = readout.digitise(signal, np.zeros(TRIMMED_SHAPE, np.float32), 28, rng)
    assert raw.shape == RAW_SHAPE and raw.dtype == np.uint16
    for amplifier in DETECTORS[28].amplifiers:
        data, overscan = raw[amplifier.raw_data.slices].astype(float), raw[amplifier.raw_overscan.slices].astype(float)
        rows = overscan.mean(axis=1, keepdims=True)
        assert (data - rows).mean() == pytest.approx(5000, abs=0.1)
        expected = np.hypot(amplifier.read_noise / amplifier.gain, np.sqrt(1 / 12))
        assert (overscan - rows).std() == pytest.approx(expected * np.sqrt(1 - 1 / 50), rel=0.01)
        assert rows.std() > 0.5  # the level drifts
    assert raw[:50].max() < 4000  # postscan at the bottom of an S detector sees no light


def test_cosmic_rays_are_tracks():
    rays = readout.cosmic_rays(120.0, np.random.default_rng(3), (2048, 1024))
    from scipy.ndimage import label

    _, number = label(rays > 30, np.ones((3, 3)))
    expected = readout.COSMIC_RAYS_A_SECOND * 120 / 4
    assert expected / 2 < number < 2 * expected
    assert (rays >= 0).all() and rays.max() > 1000

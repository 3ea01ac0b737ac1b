"""Instrument signature removal: what was put into a raw array is taken out again."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import Master, correct
from proc_decam_dagster.pixels.mask import BAD, CROSSTALK, SAT, SUSPECT
from proc_decam_dagster.pixels.readout import Readout, readouts

NY, NX = 300, 200
HALF = NX // 2
READOUTS = (
    Readout("A", (HALF, 0, NX, NY), (56 + HALF, 20, 56 + NX, NY + 20), (56 + NX, 20, 106 + NX, NY + 20),
            4.5, 7.2, 40000.0, True),
    Readout("B", (0, 0, HALF, NY), (56, 20, 56 + HALF, NY + 20), (6, 20, 56, NY + 20), 4.0, 6.4, 42000.0, False),
)  # fmt: skip
GAIN = np.where(np.arange(NX) < HALF, 4.0, 4.5)
CROSSTALK_MATRIX = np.array([[0, 5e-3], [-4e-3, 0]])


def make_raw(electrons, bias=0.0, crosstalk=None, noise=True, seed=0):
    """Return the raw array of an image in electrons: bias level, structure, crosstalk, read noise, rounding."""
    rng = np.random.default_rng(seed)
    signal = np.asarray(electrons, float) / GAIN
    if crosstalk is not None:
        mirrored = signal[:, ::-1].copy()
        signal[:, HALF:] += crosstalk[0, 1] * mirrored[:, HALF:]
        signal[:, :HALF] += crosstalk[1, 0] * mirrored[:, :HALF]
    raw = 2000.0 + np.zeros((NY + 20, NX + 112))
    raw[20:, 56 : 56 + NX] += signal + bias
    if noise:
        raw += 1.6 * rng.standard_normal(raw.shape)
    return np.clip(np.rint(raw), 0, 65535).astype(np.uint16)


def test_electrons_bias_and_flat_are_recovered():
    rng = np.random.default_rng(1)
    truth = np.full((NY, NX), 2000.0)
    flat = (1 + 0.05 * rng.standard_normal(truth.shape)).astype(np.float32)
    bias = (5 * rng.standard_normal(truth.shape)).astype(np.float32)
    observed = rng.poisson(truth * flat)
    image = correct(make_raw(observed, bias), READOUTS, bias=Master(bias, 0.0), flat=Master(flat, 0.0))
    assert image.image.mean() == pytest.approx(2000, rel=2e-3)
    pull = (image.image - 2000) / np.sqrt(image.variance)
    assert np.std(pull) == pytest.approx(1, abs=0.02)
    assert not image.mask.any()


def test_crosstalk_is_taken_from_the_pixel_read_at_the_same_time():
    electrons = np.full((NY, NX), 1000.0)
    electrons[100, 20] += 100000.0
    electrons[200, 130] += 100000.0
    raw = make_raw(electrons, crosstalk=CROSSTALK_MATRIX, noise=False)
    without = correct(raw, READOUTS)
    image = correct(raw, READOUTS, crosstalk=CROSSTALK_MATRIX)
    assert without.image[100, NX - 1 - 20] - 1000 == pytest.approx(5e-3 * 100000 / 4.0 * 4.5, rel=0.05)
    # What is left is rounding to whole ADU, and the leak's own leak, a product of two coefficients.
    assert np.abs(image.image - electrons).max() < 5


def test_saturation_is_flagged_from_raw_levels_and_grown():
    electrons = np.full((NY, NX), 1000.0)
    electrons[50:60, 30] = 190000.0
    electrons[150, 150] = 0.95 * 40000 * 4.5 - 2000 * 4.5
    image = correct(make_raw(electrons), READOUTS, crosstalk=CROSSTALK_MATRIX)
    assert (image.mask[49:61, 29:32] & SAT).all()
    assert (image.mask & SAT != 0).sum() == 36
    assert image.mask[150, 150] == SUSPECT
    assert (image.mask[50:60, NX - 1 - 30] & CROSSTALK).all()
    assert (image.mask & CROSSTALK != 0).sum() == 10


def test_pixels_without_valid_flat_are_bad_and_finite():
    flat = np.ones((NY, NX), np.float32)
    flat[10, 10], flat[11, 150], flat[12, 12] = np.nan, 0, -1
    image = correct(make_raw(np.full((NY, NX), 500.0)), READOUTS, flat=Master(flat, 1e-5))
    assert sorted(zip(*np.nonzero(image.mask & BAD))) == [(10, 10), (11, 150), (12, 12)]
    assert np.isfinite(image.image).all()
    assert np.isfinite(image.variance).all()


def test_masters_noise_enters_the_variance():
    raw = make_raw(np.full((NY, NX), 4000.0), noise=False)
    flat = MaskedImage.blank((NY, NX))
    flat.image += 2
    flat.variance += 4e-4
    master = Master.flat(flat)
    assert master.variance == pytest.approx(1e-4)
    plain, noisy = correct(raw, READOUTS), correct(raw, READOUTS, flat=master)
    assert np.median(noisy.variance) == pytest.approx(np.median(plain.variance) / 4 + 1e-4 * 2000**2, rel=0.01)


def test_dead_amplifier_and_wrong_shape():
    raw = make_raw(np.zeros((NY, NX)))
    image = correct(raw, READOUTS, dead=["B"])
    assert (image.mask[:, :HALF] & BAD).all()
    assert not image.mask[:, HALF:].any()
    with pytest.raises(ValueError, match="bias has shape"):
        correct(raw, READOUTS, bias=Master(np.zeros((5, 5), np.float32), 0.0))


def test_header_values_come_before_the_cameras():
    from proc_decam_dagster.camera.detectors import DETECTORS

    a, b = readouts({"GAINA": 4.59, "RDNOISEA": "nan", "SATURATB": 44935.0}, DETECTORS[25])
    camera_a, camera_b = DETECTORS[25].amplifiers
    assert (a.gain, a.read_noise, a.saturation) == (4.59, camera_a.read_noise, camera_a.saturation)
    assert (b.gain, b.saturation) == (camera_b.gain, 44935.0)
    assert a.flip_x != b.flip_x

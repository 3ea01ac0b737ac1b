"""Combination of frames: the noise that theory allows, no bias, no cosmic rays, bounded memory."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.combine import Frame, FrameStack, combine, combine_frames
from proc_decam_dagster.pixels.isr import Master, measure_overscans
from proc_decam_dagster.pixels.readout import Readout

NY, NX, NOISE = 400, 200, 1.6
HALF = NX // 2
READOUTS = (
    Readout("A", (HALF, 0, NX, NY), (56 + HALF, 0, 56 + NX, NY), (56 + NX, 0, 106 + NX, NY), 4.5, 7.2, 4e4, True),
    Readout("B", (0, 0, HALF, NY), (56, 0, 56 + HALF, NY), (6, 0, 56, NY), 4.0, 6.4, 4e4, False),
)
GAIN = np.where(np.arange(NX) < HALF, 4.0, 4.5)
THEORY = np.sqrt(NOISE**2 + 1 / 12)


def zeros(n, truth, hits=100, seed=0):
    """Yield raw zeros with a drifting level and cosmic rays."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        raw = 1900 + rng.normal(0, 20) + np.linspace(0, 3, NY)[:, None] + NOISE * rng.standard_normal((NY, NX + 112))
        raw[:, 56 : 56 + NX] += truth
        raw[rng.integers(0, NY, hits), rng.integers(56, 56 + NX, hits)] += rng.uniform(5, 5000, hits)
        yield np.rint(raw).astype(np.uint16)


def flats(scales, response, seed=0):
    """Yield raw flats of given illumination (electrons)."""
    rng = np.random.default_rng(seed)
    for scale in scales:
        raw = 2000 + NOISE * rng.standard_normal((NY, NX + 112))
        raw[:, 56 : 56 + NX] += rng.poisson(scale * response) / GAIN
        yield np.rint(raw).astype(np.uint16)


def frames(raws, scales=None):
    """Turn raws into frames."""
    for k, raw in enumerate(raws):
        yield Frame(raw, measure_overscans(raw, READOUTS), 1.0 if scales is None else scales[k])


@pytest.mark.parametrize("n", [3, 5, 20])
def test_master_bias_reaches_theory_without_bias(n):
    truth = np.random.default_rng(9).normal(0, 3, (NY, NX))
    combined = combine_frames(frames(zeros(n, truth)), n, READOUTS)
    residual = combined.mean - truth
    expected = THEORY / np.sqrt(n)
    robust = 1.4826 * np.median(np.abs(residual))
    assert robust < 1.03 * expected
    assert np.std(residual) < 1.05 * expected
    assert abs(residual.mean()) < 0.03
    assert np.sqrt(np.median(combined.variance)) == pytest.approx(expected, rel=0.03)
    assert combined.scatter == pytest.approx(1, abs=0.05)


def test_hits_in_two_of_five_frames_are_clipped():
    raws = list(zeros(5, np.zeros((NY, NX)), hits=0))
    raws[1][50, 56 + 20] += 400
    raws[3][50, 56 + 20] += 900
    combined = combine_frames(frames(raws), 5, READOUTS)
    assert abs(combined.mean[50, 20]) < 5 * THEORY / np.sqrt(3)
    assert combined.variance[50, 20] == pytest.approx(THEORY**2 / 3, rel=0.1)


def test_flats_of_different_light_are_weighted_by_it():
    rng = np.random.default_rng(3)
    response = 1 + 0.05 * rng.standard_normal((NY, NX))
    scales = [60000.0, 20000.0, 45000.0, 70000.0, 30000.0, 50000.0]
    raws = list(flats(scales, response))
    raws[2][100:103, 80:90] += 3000
    combined = combine_frames(
        frames(raws, scales), 6, READOUTS, scaled=True, bias=Master(np.zeros((NY, NX), np.float32), 0)
    )
    residual = combined.mean / response - 1
    expected = np.sqrt(np.mean(1 / (sum(scales) * response)) + 6 * (THEORY * 4.25) ** 2 / sum(scales) ** 2)
    assert np.std(residual) < 1.05 * expected
    assert abs(residual.mean()) < 2e-4
    assert np.abs(residual[100:103, 24:34]).max() < 6 * expected
    assert np.sqrt(np.median(combined.variance)) == pytest.approx(expected, rel=0.03)


def test_crosstalk_is_removed_from_flats():
    response = np.ones((NY, NX))
    response[:, :HALF] = np.linspace(0.5, 1.5, HALF)
    matrix = np.array([[0, 0.02], [0, 0]])
    scales = [50000.0] * 5
    raws = []
    for raw in flats(scales, response):
        source = (raw[:, 56 : 56 + HALF].astype(float) - 2000)[:, ::-1]
        leaked = raw.astype(float)
        leaked[:, 56 + HALF : 56 + NX] += 0.02 * source
        raws.append(np.rint(leaked).astype(np.uint16))
    combined = combine_frames(frames(raws, scales), 5, READOUTS, scaled=True, crosstalk=matrix)
    columns = combined.mean[:, HALF:].mean(axis=0)
    assert np.abs(columns - 1).max() < 1e-3


def test_groups_give_the_same_master_in_less_memory():
    truth = np.random.default_rng(9).normal(0, 3, (NY, NX))
    whole = combine_frames(frames(zeros(13, truth)), 13, READOUTS)
    grouped = combine_frames(frames(zeros(13, truth)), 13, READOUTS, group=6)
    residual = grouped.mean - truth
    assert np.std(residual) < 1.05 * THEORY / np.sqrt(13)
    assert np.median(np.abs(grouped.mean - whole.mean)) < 1e-3
    assert np.median(grouped.variance) == pytest.approx(np.median(whole.variance), rel=0.02)


def test_two_frames_are_refused():
    stack = FrameStack(READOUTS)
    for raw in zeros(2, np.zeros((NY, NX))):
        stack.add(raw, measure_overscans(raw, READOUTS))
    with pytest.raises(ValueError, match="at least 3"):
        combine(stack)

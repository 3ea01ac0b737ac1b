"""Health of raw frames, and the choice of those that enter a master."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.isr import measure_overscans
from proc_decam_dagster.pixels.raw_statistics import dead_amplifiers, raw_statistics, select_frames
from proc_decam_dagster.pixels.readout import Readout

NY, HALF = 256, 64
READOUTS = (
    Readout("A", (HALF, 0, 2 * HALF, NY), (120, 0, 184, NY), (184, 0, 234, NY), 4.5, 7.2, 4e4, True),
    Readout("B", (0, 0, HALF, NY), (56, 0, 120, NY), (6, 0, 56, NY), 4.0, 6.4, 4e4, False),
)


def make(signal_a=0.0, signal_b=0.0, noise_b=1.6):
    raw = 2000 + 1.6 * np.random.default_rng(0).standard_normal((NY, 240))
    raw[:, :120] = 2000 + noise_b / 1.6 * (raw[:, :120] - 2000)
    raw[:, 120:184] += signal_a
    raw[:, 56:120] += signal_b
    raw = np.clip(np.rint(raw), 0, 65535).astype(np.uint16)
    return raw_statistics(raw, READOUTS, measure_overscans(raw, READOUTS))


def test_levels_and_noise():
    statistics = make(signal_a=3000, signal_b=50000)
    assert statistics["A"]["signal"] == pytest.approx(3000, abs=1)
    assert statistics["A"]["noise_electrons"] == pytest.approx(7.2, rel=0.05)
    assert statistics["A"]["overscan"] == pytest.approx(2000, abs=0.2)
    assert statistics["A"]["saturated_fraction"] == 0
    assert statistics["B"]["saturated_fraction"] == 1


def test_dead_amplifiers():
    assert dead_amplifiers(make()) == []
    assert dead_amplifiers(make(noise_b=0.0)) == ["B"]
    assert dead_amplifiers(make(signal_a=20000, signal_b=10)) == ["B"]


def test_odd_zeros_are_left_out_with_a_reason():
    frames = {k: make() for k in range(5)}
    frames[5] = make(signal_a=100, signal_b=100)
    frames[6] = make(noise_b=4.0)
    good, rejected = select_frames(frames, zeros=True)
    assert good == [0, 1, 2, 3, 4]
    assert "light" in rejected[5]
    assert "noise" in rejected[6]
    assert select_frames({k: frames[k] for k in (0, 1, 2, 5)}, zeros=False)[1] == {}


def test_an_amplifier_that_is_always_dead_rejects_no_frame():
    good, rejected = select_frames({k: make(noise_b=0.0) for k in range(5)}, zeros=True)
    assert (good, rejected) == ([0, 1, 2, 3, 4], {})

"""From electrons in pixels to the numbers of a raw file: cosmic rays, bleeding, amplifiers, crosstalk, noise."""

import math

import numpy as np
from numba import njit

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE
from proc_decam_dagster.camera.linearity import linearity

COSMIC_RAYS_A_SECOND = 1.8
"""On one CCD: 19 cm² of 250 µm thick silicon at 2,200 m; a third muons, the others electrons of local radioactivity."""
ELECTRONS_A_PIXEL = 1200.0
"""Left by a minimum-ionising particle on 15 µm."""
THICKNESS = 250.0 / 15.0
FULL_WELL = 1.03
"""Charge at which a pixel bleeds, over the header's SATURAT: so that saturated pixels lie above it, noise and all."""
DRIFT_ROWS = 250.0
"""Correlation length of the bias level's drift."""


@njit(cache=True)
def _draw_track(charge, xs, ys, dose, sigma):  # pragma: no cover - compiled
    ny, nx = charge.shape
    for k in range(xs.size):
        cx, cy = int(math.floor(xs[k] + 0.5)), int(math.floor(ys[k] + 0.5))
        norm = 1.0 / (math.sqrt(2.0) * max(sigma[k], 0.05))
        for row in range(max(cy - 2, 0), min(cy + 3, ny)):
            wy = 0.5 * (math.erf((row + 0.5 - ys[k]) * norm) - math.erf((row - 0.5 - ys[k]) * norm))
            for column in range(max(cx - 2, 0), min(cx + 3, nx)):
                wx = 0.5 * (math.erf((column + 0.5 - xs[k]) * norm) - math.erf((column - 0.5 - xs[k]) * norm))
                charge[row, column] += dose[k] * wx * wy


def cosmic_rays(seconds: float, rng, shape: tuple[int, int] = TRIMMED_SHAPE) -> np.ndarray:
    """Return the charge of cosmic rays, electrons: straight muons, curling electrons, spread by diffusion."""
    charge = np.zeros(shape, np.float32)
    area = shape[0] * shape[1] / (TRIMMED_SHAPE[0] * TRIMMED_SHAPE[1])
    for _ in range(rng.poisson(COSMIC_RAYS_A_SECOND * seconds * area)):
        x, y, heading = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.35:
            # Muons: cos² of the zenith angle, through the whole thickness.
            slope = math.tan(math.acos(math.sqrt(rng.uniform(0.005, 1))))
            length = min(THICKNESS * slope, 600.0)
            steps = max(int(length * 2), 4)
            along = np.linspace(0, length, steps)
            xs, ys = x + along * np.cos(heading), y + along * np.sin(heading)
            depth = np.linspace(0, 1, steps)
            total = ELECTRONS_A_PIXEL * math.hypot(THICKNESS, length) * rng.gamma(8, 1 / 8)
        else:
            # Electrons: scattered all the way, denser at the end.
            steps = int(rng.integers(6, 60))
            turns = heading + np.cumsum(rng.normal(0, 0.45, steps))
            xs, ys = x + np.cumsum(0.5 * np.cos(turns)), y + np.cumsum(0.5 * np.sin(turns))
            depth = np.clip(rng.random() + np.cumsum(rng.normal(0, 0.03, steps)), 0, 1)
            total = ELECTRONS_A_PIXEL * 0.5 * steps * rng.gamma(4, 1 / 4)
        dose = rng.gamma(3, 1 / 3, steps)
        _draw_track(charge, xs, ys, total * dose / dose.sum(), 0.45 * np.sqrt(depth) + 0.05)
    return charge


@njit(cache=True)
def _noisy(expected, gauss, poisson_below, seed):  # pragma: no cover - compiled
    np.random.seed(seed)
    ny, nx = expected.shape
    for row in range(ny):
        for column in range(nx):
            value = expected[row, column]
            if value <= 0:
                expected[row, column] = 0
            elif value < poisson_below:
                expected[row, column] = np.random.poisson(value)
            else:
                expected[row, column] = value + math.sqrt(value) * gauss[row, column]


def add_photon_noise(expected: np.ndarray, rng) -> None:
    """Replace expected electrons by Poisson draws, in place; above 40 e- by the Gaussian they approach."""
    if expected.max() > 0:
        _noisy(expected, rng.standard_normal(expected.shape, np.float32), 40.0, int(rng.integers(2**31)))


@njit(cache=True)
def _bleed(charge, full_well, x0, x1):  # pragma: no cover - compiled
    ny = charge.shape[0]
    for column in range(x0, x1):
        row = 0
        while row < ny:
            if charge[row, column] <= full_well:
                row += 1
                continue
            excess, first = 0.0, row
            while row < ny and charge[row, column] > full_well:
                excess += charge[row, column] - full_well
                charge[row, column] = full_well
                row += 1
            # The excess flows to both sides alike, into what room the pixels there have left.
            for direction in range(2):
                share, at = 0.5 * excess, first - 1 if direction == 0 else row
                while share > 0 and 0 <= at < ny:
                    room = max(full_well - charge[at, column], 0.0)
                    taken = min(room, share)
                    charge[at, column] += taken
                    share -= taken
                    at += -1 if direction == 0 else 1


def bleed(charge: np.ndarray, detector: int) -> None:
    """Let charge above the full well flow along its column, in place."""
    for amplifier in known_detector(detector).amplifiers:
        # Twice: a bleed that runs into another saturated star flows on.
        for _ in range(2):
            _bleed(charge, np.float32(full_well(amplifier)), amplifier.bbox.x0, amplifier.bbox.x1)


def full_well(amplifier) -> float:
    """Return the charge at which a pixel bleeds, electrons."""
    return FULL_WELL * amplifier.saturation * amplifier.gain


def add_crosstalk(signals: dict[int, np.ndarray]) -> None:
    """Add to every amplifier what the others leak into it, in place.

    Parameters
    ----------
    signals : `dict` [`int`, `numpy.ndarray`]
        Signal above bias in ADU of every CCD that is simulated, trimmed; leaks from other CCDs are not.
    """
    # All leaks are taken from the signals as they were, so that none is leaked again.
    leaks = []
    for victim_id in signals:
        for row in sources(victim_id):
            if row.source not in signals:
                continue
            victim = known_detector(victim_id).amplifier(row.victim_amplifier)
            source = known_detector(row.source).amplifier(row.source_amplifier)
            block = signals[row.source][source.bbox.slices]
            # Pixels that are read at the same time belong together.
            if victim.flip_y != source.flip_y:
                block = block[::-1]
            if victim.flip_x != source.flip_x:
                block = block[:, ::-1]
            leaks.append((victim_id, victim.bbox.slices, row.leak(block).astype(np.float32)))
    for victim_id, where, leak in leaks:
        signals[victim_id][where] += leak


def bend(signal: np.ndarray, detector: int) -> None:
    """Replace a signal proportional to the light by what the amplifiers make of it, ADU, in place."""
    for amplifier in known_detector(detector).amplifiers:
        known = linearity(detector).get(amplifier.name)
        if known is not None:
            # Beyond the table the correction keeps its last value; below 0 there is none.
            reach = np.append(known.adu, 1e6)
            light = reach + np.append(known.correction, known.correction[-1])
            part = signal[amplifier.bbox.slices]
            np.copyto(part, np.interp(part, light, reach), where=part > 0, casting="same_kind")


def to_adu(charge: np.ndarray, detector: int) -> np.ndarray:
    """Return the signal in ADU of a CCD's electrons, each amplifier with its gain."""
    signal = np.empty_like(charge)
    for amplifier in known_detector(detector).amplifiers:
        signal[amplifier.bbox.slices] = charge[amplifier.bbox.slices] / np.float32(amplifier.gain)
    return signal


def digitise(signal: np.ndarray, bias: np.ndarray, detector: int, rng) -> np.ndarray:
    """Return the raw array (4146, 2160) of uint16: bias level and structure, overscan, signal, read noise.

    Parameters
    ----------
    signal, bias : `numpy.ndarray`, (4096, 2048), float32
        Signal above bias, and bias structure, ADU.
    detector : `int`
    rng : `numpy.random.Generator`
    """
    raw = rng.standard_normal(RAW_SHAPE, np.float32)
    for amplifier in known_detector(detector).amplifiers:
        left = amplifier.bbox.x0 == 0
        half = (slice(None), slice(0, RAW_SHAPE[1] // 2) if left else slice(RAW_SHAPE[1] // 2, None))
        raw[half] *= np.float32(amplifier.read_noise / amplifier.gain)
        level = rng.uniform(1500, 2800) + _drift(rng)
        raw[half] += level[:, None].astype(np.float32)
        raw[amplifier.raw_data.slices] += signal[amplifier.bbox.slices] + bias[amplifier.bbox.slices]
    np.rint(raw, out=raw)
    np.clip(raw, 0, 65535, out=raw)
    return raw.astype(np.uint16)


def _drift(rng) -> np.ndarray:
    """Return the drift of the bias level over the rows, ADU: a slow random walk that returns to zero."""
    knots = rng.normal(0, 1.2, int(RAW_SHAPE[0] / DRIFT_ROWS) + 3)
    position = np.arange(RAW_SHAPE[0]) / DRIFT_ROWS
    whole = position.astype(int)
    part = 0.5 - 0.5 * np.cos(np.pi * (position - whole))
    return knots[whole] * (1 - part) + knots[whole + 1] * part

"""Whole CCDs with linearity, gain and crosstalk as measured: light comes out as it went in, and a wrong sign is caught.

The simulation bends, leaks and digitises by its own code; each test's figure is computed with the right calibration,
where it must keep its bound, and with a wrong one, where it must not.
"""

from dataclasses import replace

import numpy as np
import pytest

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.pixels.combine import Frame, combine_frames
from proc_decam_dagster.pixels.crosstalk import bright_pixels, remove_leaks
from proc_decam_dagster.pixels.isr import correct, measure_overscans
from proc_decam_dagster.pixels.linearity import correction_table
from proc_decam_dagster.pixels.readout import readouts
from proc_decam_dagster.simulation import readout as simulation
from proc_decam_dagster.tasks.curated import crosstalk_matrix, crosstalk_of_others

VICTIM, SOURCE = 29, 28
"""CCD 28's amplifier B leaks 1.2e-4 of its signal into CCD 29's A."""


class Pair:
    """Two neighbouring CCDs: a ramp of light from 0 to 160,000 electrons in blocks, on a sky of 2,000."""

    def __init__(self):
        rng = np.random.default_rng(8)
        self.light, signals = {}, {}
        for number in (VICTIM, SOURCE):
            light = np.full(TRIMMED_SHAPE, 2000.0, np.float32)
            # Blocks of one level: all levels on either amplifier, at other places on either CCD.
            offset = 0 if number == VICTIM else 60
            for k, level in enumerate(np.linspace(2000, 155_000, 40)):
                for x in (200, 1500):
                    y = 100 * k + 10 + offset
                    light[y : y + 30, x + offset : x + offset + 40] = level
            self.light[number] = light
            charge = light.copy()
            simulation.add_photon_noise(charge, rng)
            signals[number] = simulation.to_adu(charge, number)
            simulation.bend(signals[number], number)
        simulation.add_crosstalk(signals)
        zero = np.zeros(TRIMMED_SHAPE, np.float32)
        self.raws = {number: simulation.digitise(signal, zero, number, rng) for number, signal in signals.items()}
        self.readouts = {number: readouts({}, DETECTORS[number]) for number in self.raws}
        self.overscans = {n: measure_overscans(raw, self.readouts[n]) for n, raw in self.raws.items()}

    def corrected(self, *, parts=None, linear=1.0, leak=1.0, others=1.0):
        """Return the victim's image with factors on the calibrations, 1 where they are right."""
        parts = parts or self.readouts[VICTIM]
        known = linearity(VICTIM).items()
        tables = {name: correction_table(each.adu, linear * each.correction) for name, each in known}
        table = {"detector": VICTIM, "sources": [list(row) for row in sources(VICTIM)]}
        matrix = crosstalk_matrix(table)
        matrix[..., [0, 2, 3, 4]] *= leak
        image = correct(self.raws[VICTIM], parts, crosstalk=matrix, linearity=tables)
        bright = {
            (SOURCE, part.name): bright_pixels(self.raws[SOURCE], part, overscan)
            for part, overscan in zip(self.readouts[SOURCE], self.overscans[SOURCE])
        }
        leaks = [(v, s, a, [others * t if i != 1 else t for i, t in enumerate(terms)])
                 for v, s, a, terms in crosstalk_of_others(table)]  # fmt: skip
        remove_leaks(image, parts, leaks, bright)
        return image.image


@pytest.fixture(scope="module")
def pair():
    return Pair()


def worst_linearity(pair, image) -> float:
    """Return the largest relative error of the blocks between 30,000 and 150,000 electrons."""
    light = pair.light[VICTIM]
    levels = [level for level in np.unique(light) if 30_000 < level < 150_000]
    return max(abs(image[light == level].mean() / level - 1) for level in levels)


def amplifier_step(pair, image) -> float:
    """Return the relative difference of the sky on the two amplifiers."""
    sky = pair.light[VICTIM] == 2000
    left, right = (np.median(image[:, part][sky[:, part]]) for part in (np.s_[:1024], np.s_[1024:]))
    return abs(left / right - 1)


def leaked(pair, image, source) -> float:
    """Return the largest mean excess (electrons) of an amplifier's sky where what leaks into it had 80,000 or more."""
    bright = pair.light[source] > 80_000
    # A CCD's own other amplifier is mirrored in it, as is CCD 28's B in CCD 29's A; see the simulation's own test.
    mirrored = bright[:, ::-1]
    where = mirrored & (pair.light[VICTIM] == 2000)
    if source == SOURCE:
        where[:, : TRIMMED_SHAPE[1] // 2] = False
    excess = []
    for part in (np.s_[:, : TRIMMED_SHAPE[1] // 2], np.s_[:, TRIMMED_SHAPE[1] // 2 :]):
        if where[part].any():
            excess.append(abs(image[part][where[part]].mean() - np.median(image[part])))
    return float(max(excess))


def test_light_is_recovered_in_proportion_and_a_wrong_linearizer_is_caught(pair):
    assert worst_linearity(pair, pair.corrected()) < 1e-3
    assert worst_linearity(pair, pair.corrected(linear=0.0)) > 5e-3
    assert worst_linearity(pair, pair.corrected(linear=-1.0)) > 1e-2


def test_amplifiers_agree_and_a_wrong_gain_is_caught(pair):
    assert amplifier_step(pair, pair.corrected()) < 1e-3
    a, b = pair.readouts[VICTIM]
    assert amplifier_step(pair, pair.corrected(parts=(replace(a, gain=b.gain), replace(b, gain=a.gain)))) > 3e-3


def test_leaks_within_a_ccd_are_removed_and_a_wrong_sign_is_caught(pair):
    assert leaked(pair, pair.corrected(), VICTIM) < 1.5
    assert leaked(pair, pair.corrected(leak=0.0), VICTIM) > 10
    assert leaked(pair, pair.corrected(leak=-1.0), VICTIM) > 20


def test_leaks_between_ccds_are_removed_and_a_wrong_sign_is_caught(pair):
    assert leaked(pair, pair.corrected(), SOURCE) < 1.5
    assert leaked(pair, pair.corrected(others=0.0), SOURCE) > 8
    assert leaked(pair, pair.corrected(others=-1.0), SOURCE) > 16


def test_flats_are_combined_in_proportion_to_the_light():
    """Flats of 10,000 to 100,000 electrons: each over its illumination is the same, once it is linear."""
    number, scales = VICTIM, np.linspace(10_000, 100_000, 7)
    rng = np.random.default_rng(3)
    parts = readouts({}, DETECTORS[number])
    tables = {name: correction_table(*each) for name, each in linearity(number).items()}
    zero = np.zeros(TRIMMED_SHAPE, np.float32)
    raws = []
    for scale in scales:
        charge = np.full(TRIMMED_SHAPE, scale, np.float32)
        simulation.add_photon_noise(charge, rng)
        signal = {number: simulation.to_adu(charge, number)}
        simulation.bend(signal[number], number)
        simulation.add_crosstalk(signal)
        raws.append(simulation.digitise(signal[number], zero, number, rng))

    def master(**options):
        frames = (Frame(raw, measure_overscans(raw, parts), scale) for raw, scale in zip(raws, scales))
        matrix = crosstalk_matrix({"detector": number, "sources": [list(row) for row in sources(number)]})
        return combine_frames(frames, len(raws), parts, scaled=True, systematic=0.002, crosstalk=matrix, **options)

    combined = master(linearity=tables)
    theory = np.sqrt(1 / scales.sum())
    assert combined.mean.mean() == pytest.approx(1, abs=2e-4)
    assert combined.mean.std() < 1.05 * theory
    assert combined.scatter == pytest.approx(1, abs=0.03)
    assert abs(master().mean.mean() - 1) > 5e-3

"""Figures of detrending against truth: masters, linearity, crosstalk, cosmic rays, trails, the sky near galaxies."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from ccd_scene import scene
from science_timing import cpu_of, figure, mad

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.pixels import background
from proc_decam_dagster.pixels.cosmic_rays import find_cosmic_rays, repair
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import correct
from proc_decam_dagster.pixels.linearity import correction_table
from proc_decam_dagster.pixels.mask import SAT, STREAK
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.readout import readouts
from proc_decam_dagster.pixels.trails import find_trails
from proc_decam_dagster.simulation import optics, readout, rendering
from proc_decam_dagster.simulation.ccd import ccd

SEEING = (2.5, 2.7, 3.0, 4.2, 5.5)
"""FWHM in pixels before these integrate it; 2.7 is 0.71 arcsec."""

GALAXIES = {"16 arcsec exponential": (3e6, 60.0, False), "21 arcsec de Vaucouleurs": (1e7, 80.0, True),
            "66 arcsec exponential": (3e7, 250.0, False)}  # fmt: skip
"""Electrons, half-light radius in pixels, bulge."""


def figures(sample, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield all figures; ``sample`` is the benchmark's survey of one CCD."""
    yield from _masters(sample)
    yield from _linearity()
    say("masters and linearity compared with the truth")
    yield from _cosmic_rays()
    yield from _trails()
    say("cosmic rays and trails compared with the truth")
    yield from _background()
    yield from _uncorrected()


def _masters(sample) -> Iterator[dict[str, Any]]:
    pattern = ccd(sample.plan.seed, sample.detector, sample.plan.band)
    zeros, flats = sample.expnums("zero", "template"), sample.expnums("dome flat", "template")
    noise = np.empty(TRIMMED_SHAPE, np.float32)
    for amplifier in DETECTORS[sample.detector].amplifiers:
        noise[amplifier.bbox.slices] = np.hypot(amplifier.read_noise / amplifier.gain, np.sqrt(1 / 12))
    residual = (sample.bias.image - pattern.bias) / (noise / np.sqrt(len(zeros)))
    yield figure(f"master bias of {len(zeros)}, residual over theory", mad(residual), "", 1.05)
    electrons = sum(e.lamp_e for e in sample.exposures if e.expnum in flats) * pattern.flat
    good = (sample.flat.mask == 0) & (pattern.flat > 0.5) & (pattern.hot == 0)
    ratio = (sample.flat.image / np.where(pattern.flat > 0, pattern.flat, 1))[good]
    theory = 1 / np.sqrt(np.median(electrons[good]))
    yield figure(f"master flat of {len(flats)}, residual over theory", mad(ratio / np.median(ratio)) / theory, "", 1.05)
    yield figure("master flat, error of its level", 100 * abs(np.median(ratio) - 1), "%", 0.1)


def _linearity(number: int = 29) -> Iterator[dict[str, Any]]:
    """Blocks of 2,000 to 150,000 electrons, bent by the amplifiers as published, and made straight again."""
    rng = np.random.default_rng(8)
    levels = np.linspace(2000, 150_000, 64)
    light = np.repeat(levels, TRIMMED_SHAPE[0] // len(levels)).astype(np.float32)[:, None] * np.ones(
        (1, TRIMMED_SHAPE[1]), np.float32
    )
    charge = light.copy()
    readout.add_photon_noise(charge, rng)
    signal = readout.to_adu(charge, number)
    readout.bend(signal, number)
    raw = readout.digitise(signal, np.zeros(TRIMMED_SHAPE, np.float32), number, rng)
    parts = readouts({}, DETECTORS[number])
    tables = {name: correction_table(*each) for name, each in linearity(number).items()}

    def worst(image: np.ndarray) -> float:
        rows = image.reshape(len(levels), -1, TRIMMED_SHAPE[1])
        return 100 * max(abs(rows[:, :, half].mean((1, 2)) / levels - 1).max() for half in (np.s_[:1024], np.s_[1024:]))

    seconds, image = cpu_of(lambda: correct(raw, parts, linearity=tables), 3)
    crooked = correct(raw, parts)
    yield figure("linearity, worst error over 2,000 to 150,000 electrons", worst(image.image), "%", 0.1)
    yield figure("linearity, the same without correction", worst(crooked.image), "%")
    yield figure("overscan, gain and linearity of a CCD, CPU", seconds, "s", 0.06)


def _cosmic_rays() -> Iterator[dict[str, Any]]:
    for fwhm in SEEING:
        truth = scene(7, fwhm=fwhm)
        image = truth.image
        hit = find_cosmic_rays(image.image, image.variance, image.mask)
        usable = (image.mask & SAT) == 0
        away = hit & ~binary_dilation(truth.rays > 1, iterations=2)
        where = f"at {fwhm} pixels FWHM"
        significant = (truth.rays > 3 * truth.noise) & usable
        yield figure(f"cosmic-ray pixels found {where}", 100 * hit[significant].mean(), "%", 95.0, at_least=True)
        yield figure(f"false cosmic-ray pixels a CCD {where}", away.sum(), "", 50)
        cores = np.zeros(hit.shape, bool)
        x, y = np.rint(truth.x).astype(int), np.rint(truth.y).astype(int)
        on = (x >= 0) & (x < hit.shape[1]) & (y >= 0) & (y < hit.shape[0])
        cores[y[on], x[on]] = True
        cores = binary_dilation(cores, np.ones((3, 3))) & (truth.sources > 5 * truth.noise)
        yield figure(f"pixels of star cores taken for cosmic rays {where}", (away & cores).sum(), "", 0)


def _trails() -> Iterator[dict[str, Any]]:
    v, u = np.mgrid[: TRIMMED_SHAPE[0], : TRIMMED_SHAPE[1]].astype(np.float32)
    rng = np.random.default_rng(2)
    sky_noise = np.sqrt(2000 + 49)
    for peak in (0.5, 1.0, 5.0):
        found, covered = 0, []
        for seed in range(4):
            angle, x, y = rng.uniform(0, np.pi), rng.uniform(400, 1650), rng.uniform(800, 3300)
            distance = (u - x) * -np.sin(angle) + (v - y) * np.cos(angle)
            light = (peak * sky_noise * np.exp(-0.5 * (distance / 2.5) ** 2)).astype(np.float32)
            image = scene(30 + seed, extra=light).image
            repair(image)
            found += bool(find_trails(image))
            covered.append(((image.mask & STREAK) != 0)[light > 0.3 * sky_noise].mean())
        name = f"trails of {peak:g} times the sky noise a pixel"
        yield figure(f"{name}, found of 4", found, "", 4 if peak >= 1 else None, at_least=True)
        yield figure(
            f"{name}, pixels masked", 100 * float(np.mean(covered)), "%", 99 if peak >= 1 else None, at_least=True
        )
    false = 0
    for seed in range(4):
        image = scene(60 + seed, number=4000, gradient=0.06).image
        repair(image)
        false += len(find_trails(image))
    yield figure("false trails on 4 clean CCDs", false, "", 0)
    yield figure("search for trails, CPU of a CCD", cpu_of(lambda: find_trails(image), 3)[0], "s")


def _background() -> Iterator[dict[str, Any]]:
    x, y, psf = np.array([1000.0]), np.array([2000.0]), optics.PsfField(4.2, 3.8)
    for name, (flux, radius, bulge) in GALAXIES.items():
        light = np.zeros(TRIMMED_SHAPE, np.float32)
        shape = (np.array([radius]), np.array([0.7]), np.array([0.5]), np.array([bulge]))
        rendering.draw_galaxies(light, x, y, np.array([flux]), *shape, psf)
        yield _sky_error(f"a galaxy of {name}", light)
    light = np.zeros(TRIMMED_SHAPE, np.float32)
    rendering.draw_stars(light, x, y, np.array([5e8]), psf)
    yield _sky_error("a star of 5e8 electrons", light)
    truth = scene(11)
    yield figure("background of a CCD, CPU", cpu_of(lambda: background.subtract(truth.image.copy()), 3)[0], "s")


def _sky_error(name: str, light: np.ndarray) -> dict[str, Any]:
    truth = scene(11, extra=light)
    error = background.subtract(truth.image).image / truth.sky - 1
    return figure(f"sky near {name}, largest error", 100 * float(np.abs(error).max()), "%", 1.0)


def _star(fwhm: float, size: int = 61, flux: float = 1.0) -> np.ndarray:
    """Return a noiseless star in the middle of an image, (size, size)."""
    light = np.zeros((size, size), np.float32)
    middle = np.array([size // 2], float)
    rendering.draw_stars(light, middle, middle, np.array([flux]), optics.PsfField(fwhm, 3.8))
    return light


def _uncorrected(fwhm: float = 4.2) -> Iterator[dict[str, Any]]:
    """Yield what is not corrected by default costs: fringes, illumination, brighter-fatter."""
    star = _star(fwhm)
    psf = PsfModel((star / star.sum())[None].astype(np.float64), 0, TRIMMED_SHAPE)
    smooth = gaussian_filter(np.random.default_rng(0).standard_normal(TRIMMED_SHAPE).astype(np.float32), 24)
    fringes = np.sin(3 * smooth / smooth.std())
    x, y = np.random.default_rng(1).uniform(40, np.array(TRIMMED_SHAPE[::-1])[:, None] - 40, (2, 4000))

    def measured(amplitude: float):
        image = scene(11, extra=2000 * amplitude * fringes).image
        background.subtract(image)
        return psf_fluxes(image, x, y, psf)

    without = measured(0.0)
    for amplitude in (0.005, 0.02):
        moved = (measured(amplitude).flux - without.flux) / without.flux_err
        rms = moved[np.abs(moved) < 10].std()  # without the stars, whose own noise differs
        yield figure(f"fringes of {100 * amplitude:g} % of the sky, not removed: PSF fluxes move, rms over errors", rms)
    slope = 1 + 0.01 * (x / TRIMMED_SHAPE[1] - 0.5)
    yield figure(
        "illumination with a slope of 1 %, not corrected: scatter of stars", 2.5e3 * np.log10(slope).std(), "mmag"
    )
    for percent in (0.5, 1.0, 2.0):
        wide = _star(fwhm * (1 + percent / 100), flux=1e5)
        image = MaskedImage(wide, np.full_like(wide, 2000), np.zeros(wide.shape, np.int32))
        fitted = psf_fluxes(image, [wide.shape[1] // 2], [wide.shape[0] // 2], psf).flux[0]
        yield figure(
            f"star {percent:g} % wider than the PSF (brighter-fatter): its PSF flux", 100 * (fitted / 1e5 - 1), "%"
        )

"""Figures of PSF, astrometry, photometry, light curves and tracklets against truth, on whole simulated CCDs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "pixels"))

from ccd_scene import scene
from science_timing import cpu_of, figure, within
from sky_scene import observe, star_field, tan_wcs
from test_tracklets import night

from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.pixels import background
from proc_decam_dagster.pixels.calibrate import CalibrationSettings, find_psf
from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.cosmic_rays import repair
from proc_decam_dagster.pixels.difference import subtract
from proc_decam_dagster.pixels.forced import forced_differences
from proc_decam_dagster.pixels.measurement import (
    clean,
    detect_sources,
    estimate_fwhm,
    measure_fluxes,
    tie_to_apertures,
)
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.tracklets import link_tracklets
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.simulation import optics

SEEING = (2.5, 3.0, 3.6, 4.2, 4.8, 5.5)
"""FWHM in pixels before these integrate it."""

MMAG = 1085.7
"""Of a relative change of flux."""


def figures(sample, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield all figures; ``sample`` is the benchmark's survey of one CCD."""
    yield from _psf()
    say("PSF compared with the truth")
    yield from _visits(sample)
    say("WCS and zero points compared with the truth")
    yield from _light_curves()
    yield from _tracklets()
    say("light curves and tracklets compared with the truth")


def _psf() -> Iterator[dict[str, Any]]:
    worst, shapes, totals = [], [], []
    for seed, fwhm in enumerate(SEEING, start=1):
        truth = scene(seed, fwhm=fwhm)
        # The scene draws its PSF's variation from the first numbers of its seed.
        psf = optics.PsfField(fwhm, 3.8, tuple(np.random.default_rng(seed).uniform(0, 1, 8)))
        image = truth.image
        repair(image)
        found = background.subtract(image).found
        width = estimate_fwhm(image, found)
        sources = detect_sources(image, width)
        fit = find_psf(image, sources, width, CalibrationSettings())
        measure_fluxes(image, sources, fit.fwhm)
        tie_to_apertures(image, sources)
        for x in (150, 600, 1024, 1450, 1900):
            for y in (150, 800, 1450, 2048, 2650, 3300, 3950):
                true = PsfModel(psf.stamp(x, y, image.psf.size // 2)[None], 0, TRIMMED_SHAPE)
                worst.append(100 * (image.psf.fwhm(x, y) / true.fwhm(x, y) - 1))
                shapes.append(np.subtract(image.psf.ellipticity(x, y), true.ellipticity(x, y)))
        distance, nearest = cKDTree(np.stack([truth.x, truth.y], 1)).query(np.stack([sources["x"], sources["y"]], 1))
        good = clean(sources) & np.asarray(sources["star"]) & (distance < 0.7) & (truth.flux[nearest] > 5e4)
        ratio = np.asarray(sources["psf_flux_e"])[good] / truth.flux[nearest][good]
        totals.append(MMAG * (np.median(ratio) - 1))
    where = f"{len(SEEING)} CCDs, {SEEING[0]} to {SEEING[-1]} pixels"
    yield figure(f"PSF, error of the FWHM, rms over {where}", np.sqrt(np.mean(np.square(worst))), "%", 1.0)
    within_one = 100 * np.mean(np.abs(worst) < 1)
    yield figure("PSF, places of 35 on each whose FWHM is within 1 %", within_one, "%", 99.0, at_least=True)
    yield figure("PSF, error of the FWHM, largest of all places", np.abs(worst).max(), "%", 1.0)
    yield figure("PSF, ellipticity residual, rms", np.sqrt(np.mean(np.square(shapes))), "", 0.005)
    yield figure("total flux of stars, largest median error of a CCD", np.abs(totals).max(), "mmag", 3.0)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(30, TRIMMED_SHAPE[1] - 30, 5000), rng.uniform(30, TRIMMED_SHAPE[0] - 30, 5000)
    yield figure("PSF photometry of 5,000 sources, CPU", cpu_of(lambda: psf_fluxes(image, x, y), 5)[0], "s", 0.1)


def _visits(sample) -> Iterator[dict[str, Any]]:
    zero, seeing, systematic, scatter = [], [], [], []
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(20, 2027, 12), np.linspace(20, 4075, 24)))
    for number in sample.expnums("object"):
        visit = sample.visit(number)
        zero.append(1e3 * (visit.exposure.metadata["zero_point"] - visit.truth.zero_point))
        seeing.append(visit.truth.seeing)
        ra, dec = visit.exposure.wcs.all_pix2world(x, y, 0)
        true_ra, true_dec = sample.true_wcs(number).all_pix2world(x, y, 0)
        error = 3.6e6 * np.stack([(ra - true_ra) * np.cos(np.deg2rad(true_dec)), dec - true_dec])
        systematic.append(np.abs(error.mean(1)).max())
        scatter.append(np.sqrt((error**2).mean()))
    where = f"{len(zero)} visits"
    yield figure(f"WCS against truth, rms over the CCD, worst of {where}", max(scatter), "mas", 5.0)
    yield figure(f"WCS against truth, mean over the CCD, worst of {where}", max(systematic), "mas", 5.0)
    yield figure(f"zero point against truth, rms of {where}", np.sqrt(np.mean(np.square(zero))), "mmag", 3.0)
    yield within(f"zero point against truth, mean of {where}", np.mean(zero), -3.0, 3.0, "mmag")
    slope = np.polyfit(seeing, zero, 1)[0] * np.ptp(seeing)
    yield within("zero point, change from best to worst seeing", slope, -3.0, 3.0, "mmag")


def _light_curves(epochs: int = 8, side: int = 1500) -> Iterator[dict[str, Any]]:
    """Constant stars on differences from a template of eight: fluxes over their errors."""
    shape = (side, side)
    field = star_field(shape, 800, seed=21, faint=3e3, bright=1e6)
    warps = []
    for k in range(8):
        wcs = tan_wcs((side + 150, side + 150), 150 + 2e-4 * k, 2 - 1e-4 * k, rotation=90 + k)
        epoch = observe((side + 150, side + 150), wcs, *field, fwhm=3.7 + 0.08 * k, seed=70 + k)
        warps.append(warp([epoch], tan_wcs((side + 100, side + 100)), (side + 100, side + 100)))
    template = coadd(warps, 8, (side + 100, side + 100))[0]
    wcs = tan_wcs(shape, rotation=91.0, flip=False)
    x, y = wcs.all_world2pix(field[0], field[1], 0)
    snr = field[2] / 4 / np.sqrt(600 * 40 + field[2] / 4)
    on = (np.minimum(x, y) > 40) & (np.maximum(x, y) < side - 40) & (snr < 100)
    fluxes, errors, own = [], [], []
    old = warp([template], wcs, shape, repair=False)
    for k in range(epochs):
        new = observe(shape, wcs, *field, fwhm=3.6 + 0.25 * k, seed=170 + k)
        made = forced_differences(subtract(new, old, x, y, snr), x[on], y[on])
        for values, name in ((fluxes, "flux"), (errors, "flux_err"), (own, "flux_err_epoch")):
            values.append(np.asarray(made[name]))
    fluxes, errors, own = np.array(fluxes), np.array(errors), np.array(own)
    name = f"forced light curves of {on.sum()} constant stars, {epochs} epochs, chi2/N"
    yield within(f"{name} about no change", np.nanmean((fluxes / errors) ** 2), 0.95, 1.05)
    mean = np.nansum(fluxes / own**2, 0) / np.nansum(1 / own**2, 0)
    spread = np.nansum(((fluxes - mean) / own) ** 2, 0) / (np.isfinite(fluxes).sum(0) - 1)
    yield within(f"{name} about each star's mean, errors without the template's share", np.nanmean(spread), 0.95, 1.05)


def _tracklets(nights: int = 40) -> Iterator[dict[str, Any]]:
    movers = linked = wrong = false = 0
    for seed in range(nights):
        sources, *_ = night(np.random.default_rng(1000 + seed))
        tracklets, members = link_tracklets(sources)
        names = [set(sources["mover"][members == i]) for i in tracklets["trackletId"]]
        pure = {next(iter(each)) for each in names if len(each) == 1 and each != {0}}
        movers, linked, wrong = movers + 40, linked + len(pure), wrong + len(names) - len(pure)
        empty, *_ = night(np.random.default_rng(2000 + seed), movers=0)
        false += len(link_tracklets(empty)[0])
    yield figure("movers of 2 to 55 arcsec/h seen in 4 visits, linked", 100 * linked / movers, "%", 95.0, at_least=True)
    yield figure("false or mixed tracklets a night among them", wrong / nights, "", 0.5)
    yield figure("false tracklets a night without movers", false / nights, "", 0.1)

"""PSF and total fluxes over a whole simulated CCD: as good as the benchmark promises."""

import numpy as np
import pytest
from ccd_scene import scene
from scipy.spatial import cKDTree

from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.pixels import background
from proc_decam_dagster.pixels.calibrate import CalibrationSettings, find_psf
from proc_decam_dagster.pixels.cosmic_rays import repair
from proc_decam_dagster.pixels.measurement import (
    clean,
    detect_sources,
    estimate_fwhm,
    measure_fluxes,
    tie_to_apertures,
)
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.simulation import optics

CASES = [
    (2, 4.2),
    *(pytest.param(*each, marks=pytest.mark.full) for each in ((1, 2.5), (6, 3.0), (3, 5.4), (207, 5.5))),
]
"""Seeds, and seeing in pixels before these integrate it."""


@pytest.mark.parametrize(("seed", "fwhm"), CASES)
def test_shape_and_total_light_over_a_ccd(seed, fwhm):
    truth = scene(seed, fwhm=fwhm)
    # The scene draws its PSF's variation from the first numbers of its seed.
    psf = optics.PsfField(fwhm, 3.8, tuple(np.random.default_rng(seed).uniform(0, 1, 8)))
    image = truth.image
    repair(image)
    width = estimate_fwhm(image, background.subtract(image).found)
    sources = detect_sources(image, width)
    fit = find_psf(image, sources, width, CalibrationSettings())
    measure_fluxes(image, sources, fit.fwhm)
    assert tie_to_apertures(image, sources) == pytest.approx(1, abs=0.006)

    sizes, shapes = [], []
    for x in (150, 1024, 1900):
        for y in (150, 1450, 2650, 3950):
            true = PsfModel(psf.stamp(x, y, image.psf.size // 2)[None], 0, TRIMMED_SHAPE)
            sizes.append(image.psf.fwhm(x, y) / true.fwhm(x, y) - 1)
            shapes.append(np.subtract(image.psf.ellipticity(x, y), true.ellipticity(x, y)))
    assert np.abs(sizes).max() < 0.01
    assert np.sqrt(np.mean(np.square(shapes))) < 0.005

    distance, nearest = cKDTree(np.stack([truth.x, truth.y], 1)).query(np.stack([sources["x"], sources["y"]], 1))
    good = clean(sources) & np.asarray(sources["star"]) & (distance < 0.7) & (truth.flux[nearest] > 5e4)
    ratio = np.asarray(sources["psf_flux_e"])[good] / truth.flux[nearest][good]
    assert good.sum() > 80
    assert np.median(ratio) == pytest.approx(1, abs=0.003)

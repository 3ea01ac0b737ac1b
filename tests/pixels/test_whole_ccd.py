"""Coadds and differences of whole CCDs against the truth, with the bounds that the engine promises."""

from dataclasses import dataclass

import numpy as np
import pytest
import sep
from ccd_scene import stars
from difference_truth import BINS, Tally, measure, scatter
from scipy.spatial import cKDTree
from sky_scene import tan_wcs

from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import SAT
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.psf_transform import fit_psf_model
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.simulation.optics import PsfField
from proc_decam_dagster.simulation.rendering import draw_stars

PATCH = (4200, 2150)
SKY, READ_NOISE, FULL = 2000.0, 7.0, 150_000.0
TEMPLATES = (3.5, 3.9, 4.3, 4.7)
"""FWHM of the epochs of the template, pixels before these integrate it."""
SHARPER, BROADER = 2.9, 5.4
ALL_SEEINGS = (2.7, SHARPER, 3.2, 3.6, 3.9, 4.2, 4.6, 5.0, BROADER, 5.9)
STAR = 1e6
"""Electrons of the noiseless stars that show a coadd's true PSF."""


@dataclass
class Epoch:
    """An exposure of the field: the image, its true PSF, and x, y and electrons of the stars."""

    image: MaskedImage
    psf: PsfField
    x: np.ndarray
    y: np.ndarray
    electrons: np.ndarray


@pytest.fixture(scope="module")
def field():
    """RA, Dec (deg) and flux (nJy) of stars over a little more than a CCD."""
    x, y, flux = stars(np.random.default_rng(17), 2800, shape=(4400, 2300))
    ra, dec = tan_wcs((4400, 2300)).all_pix2world(x, y, 0)
    return ra, dec, 4 * flux


def epoch(field, fwhm, seed) -> Epoch:
    """Take the field: pointing, rotation, zero point, sky and the PSF's variation are those of the seed."""
    rng = np.random.default_rng([5, seed])
    psf = PsfField(fwhm, 3.8, tuple(rng.uniform(0, 1, 8)))
    ra, dec = rng.uniform(-8, 8, 2) / 3600
    wcs = tan_wcs(TRIMMED_SHAPE, 150 + ra, 2 + dec, rotation=rng.uniform(-0.3, 0.3))
    scale, sky = 4 * rng.uniform(0.9, 1.2), SKY * rng.uniform(0.8, 1.3)
    x, y = wcs.all_world2pix(field[0], field[1], 0)
    electrons = field[2] / scale
    light = np.zeros(TRIMMED_SHAPE, np.float32)
    draw_stars(light, x, y, electrons, psf)
    variance = light + np.float32(sky + READ_NOISE**2)
    pixels = light + rng.standard_normal(light.shape, np.float32) * np.sqrt(variance)
    full = pixels > FULL
    full[:, 1:-1] |= full[:, 2:] | full[:, :-2]
    full[1:-1] |= full[2:] | full[:-2]
    places = np.array([(a, b) for a in np.linspace(50, 2000, 5) for b in np.linspace(50, 4050, 7)])
    half = min(int(np.ceil(3.5 * psf.pixel_fwhm())), 24)
    model = fit_psf_model(places, [psf.stamp(*place, half) for place in places], TRIMMED_SHAPE)
    image = MaskedImage(np.minimum(pixels, np.float32(FULL)), variance, np.where(full, SAT, 0).astype(np.int32),
                        wcs, model, scale)  # fmt: skip
    return Epoch(image, psf, x, y, electrons)


@pytest.fixture(scope="module")
def patch():
    """The WCS of the coadd's patch."""
    return tan_wcs(PATCH)


@pytest.fixture(scope="module")
def epochs(field):
    return [epoch(field, fwhm, seed) for seed, fwhm in enumerate(TEMPLATES)]


@pytest.fixture(scope="module")
def warps(epochs, patch):
    return [warp([each.image], patch, PATCH) for each in epochs]


@pytest.fixture(scope="module")
def template(warps):
    return coadd(warps, len(warps), PATCH)


def aperture_noise(image, at):
    return scatter(sep.sum_circle(np.nan_to_num(image), *at.T, 4.0)[0])


@pytest.fixture(scope="module")
def blank(field, patch):
    """Return positions of blank sky that every epoch covers, (n, 2)."""
    x, y = patch.all_world2pix(field[0], field[1], 0)
    at = np.random.default_rng(3).uniform((100, 100), np.array(PATCH)[::-1] - 100, (40_000, 2))
    for faintest, reach in ((0, 14), (2e5, 40), (2e7, 120)):
        chosen = field[2] > faintest
        at = at[cKDTree(np.stack([x[chosen], y[chosen]], 1)).query(at)[0] > reach]
    return at


@pytest.fixture(scope="module")
def best(warps, blank):
    """Return the noise of apertures that the inverse-variance mean of the single warps would have."""
    singles = np.array([aperture_noise(each.image, blank) for each in warps])
    return 1 / np.sqrt((1 / singles**2).sum())


@pytest.mark.parametrize("statistic", ["meanclip", pytest.param("mean", marks=pytest.mark.full), "median"])
def test_a_coadd_has_the_noise_of_its_theory(warps, template, blank, best, statistic):
    combined, count = template if statistic == "meanclip" else coadd(warps, len(warps), PATCH, statistic=statistic)
    assert (count[300:-300, 300:-300] == len(warps)).mean() > 0.995  # but for saturated and clipped pixels
    noise = aperture_noise(combined.image, blank)
    own = np.sqrt(np.median(sep.sum_circle(np.where(count > 0, combined.variance, 0), *blank.T, 4.0)[0]))
    assert 0.9 < noise / own < 1.05
    if statistic != "median":
        assert noise / best < 1.05


def test_the_psf_of_a_coadd_is_that_of_its_stars(epochs, warps, patch):
    """Noiseless stars, seen by every epoch where they truly fell: width and flux to 1 %."""
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(400, PATCH[1] - 400, 4).round(),
                                           np.linspace(300, PATCH[0] - 300, 5).round()))  # fmt: skip
    sky = patch.all_pix2world(x, y, 0)
    images = []
    for each, warped in zip(epochs, warps):
        light = np.zeros(TRIMMED_SHAPE, np.float32)
        draw_stars(light, *each.image.wcs.all_world2pix(*sky, 0), np.full(len(x), STAR), each.psf, edge=0.01)
        source = MaskedImage(light, each.image.variance, np.zeros_like(each.image.mask), each.image.wcs, None, 1.0)
        made = warp([source], patch, PATCH)
        made.psf, made.variance = warped.psf, warped.variance
        images.append(made)
    combined, _ = coadd(images, len(images), PATCH)
    combined.variance[:] = 1
    half = combined.psf.size // 2
    for column, row in zip(x.astype(int), y.astype(int)):
        star = combined.image[row - half : row + half + 1, column - half : column + half + 1].astype(float)
        assert combined.psf.fwhm(column, row) == pytest.approx(PsfModel(star[None], 0, PATCH).fwhm(0, 0), rel=0.01)
    assert np.median(psf_fluxes(combined, x, y).flux) == pytest.approx(STAR, rel=0.01)


@pytest.mark.parametrize(
    "seeings", [(SHARPER, BROADER), pytest.param(ALL_SEEINGS, marks=pytest.mark.full)], ids=["two", "ten"]
)
def test_differences_keep_their_promises(field, template, seeings):
    """At every seeing: pulls, completeness, false sources, fluxes; dipoles and bright stars' residuals given away."""
    tally = Tally()
    for number, fwhm in enumerate(seeings):
        science = epoch(field, fwhm, 100 + number)
        snr = science.electrons / np.sqrt(science.electrons + 4.5 * fwhm**2 * SKY)
        here = (np.minimum(science.x, science.y) > 5) & (science.x < 2042) & (science.y < 4090)
        bright = np.stack([science.x, science.y], 1)[here & (snr > 1000)]
        here[here] &= ~saturated(science, here)
        matched = tuple(values[here] for values in (science.x, science.y, snr))
        old = warp([template[0]], science.image.wcs, TRIMMED_SHAPE, repair=False)
        measure(science.image, matched, bright, science.psf, old, tally, (9, number))
    assert set(tally.flux_pulls) == {"sharper", "broader"}
    for pulls in (tally.pixel_pulls, tally.flux_pulls):
        assert all(0.97 < pull < 1.03 for side in pulls.values() for pull in side), pulls
    for start, _, wanted in BINS:
        assert tally.injected[start] > 400 * len(seeings)
        assert tally.completeness(start) >= wanted, tally
    assert np.mean(tally.false) <= 5
    bias, error = tally.flux_bias()
    assert abs(bias) < 0.01 and error < 0.003
    assert 0.97 < scatter(np.concatenate(tally.errors)) < 1.03
    found, passed = np.sum(tally.dipoles, axis=0)
    assert found > 80 * len(seeings) and passed <= 0.01 * found
    found, passed = np.sum(tally.bright, axis=0)
    assert passed <= len(seeings), tally.bright


def saturated(science: Epoch, chosen: np.ndarray) -> np.ndarray:
    """Return which of some stars have a saturated pixel at their middle or four pixels off."""
    x, y = (np.rint(values[chosen]).astype(int) for values in (science.x, science.y))
    full = np.zeros(len(x), bool)
    for dx, dy in ((0, 0), (4, 0), (-4, 0), (0, 4), (0, -4)):
        full |= (science.image.mask[(y + dy).clip(0, 4095), (x + dx).clip(0, 2047)] & SAT) != 0
    return full

"""Whole CCDs of simulated sky with all that is true of them: for tests and benchmarks of detrended images."""

from dataclasses import dataclass

import numpy as np

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import SAT
from proc_decam_dagster.simulation import optics, readout, rendering

READ_NOISE = 7.0


@dataclass
class Scene:
    """A detrended CCD and its truth, electrons.

    Attributes
    ----------
    image : `MaskedImage`
        As ISR gives it: sky in, `SAT` set and grown by a pixel.
    sky, sources, rays : `numpy.ndarray`, (ny, nx), float32
        Expected sky, expected light of stars and galaxies, charge of cosmic rays.
    x, y, flux : `numpy.ndarray`
        The stars.
    """

    image: MaskedImage
    sky: np.ndarray
    sources: np.ndarray
    rays: np.ndarray
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    @property
    def noise(self) -> np.ndarray:
        """Standard deviation that is expected of a pixel without rays."""
        return np.sqrt(self.sky + self.sources + READ_NOISE**2)


def stars(rng, number, faint=300.0, bright=3e7, slope=0.55, shape=TRIMMED_SHAPE):
    """Return positions and fluxes of stars, ``flux**-slope`` of which are brighter than a flux."""
    x, y = rng.uniform(0, shape[1], number), rng.uniform(0, shape[0], number)
    flux = faint * (1 - rng.uniform(0, 1, number) * (1 - (bright / faint) ** -slope)) ** (-1 / slope)
    return x, y, flux


def scene(
    seed=1, *, fwhm=4.2, level=2000.0, seconds=120.0, number=2500, galaxies=250, gradient=0.02, extra=None,
    shape=TRIMMED_SHAPE, detector=35,
) -> Scene:  # fmt: skip
    """Return a CCD of stars, galaxies, cosmic rays, bleed trails and noise.

    Parameters
    ----------
    seed : `int`, optional
    fwhm, level, seconds : `float`, optional
        Seeing in pixels before these integrate it, sky in electrons, exposure time for cosmic rays.
    number, galaxies : `int`, optional
    gradient : `float`, optional
        Relative change of the sky over the CCD.
    extra : `numpy.ndarray`, (ny, nx), optional
        Further expected electrons: a big galaxy, a satellite.
    """
    rng = np.random.default_rng(seed)
    ny, nx = shape
    psf = optics.PsfField(fwhm, 3.8, tuple(rng.uniform(0, 1, 8)))
    sources = np.zeros(shape, np.float32)
    x, y, flux = stars(rng, number, shape=shape)
    rendering.draw_stars(sources, x, y, flux, psf)
    rendering.draw_galaxies(
        sources, rng.uniform(0, nx, galaxies), rng.uniform(0, ny, galaxies), 10 ** rng.uniform(3, 5.2, galaxies),
        rng.uniform(2, 12, galaxies), rng.uniform(0.3, 1, galaxies), rng.uniform(0, np.pi, galaxies),
        rng.random(galaxies) < 0.3, psf,
    )  # fmt: skip
    sky = level * (1 + gradient * ((np.arange(nx) / nx)[None, :] - 0.7 * (np.arange(ny) / ny)[:, None]))
    sky = sky.astype(np.float32)
    if extra is not None:
        sources += extra
    rays = readout.cosmic_rays(seconds, rng, shape)
    charge = sky + sources + rays
    readout.add_photon_noise(charge, rng)
    amplifiers = sorted(DETECTORS[detector].amplifiers, key=lambda a: a.bbox.x0)
    wells = np.concatenate([np.full(a.bbox.x1 - a.bbox.x0, readout.full_well(a)) for a in amplifiers])
    if shape == TRIMMED_SHAPE:
        readout.bleed(charge, detector)
    else:
        wells = wells[:nx]
        np.minimum(charge, wells, out=charge)
    charge += READ_NOISE * rng.standard_normal(shape, np.float32)
    saturated = charge >= wells.min() / readout.FULL_WELL
    grown = saturated.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            grown |= np.roll(saturated, (dy, dx), (0, 1))
    image = MaskedImage(
        charge.astype(np.float32), (np.maximum(charge, 0) + READ_NOISE**2).astype(np.float32),
        np.where(grown, SAT, 0).astype(np.int32),
    )  # fmt: skip
    return Scene(image, sky, sources, rays, x, y, flux)

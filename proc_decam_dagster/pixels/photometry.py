"""Fluxes of sources fitted with the PSF, and the light that falls outside its stamp."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit
from proc_decam_dagster.pixels.psf_model import PsfModel, fill_shifted, fill_terms

BAND = 32
"""Rows of an image whose sources are measured one after the other: what they share stays in the processor's cache."""


@dataclass(frozen=True)
class PsfFluxes:
    """PSF fluxes of n sources.

    Attributes
    ----------
    flux, flux_err : `numpy.ndarray`, (n,)
        Total flux and its standard error, in the image's unit; NaN where too little of the PSF fell on good pixels.
    chi2 : `numpy.ndarray`, (n,)
        Reduced χ² of the fit.
    usable : `numpy.ndarray`, (n,)
        Fraction of the PSF's light that fell on good pixels.
    """

    flux: np.ndarray
    flux_err: np.ndarray
    chi2: np.ndarray
    usable: np.ndarray


@jit
def _fit_psf(image, variance, mask, bad, spline, degree, x, y, order, radius, flux, error, chi2, usable):
    """Fit the amplitude of the PSF at given positions, every good pixel weighted alike (see `psf_fluxes`)."""
    ny, nx = image.shape
    n_terms, width = spline.shape[0], spline.shape[1]
    size = width - 6
    half = size // 2
    terms = np.empty(n_terms)
    local = np.empty((width, width))
    rows = np.empty((width, size))
    psf = np.empty((size, size))
    for s in order:
        flux[s] = np.nan
        error[s] = np.nan
        chi2[s] = np.nan
        usable[s] = 0.0
        if not (np.isfinite(x[s]) and np.isfinite(y[s])):
            continue
        cx, cy = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        fill_terms(x[s] / nx - 0.5, y[s] / ny - 0.5, degree, terms)
        local[:] = 0.0
        for t in range(n_terms):
            term = terms[t]
            for j in range(width):
                for i in range(width):
                    local[j, i] += term * spline[t, j, i]
        fill_shifted(local, x[s] - cx, y[s] - cy, rows, psf)
        light, total, pp, pd, ppv = 0.0, 0.0, 0.0, 0.0, 0.0
        dd_v, pd_v, pp_v, n = 0.0, 0.0, 0.0, 0
        left = cx - radius
        start, stop = max(left, 0) - left, min(cx + radius + 1, nx) - left
        for j in range(2 * radius + 1):
            profile = psf[half - radius + j, half - radius : half + radius + 1]
            for i in range(2 * radius + 1):
                total += profile[i]
            row = cy - radius + j
            if row < 0 or row >= ny:
                continue
            # No branch within: these loops become vector instructions.
            values, errors, flags = image[row, left + start :], variance[row, left + start :], mask[row, left + start :]
            within = profile[start:]
            for i in range(stop - start):
                d, v, p = values[i], errors[i], within[i]
                good = ((flags[i] & bad) == 0) & (abs(d) < planes.HUGE) & (v > 0) & (v < planes.HUGE)
                d, v, p = float(d) if good else 0.0, float(v) if good else 1.0, p if good else 0.0
                weight = 1 / v
                light += p
                pp += p * p
                pd += p * d
                ppv += p * p * v
                dd_v += d * d * weight
                pd_v += p * d * weight
                pp_v += p * p * weight
                n += good
        usable[s] = light / total
        if pp <= 0.0:
            continue
        f = pd / pp
        flux[s] = f
        error[s] = np.sqrt(ppv) / pp
        chi2[s] = (dd_v - 2 * f * pd_v + f * f * pp_v) / max(n - 1, 1)


def psf_fluxes(
    exposure: MaskedImage,
    x: np.ndarray,
    y: np.ndarray,
    psf: PsfModel | None = None,
    *,
    bad: int = planes.UNUSABLE,
    radius: int | None = None,
    min_usable: float = 0.6,
) -> PsfFluxes:
    """Fit the flux of a star at each position, the position held fixed.

    Parameters
    ----------
    exposure : `MaskedImage`
        Background-subtracted image.
    x, y : `numpy.ndarray`, (n,)
        Positions, pixels.
    psf : `PsfModel`, optional
        The image's own by default.
    bad : `int`
        Mask bits of pixels that are not used.
    radius : `int`, optional
        Half width of the box that is fitted, pixels; the whole stamp by default.
    min_usable : `float`
        Least fraction of the PSF's light on good pixels; below it the flux is NaN.

    Returns
    -------
    fluxes : `PsfFluxes`

    Notes
    -----
    Good pixels are weighted alike, not by their variance: with the source's own photon noise in the weights a slightly
    wrong PSF would bias bright and faint stars differently. For sources fainter than the sky both are the same.
    The error is that of the weights used, from each pixel's variance.
    """
    psf = exposure.psf if psf is None else psf
    if psf is None:
        raise ValueError("PSF fluxes need a PSF: the image has none")
    x, y = np.ascontiguousarray(x, float), np.ascontiguousarray(y, float)
    flux, error, chi2, usable = (np.empty(len(x)) for _ in range(4))
    half = psf.size // 2
    # One after the other as they lie in memory: the pixels of the next are those of the last, or are near them.
    order = np.lexsort((x, np.floor(y / BAND)))
    _fit_psf(
        exposure.image, exposure.variance, exposure.mask, bad, psf.spline, psf.degree, x, y, order,
        half if radius is None else min(int(radius), half), flux, error, chi2, usable,
    )  # fmt: skip
    failed = usable < min_usable
    flux[failed] = error[failed] = np.nan
    return PsfFluxes(flux, error, chi2, usable)


def encircled_fraction(profile: np.ndarray, noise: float, fwhm: float, half: int) -> float:
    """Return the fraction of a star's total light within a square of half width ``half``, from its stacked profile.

    Parameters
    ----------
    profile : `numpy.ndarray`, (size, size)
        Stacked image of stars, wider than the square; one whose light within the square is 1.
    noise : `float`
        Noise of its pixels.
    fwhm : `float`
        Full width at half maximum, pixels.
    half : `int`
        Half width of the square, pixels.

    Notes
    -----
    Beyond 1 FWHM the light is fitted with a Moffat profile and a constant (the error of the sky, a few per cent of
    its noise at most), and the Moffat profile's light outside the square is added to that within. It is a curve of
    growth whose outer part, where noise and sky would dominate a sum, is the fitted wing.
    """
    centre = profile.shape[0] // 2
    dy, dx = np.mgrid[-centre : centre + 1, -centre : centre + 1]
    radius = np.hypot(dx, dy)
    edges = np.arange(0.9 * fwhm, 3 * fwhm, 1.0)
    edges = np.concatenate([edges, np.arange(edges[-1] + 2, centre + 0.5, 2.0)])
    rings = [(radius >= lo) & (radius < hi) for lo, hi in zip(edges[:-1], edges[1:])]
    r = np.array([radius[ring].mean() for ring in rings])
    value = np.array([profile[ring].mean() for ring in rings])
    count = np.array([ring.sum() for ring in rings])
    error = np.hypot(noise / np.sqrt(count), 0.01 * np.abs(value))

    def wing(parameters: np.ndarray, at: np.ndarray) -> np.ndarray:
        amplitude, core, beta, _ = parameters
        alpha = core * fwhm
        return amplitude * (beta - 1) / (np.pi * alpha**2) * (1 + (at / alpha) ** 2) ** -beta

    fit = least_squares(
        lambda p: np.append((wing(p, r) + p[3] * noise - value) / error, p[3] / 0.2),
        x0=(1.0, 0.9, 2.8, 0.0),
        bounds=((0.2, 0.3, 1.8, -3), (3, 3, 8, 3)),
    )
    reach = int(np.ceil(10 * fwhm))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radius = np.hypot(dx, dy)
    outside = (radius <= reach) & (np.maximum(np.abs(dx), np.abs(dy)) > half)
    amplitude, core, beta, _ = fit.x
    beyond = wing(fit.x, radius[outside]).sum() + amplitude * (1 + (reach / (core * fwhm)) ** 2) ** (1 - beta)
    return float(1 / (1 + beyond))

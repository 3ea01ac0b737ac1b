"""Stars and galaxies drawn on a pixel array, compiled: a Moffat profile integrated over pixels."""

import math

import numpy as np
from numba import njit

from proc_decam_dagster.simulation.optics import PsfField

EDGE = 0.3
"""Light below this many electrons a pixel, at the edge of a star's stamp, is left out."""
SMALLEST, LARGEST = 16, 400
_GAUSS = 0.5 / math.sqrt(3.0)

EXPONENTIAL = (
    np.array([0.00234854, 0.03079953, 0.22336421, 1.17949102, 4.3387375, 5.9982077]),
    np.array([0.00120079, 0.00884526, 0.03914631, 0.13997682, 0.4609625, 1.50159566]),
)
DE_VAUCOULEURS = (
    np.array([0.04263477, 0.24012718, 0.68590763, 1.5193735, 2.83627243, 4.46467501, 5.72440830, 5.60989349]),
    np.array([0.00022376, 0.0010022, 0.00418731, 0.01694326, 0.06848505, 0.28720708, 1.33320254, 8.40215071]),
)
"""Galaxy profiles as sums of Gaussians: fluxes, and variances in units of the half-light radius squared.

From Hogg & Lang 2013 (PASP 125, 719), tables for "exp" and "dev".
"""


@njit(cache=True, fastmath=True)
def _draw_moffats(image, x, y, flux, a, b, c, beta, edge):  # pragma: no cover - compiled
    ny, nx = image.shape
    g = _GAUSS
    for i in range(x.size):
        determinant = math.sqrt(a[i] * c[i] - b[i] * b[i])
        peak = flux[i] * (beta - 1) / math.pi * determinant
        radius = 1.0
        if abs(peak) > edge:
            radius = math.sqrt((abs(peak) / edge) ** (1 / beta) - 1) / math.sqrt(determinant)
        half = int(min(max(math.ceil(radius * 1.1), SMALLEST), LARGEST))
        cx, cy = int(math.floor(x[i] + 0.5)), int(math.floor(y[i] + 0.5))
        for row in range(max(cy - half, 0), min(cy + half + 1, ny)):
            for column in range(max(cx - half, 0), min(cx + half + 1, nx)):
                px, py = column - x[i], row - y[i]
                if px * px + py * py > half * half:
                    continue
                total = 0.0
                for sy in range(2):
                    dy = py + (g if sy else -g)
                    for sx in range(2):
                        dx = px + (g if sx else -g)
                        q = a[i] * dx * dx + 2 * b[i] * dx * dy + c[i] * dy * dy
                        total += math.exp(-beta * math.log1p(q))
                image[row, column] += 0.25 * peak * total


@njit(cache=True, fastmath=True)
def _draw_gaussians(image, x, y, amplitude, a, b, c, first, radius):  # pragma: no cover - compiled
    ny, nx = image.shape
    for i in range(x.size):
        half = int(radius[i]) + 1
        cx, cy = int(math.floor(x[i] + 0.5)), int(math.floor(y[i] + 0.5))
        for row in range(max(cy - half, 0), min(cy + half + 1, ny)):
            dy = row - y[i]
            for column in range(max(cx - half, 0), min(cx + half + 1, nx)):
                dx = column - x[i]
                if dx * dx + dy * dy > half * half:
                    continue
                total = 0.0
                for k in range(first[i], first[i + 1]):
                    q = 0.5 * (a[k] * dx * dx + 2 * b[k] * dx * dy + c[k] * dy * dy)
                    if q < 14.0:
                        total += amplitude[k] * math.exp(-q)
                image[row, column] += total


def draw_stars(image: np.ndarray, x, y, flux, psf: PsfField, edge: float = EDGE) -> None:
    """Add stars to an image.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Electrons; changed in place.
    x, y, flux : array-like
        0-based pixels and total electrons; stars may lie outside the image.
    psf : `PsfField`
    edge : `float`, optional
        Electrons a pixel below which a star's wings are cut.
    """
    x, y, flux = (np.ascontiguousarray(v, float) for v in (x, y, flux))
    if x.size:
        a, b, c = (np.ascontiguousarray(np.broadcast_to(v, x.shape)) for v in psf.quadratic_form(x, y))
        _draw_moffats(image, x, y, flux, a, b, c, psf.beta, edge)


def draw_galaxies(image: np.ndarray, x, y, flux, radius, axis_ratio, angle, bulge, psf: PsfField) -> None:
    """Add galaxies to an image.

    A Moffat profile is a mixture of Gaussians whose inverse variances follow a Gamma distribution; with the profile's
    own Gaussians and the pixel's second moment, a galaxy seen through PSF and pixel is a sum of Gaussians.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Electrons; changed in place.
    x, y, flux : array-like
        0-based pixels, total electrons.
    radius, axis_ratio, angle : array-like
        Half-light radius in pixels, minor over major axis, angle of the major axis from x to y in radians.
    bulge : array-like of `bool`
        Whether the profile is de Vaucouleurs's instead of exponential.
    psf : `PsfField`
    """
    from scipy.special import roots_genlaguerre

    nodes, masses = roots_genlaguerre(6, psf.beta - 2)
    masses = masses / masses.sum()
    pa, pb, pc = psf.quadratic_form(x, y)
    amplitudes, forms, first, extents = [], [], [0], []
    for i in range(len(x)):
        share, variances = DE_VAUCOULEURS if bulge[i] else EXPONENTIAL
        share = share / share.sum()
        determinant = pa[i] * pc[i] - pb[i] ** 2
        moffat = np.array([[pc[i], -pb[i]], [-pb[i], pa[i]]]) / determinant
        cosine, sine = np.cos(angle[i]), np.sin(angle[i])
        turn = np.array([[cosine, -sine], [sine, cosine]])
        # The circularised radius is kept, so that thin galaxies are not smaller ones.
        body = turn @ np.diag([1 / axis_ratio[i], axis_ratio[i]]) @ turn.T * radius[i] ** 2
        weight = np.outer(share, masses).ravel()
        covariance = (
            variances[:, None, None, None] * body + (0.5 / nodes)[:, None, None] * moffat + np.eye(2) / 12
        ).reshape(-1, 2, 2)
        size = np.sqrt(covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1] ** 2)
        peak = flux[i] * weight / (2 * np.pi * size)
        # A component that nowhere reaches a twentieth of an electron cannot be seen; the kept ones carry its flux.
        keep = peak > min(0.05, peak.max() * 0.5)
        peak, covariance = peak[keep] * (weight.sum() / weight[keep].sum()), covariance[keep]
        inverse = np.linalg.inv(covariance)
        amplitudes.append(peak)
        forms.append(np.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]]))
        first.append(first[-1] + peak.size)
        spread = np.sqrt(np.maximum(covariance[:, 0, 0], covariance[:, 1, 1]))
        extents.append(min(float((spread * np.sqrt(2 * np.log(np.maximum(peak / 0.05, 1.01)))).max()), LARGEST))
    if amplitudes:
        a, b, c = (np.ascontiguousarray(v) for v in np.concatenate(forms, axis=1))
        position = (np.ascontiguousarray(x, float), np.ascontiguousarray(y, float))
        _draw_gaussians(image, *position, np.concatenate(amplitudes), a, b, c, np.array(first), np.array(extents))

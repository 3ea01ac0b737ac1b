"""Where light falls and how it is spread: the true WCS of each CCD, and a Moffat PSF that varies over it."""

from dataclasses import dataclass

import numpy as np

from proc_decam_dagster.camera.distortion import tpv_header
from proc_decam_dagster.camera.geometry import PIXEL_SCALE, TRIMMED_SHAPE
from proc_decam_dagster.simulation.plan import Exposure

_DISTORTED_TERMS = (4, 5, 6, 7, 8, 9, 10)


def header_cards(detector: int, exposure: Exposure) -> dict[str, object]:
    """Return the WCS cards that the raw header gives: the camera's distortion at the telescope's own pointing."""
    return tpv_header(detector, exposure.ra, exposure.dec)


def true_cards(detector: int, exposure: Exposure) -> dict[str, object]:
    """Return the WCS cards (TPV, trimmed CCD, CRPIX from 1) after which the sky is really imaged.

    They differ from the header's by pointing, rotation and scale, and by small errors of the second- and third-order
    terms of the distortion that are the same on all CCDs (a few milliarcsec after a linear fit on one CCD).
    """
    cards = tpv_header(detector, exposure.true_ra, exposure.true_dec)
    angle = np.radians(exposure.rotation_deg)
    turn = exposure.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cd = turn @ np.array([[cards["CD1_1"], cards["CD1_2"]], [cards["CD2_1"], cards["CD2_2"]]])
    cards.update(CD1_1=cd[0, 0], CD1_2=cd[0, 1], CD2_1=cd[1, 0], CD2_2=cd[1, 1])
    errors = iter(exposure.distortion)
    for axis in (1, 2):
        for term in _DISTORTED_TERMS:
            cards[f"PV{axis}_{term}"] += next(errors, 0.0)
    return {k: float(v) if isinstance(v, np.floating) else v for k, v in cards.items()}


def wcs_of(cards: dict[str, object]):
    """Return the `astropy.wcs.WCS` of a CCD's cards."""
    from astropy.io import fits
    from astropy.wcs import WCS

    return WCS(fits.Header(cards))


def sky_to_pixel(cards: dict[str, object], ra, dec, radius_deg: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Return the 0-based pixels of positions (deg); NaN for those farther than ``radius_deg`` from the CCD's centre.

    Far positions are left out because the inversion of TPV need not converge there.
    """
    wcs = wcs_of(cards)
    ny, nx = TRIMMED_SHAPE
    center = wcs.wcs_pix2world([[(nx - 1) / 2, (ny - 1) / 2]], 0)[0]
    ra, dec = np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float))
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    d_ra = ((ra - center[0] + 180) % 360 - 180) * np.cos(np.radians(center[1]))
    near = np.hypot(d_ra, dec - center[1]) < radius_deg
    if near.any():
        x[near], y[near] = wcs.wcs_world2pix(ra[near], dec[near], 0)
    return x, y


def pixel_to_sky(cards: dict[str, object], x, y) -> tuple[np.ndarray, np.ndarray]:
    """Return RA and Dec (deg) of 0-based pixels."""
    ra, dec = wcs_of(cards).wcs_pix2world(np.atleast_1d(x), np.atleast_1d(y), 0)
    return ra, dec


@dataclass(frozen=True)
class PsfField:
    """An elliptical Moffat profile whose width and shape vary over a CCD as trigonometric functions.

    The profile is ``(1 + a dx² + 2 b dx dy + c dy²)**-beta`` times its normalisation, of unit integral over the plane.

    Attributes
    ----------
    fwhm : `float`
        Mean FWHM in pixels, before a pixel integrates it.
    beta : `float`
    shape : `tuple` [`float`, …]
        Eight numbers in 0…1: phases and amplitudes.
    """

    fwhm: float
    beta: float
    shape: tuple[float, ...] = (0.0,) * 8

    @classmethod
    def of(cls, exposure: Exposure) -> "PsfField":
        """Return the PSF of an exposure."""
        return cls(exposure.seeing / PIXEL_SCALE, exposure.beta, exposure.shape)

    def quadratic_form(self, x, y) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the profile's ``a``, ``b``, ``c`` (pixel⁻²) at positions."""
        ny, nx = TRIMMED_SHAPE
        u, v = np.pi * np.asarray(x, float) / nx, np.pi * np.asarray(y, float) / ny
        s = self.shape
        width = self.fwhm * (1 + 0.03 * s[0] * np.cos(u + 2 * np.pi * s[1]) + 0.03 * np.sin(v + 2 * np.pi * s[2]))
        turn = 2 * np.pi * s[3]
        e1 = 0.04 * s[4] * np.cos(turn) + 0.015 * np.sin(u + v + 2 * np.pi * s[5])
        e2 = 0.04 * s[4] * np.sin(turn) + 0.015 * np.cos(u - v + 2 * np.pi * s[6])
        alpha = width / (2 * np.sqrt(2 ** (1 / self.beta) - 1))
        # The determinant stays alpha**-4, so the ellipticity does not change the area.
        norm = 1 / (alpha**2 * np.sqrt(1 - e1**2 - e2**2))
        return norm * (1 - e1), -norm * e2, norm * (1 + e1)

    def stamp(self, x: float, y: float, half: int = 25, fine: int = 1) -> np.ndarray:
        """Return the pixel-integrated profile of unit flux, centred on the middle, ``fine`` samples a pixel.

        Every sample is the integral over one whole pixel, by Gauss–Legendre quadrature of 3×3 points.
        """
        a, b, c = self.quadratic_form(x, y)
        nodes, weights = np.polynomial.legendre.leggauss(3)
        grid = np.arange(-half * fine, half * fine + 1) / fine
        total = np.zeros((grid.size, grid.size))
        for node_y, weight_y in zip(nodes / 2, weights / 2):
            for node_x, weight_x in zip(nodes / 2, weights / 2):
                dx, dy = grid[None, :] + node_x, grid[:, None] + node_y
                q = a * dx**2 + 2 * b * dx * dy + c * dy**2
                total += weight_x * weight_y * (1 + q) ** -self.beta
        return total * (self.beta - 1) / np.pi * np.sqrt(a * c - b * b)

    def pixel_fwhm(self) -> float:
        """Return the FWHM in pixels with the pixel's own width: of the circle of half-maximum area, mean over a CCD."""
        ny, nx = TRIMMED_SHAPE
        half = int(np.ceil(self.fwhm)) + 1
        widths = []
        for y in (ny / 6, ny / 2, 5 * ny / 6):
            for x in (nx / 6, nx / 2, 5 * nx / 6):
                fine = self.stamp(x, y, half, fine=10)
                widths.append(2 * np.sqrt((fine > fine.max() / 2).sum() / np.pi) / 10)
        return float(np.mean(widths))

    def effective_area(self) -> float:
        """Return ``1/Σp²`` at the CCD's centre: the number of pixels whose background noise a PSF flux sees."""
        ny, nx = TRIMMED_SHAPE
        return float(1 / (self.stamp(nx / 2, ny / 2) ** 2).sum())

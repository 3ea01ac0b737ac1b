"""The tangent (gnomonic) projection, and a polynomial plate model written as a FITS TPV header."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from proc_decam_dagster.pixels.psf_model import monomials

# PV indices of the monomials u**(n-k) v**k in the order of `monomials`, for the first axis (Calabretta et al. TPV:
# 3, 11 and 23 are the radial terms, which stay out). The second axis has u and v exchanged.
_PV_FIRST = (0, 1, 2, 4, 5, 6, 7, 8, 9, 10)
_DEGREE = 3


def project(ra, dec, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return tangent-plane coordinates (ξ, η) in degrees of sky positions in degrees."""
    ra, dec, ra0, dec0 = (np.deg2rad(v) for v in (ra, dec, ra0, dec0))
    cos_distance = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    xi = np.cos(dec) * np.sin(ra - ra0) / cos_distance
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cos_distance
    return np.rad2deg(xi), np.rad2deg(eta)


def unproject(xi, eta, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return sky positions in degrees of tangent-plane coordinates in degrees: the inverse of `project`."""
    xi, eta, ra0, dec0 = (np.deg2rad(v) for v in (xi, eta, ra0, dec0))
    across = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, across)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(across, xi))
    return np.rad2deg(ra), np.rad2deg(dec)


@dataclass
class PlateModel:
    """Pixels to the tangent plane by a cubic polynomial about the middle of a CCD.

    Attributes
    ----------
    ra0, dec0 : `float`
        Tangent point, degrees.
    linear : `numpy.ndarray`, (2, 2)
        CD matrix, degrees a pixel.
    coefficients : `numpy.ndarray`, (2, 10)
        ξ and η as polynomials of ``(u, v) = CD · (pixel - middle)``, in degrees, in the order of `monomials`.
    shape : `tuple` [`int`, `int`]
        Shape (ny, nx) of the image.
    """

    ra0: float
    dec0: float
    linear: np.ndarray
    coefficients: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of_wcs(cls, wcs: WCS, shape: tuple[int, int]) -> "PlateModel":
        """Return the model that follows a WCS over an image; a cubic does so to better than 0.1 mas on DECam."""
        ny, nx = shape
        ra0, dec0 = (float(v) for v in wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
        x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, 12), np.linspace(0, ny - 1, 24)))
        plane = np.stack(project(*wcs.all_pix2world(x, y, 0), ra0, dec0))
        dx, dy = x - (nx - 1) / 2, y - (ny - 1) / 2
        linear = np.linalg.lstsq(monomials(dx / nx, dy / nx, _DEGREE).T, plane.T, rcond=None)[0].T[:, 1:3] / nx
        model = cls(ra0, dec0, linear, np.zeros((2, len(_PV_FIRST))), shape)
        model.coefficients = model.polynomial_through(*model.intermediate(x, y), plane)
        return model

    @staticmethod
    def polynomial_through(u: np.ndarray, v: np.ndarray, plane: np.ndarray) -> np.ndarray:
        """Return cubic coefficients of values (2, n), solved with coordinates of order one."""
        scale = max(np.abs(u).max(), np.abs(v).max())
        terms = monomials(u / scale, v / scale, _DEGREE)
        power = np.array([n for n in range(_DEGREE + 1) for _ in range(n + 1)])
        return np.linalg.lstsq(terms.T, plane.T, rcond=None)[0].T / scale**power

    def intermediate(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Return (u, v) in degrees of pixel positions: the argument of the polynomial."""
        ny, nx = self.shape
        dx, dy = np.asarray(x, float) - (nx - 1) / 2, np.asarray(y, float) - (ny - 1) / 2
        return (self.linear[0, 0] * dx + self.linear[0, 1] * dy, self.linear[1, 0] * dx + self.linear[1, 1] * dy)

    def plane(self, x, y) -> np.ndarray:
        """Return tangent-plane positions of pixels, (n, 2), degrees."""
        return (self.coefficients @ monomials(*self.intermediate(x, y), _DEGREE)).T

    def wcs(self) -> WCS:
        """Return the model as an astropy WCS: TPV, ICRS; `WCS.to_header` keeps it whole."""
        ny, nx = self.shape
        header = fits.Header()
        header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
        header["CUNIT1"] = header["CUNIT2"] = "deg"
        header["CRVAL1"], header["CRVAL2"] = self.ra0, self.dec0
        header["CRPIX1"], header["CRPIX2"] = (nx + 1) / 2, (ny + 1) / 2
        for i in (0, 1):
            for j in (0, 1):
                header[f"CD{i + 1}_{j + 1}"] = float(self.linear[i, j])
        header["RADESYS"] = "ICRS"
        first, second = self.coefficients
        for term, index in enumerate(_PV_FIRST):
            header[f"PV1_{index}"] = float(first[term])
        for term, index in zip(_exchanged(), _PV_FIRST):
            header[f"PV2_{index}"] = float(second[term])
        wcs = WCS(header)
        wcs.array_shape = self.shape
        return wcs


def _exchanged() -> list[int]:
    """Return, for each monomial, the number of the one with u and v exchanged."""
    powers = [(n - k, k) for n in range(_DEGREE + 1) for k in range(n + 1)]
    return [powers.index((k, p)) for p, k in powers]

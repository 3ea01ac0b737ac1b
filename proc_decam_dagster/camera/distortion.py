"""Where each CCD's pixels lie on the sky: real TPV distortion, put at any pointing.

Pixels are 0-based in the trimmed image. CRPIX counts from 1 in the same trimmed image; raw headers carry these
values too (CCD 25: 2151.2, 14826.0), beside an LTV of (56, 50) that must not be subtracted from them.
The TPV convention is that of the FITS registry (http://fits.gsfc.nasa.gov/registry/tpvwcs.html), to third order.
"""

from functools import cache

import numpy as np

from proc_decam_dagster.camera._tables import read
from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE

SOLUTIONS = ("instcal2017", "scamp")
"""Two real solutions, from different nights: they differ by a rotation of 4', a scale of 1e-4 and 0.04" rms."""

field_radius_deg = 1.1
"""Distance from the pointing within which every CCD lies."""

TERMS = [term for term in range(11) if term != 3]
"""TPV terms used: all of third order and below but the radial one."""


@cache
def _cards(solution: str) -> dict[int, dict[str, float]]:
    rows = [row for row in read("distortion.csv") if row["solution"] == solution]
    if not rows:
        raise ValueError(f"distortion solution {solution!r} is none of {SOLUTIONS}")
    return {int(r["ccd"]): {k: float(v) for k, v in r.items() if k not in ("solution", "ccd")} for r in rows}


def intermediate(cards: dict[str, float], x, y) -> tuple[np.ndarray, np.ndarray]:
    """Return the intermediate coordinates (deg) of 0-based pixels, before distortion."""
    dx, dy = np.asarray(x, float) + 1 - cards["CRPIX1"], np.asarray(y, float) + 1 - cards["CRPIX2"]
    return cards["CD1_1"] * dx + cards["CD1_2"] * dy, cards["CD2_1"] * dx + cards["CD2_2"] * dy


def polynomial(cards: dict[str, float], u, v) -> tuple[np.ndarray, np.ndarray]:
    """Return the tangent-plane coordinates (deg) of intermediate coordinates."""
    planes = []
    for axis, (a, b) in enumerate(((u, v), (v, u)), start=1):
        p = {term: cards[f"PV{axis}_{term}"] for term in TERMS}
        in_a = p[1] + a * (p[4] + a * p[7] + b * p[8]) + b * (p[5] + b * p[9])
        in_b = p[2] + b * (p[6] + b * p[10])
        planes.append(p[0] + a * in_a + b * in_b)
    return planes[0], planes[1]


def tpv_header(detector: int, ra_deg: float, dec_deg: float, solution: str = SOLUTIONS[0]) -> dict[str, object]:
    """Return the WCS cards of a trimmed CCD for a pointing.

    Parameters
    ----------
    detector : `int`
        CCDNUM.
    ra_deg, dec_deg : `float`
        Pointing (ICRS): the sky at the reference pixel, which all CCDs share.
    solution : `str`, optional
        One of `SOLUTIONS`.

    Returns
    -------
    cards : `dict`
        FITS keywords and values; ``astropy.wcs.WCS`` takes them as ``astropy.io.fits.Header(cards)``.
    """
    known_detector(detector)
    return {
        "WCSAXES": 2,
        "CTYPE1": "RA---TPV",
        "CTYPE2": "DEC--TPV",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "RADESYS": "ICRS",
        "CRVAL1": float(ra_deg) % 360,
        "CRVAL2": float(dec_deg),
        **_cards(solution)[detector],
    }


def pixel_to_sky(detector: int, x, y, ra_deg: float, dec_deg: float, solution: str = SOLUTIONS[0]):
    """Return RA and Dec (deg) of 0-based pixels of a CCD at a pointing: the same as the WCS of `tpv_header`."""
    cards = _cards(solution)[detector]
    return _plane_to_sky(*polynomial(cards, *intermediate(cards, x, y)), ra_deg, dec_deg)


def _plane_to_sky(xi, eta, ra_deg, dec_deg) -> tuple[np.ndarray, np.ndarray]:
    xi, eta, dec0 = np.radians(xi), np.radians(eta), np.radians(dec_deg)
    north = np.cos(dec0) - eta * np.sin(dec0)
    ra = np.degrees(np.arctan2(xi, north)) + ra_deg
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, north))
    return ra % 360, np.degrees(dec)


def sky_to_pixel(detector: int, ra, dec, ra_deg: float, dec_deg: float, solution: str = SOLUTIONS[0]):
    """Return the 0-based pixels (x, y) of a CCD at which positions (deg) fall; the inverse of `pixel_to_sky`.

    Positions outside the CCD get pixels outside it, and NaN where the polynomials, which say nothing far from their
    CCD, cannot be inverted, or beyond 3°.
    """
    cards = _cards(solution)[detector]
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    ra0, dec0 = np.radians([ra_deg, dec_deg])
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    near = cosine > np.cos(np.radians(3))
    depth = np.where(near, cosine, np.nan)
    xi = np.degrees(np.cos(dec) * np.sin(ra - ra0) / depth)
    eta = np.degrees((np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / depth)
    u, v = xi.copy(), eta.copy()
    # The distortion is within a few per cent of the identity, so plain fixed-point iteration contracts.
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(12):
            du, dv = polynomial(cards, u, v)
            u, v = u + xi - du, v + eta - dv
        du, dv = polynomial(cards, u, v)
        converged = np.hypot(xi - du, eta - dv) < 1e-8
    u, v = np.where(converged, u, np.nan), np.where(converged, v, np.nan)
    cd = np.array([[cards["CD1_1"], cards["CD1_2"]], [cards["CD2_1"], cards["CD2_2"]]])
    inverse = np.linalg.inv(cd)
    x = inverse[0, 0] * u + inverse[0, 1] * v + cards["CRPIX1"] - 1
    y = inverse[1, 0] * u + inverse[1, 1] * v + cards["CRPIX2"] - 1
    return x, y


def detector_outline(detector: int, ra_deg: float, dec_deg: float, solution: str = SOLUTIONS[0]) -> np.ndarray:
    """Return the corners of a CCD on the sky at a pointing, (4, 2): RA and Dec (deg).

    The corners are the outer edges of the corner pixels, in the order (0, 0), (nx, 0), (nx, ny), (0, ny).
    """
    ny, nx = TRIMMED_SHAPE
    x, y = np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5
    return np.stack(pixel_to_sky(detector, x, y, ra_deg, dec_deg, solution), axis=1)


@cache
def _hull() -> tuple[np.ndarray, np.ndarray]:
    """Return the corners, in the tangent plane, of the convex hull of all detectors (monotone chain)."""
    ny, nx = TRIMMED_SHAPE
    x, y = np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5
    planes = [polynomial(cards, *intermediate(cards, x, y)) for cards in _cards(SOLUTIONS[0]).values()]
    points = sorted(map(tuple, np.concatenate(planes, axis=1).T))

    def chain(ordered: list) -> list:
        kept: list = []
        for x2, y2 in ordered:
            while len(kept) > 1:
                (x0, y0), (x1, y1) = kept[-2:]
                if (x1 - x0) * (y2 - y0) > (y1 - y0) * (x2 - x0):
                    break
                kept.pop()
            kept.append((x2, y2))
        return kept[:-1]

    xi, eta = np.array(chain(points) + chain(points[::-1])).T
    return xi, eta


def camera_outline(ra_deg: float, dec_deg: float) -> np.ndarray:
    """Return the corners of the convex hull of all CCDs at a pointing, (n, 2): RA and Dec (deg)."""
    return np.stack(_plane_to_sky(*_hull(), ra_deg, dec_deg), axis=1)

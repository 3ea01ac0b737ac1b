"""The simulated sky: stars and galaxies of each htm7 pixel, a function of the seed and the pixel's number alone."""

import numpy as np

EPOCH = 57388.5
"""MJD (TAI) of the stars' positions: J2016.0, as in Gaia DR3."""
LEVEL = 7
BANDS = "grizy"
STAR_DENSITY, STAR_SLOPE, STAR_RANGE = 49_000.0, 0.25, (13.0, 25.0)
"""Stars a square degree brighter than r = 24, growth of the counts in dex a magnitude, and range of r."""
GALAXY_DENSITY, GALAXY_SLOPE, GALAXY_RANGE = 36_000.0, 0.33, (16.5, 24.5)
VARIABLE_FRACTION_RANGE = (16.5, 20.5)
"""Magnitudes of the stars that may vary."""

STAR = np.dtype(
    [("id", "i8"), ("ra", "f8"), ("dec", "f8"), ("pm_ra", "f8"), ("pm_dec", "f8")]
    + [(band, "f8") for band in BANDS]
    + [("amplitude", "f8"), ("period", "f8"), ("phase", "f8")]
)
"""Positions at `EPOCH` in deg, proper motions in mas/yr (in RA times cos Dec), AB magnitudes; a variable star's
amplitude in mag, period in days and phase."""
GALAXY = np.dtype(
    [("id", "i8"), ("ra", "f8"), ("dec", "f8")]
    + [(band, "f8") for band in BANDS]
    + [("radius", "f8"), ("axis_ratio", "f8"), ("angle", "f8"), ("bulge", "?")]
)
"""Half-light radius in arcsec; angle of the major axis in radians, from x to y of the detectors, which never rotate."""


def vector(ra, dec) -> np.ndarray:
    """Return unit vectors, (…, 3), of positions in deg."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def separation(ra, dec, ra0: float, dec0: float) -> np.ndarray:
    """Return the distance of positions from a point, deg."""
    chord = np.linalg.norm(vector(ra, dec) - vector(ra0, dec0), axis=-1)
    return np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1)))


def trixels_of_circle(ra: float, dec: float, radius_deg: float) -> list[int]:
    """Return the htm7 pixels that a circle may touch."""
    from lsst.sphgeom import Angle, Circle, HtmPixelization, LonLat, UnitVector3d

    circle = Circle(UnitVector3d(LonLat.fromDegrees(ra % 360, dec)), Angle.fromDegrees(radius_deg))
    return [index for begin, end in HtmPixelization(LEVEL).envelope(circle) for index in range(begin, end)]


def trixels_of_polygon(corners) -> list[int]:
    """Return the htm7 pixels that a convex polygon may touch; corners are (ra, dec) in deg."""
    from lsst.sphgeom import ConvexPolygon, HtmPixelization, UnitVector3d

    polygon = ConvexPolygon([UnitVector3d(*map(float, v)) for v in vector(*np.asarray(corners, float).T)])
    return [index for begin, end in HtmPixelization(LEVEL).envelope(polygon) for index in range(begin, end)]


def inside_trixel(trixel: int, vectors: np.ndarray) -> np.ndarray:
    """Whether unit vectors lie in an htm7 pixel."""
    corners = _corners(trixel)
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    return (vectors @ normals.T > 0).all(axis=-1)


def _corners(trixel: int) -> np.ndarray:
    from lsst.sphgeom import HtmPixelization

    return np.array([[v.x(), v.y(), v.z()] for v in HtmPixelization.triangle(trixel).getVertices()])


def area(trixel: int) -> float:
    """Return the area of an htm7 pixel in square degrees (its spherical excess)."""
    a, b, c = _corners(trixel)
    excess = 2 * np.arctan2(a @ np.cross(b, c), 1 + a @ b + b @ c + c @ a)
    return float(np.degrees(np.degrees(excess)))


def _positions(trixel: int, number: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (deg) uniform over a trixel."""
    corners = _corners(trixel)
    center = corners.mean(axis=0)
    center /= np.linalg.norm(center)
    pole = np.cross(center, corners[0])
    pole /= np.linalg.norm(pole)
    lowest = (corners @ center).min()
    found: list[np.ndarray] = []
    while sum(map(len, found)) < number:
        height = rng.uniform(lowest, 1, 3 * number + 8)
        angle = rng.uniform(0, 2 * np.pi, height.size)
        across = np.sqrt(1 - height**2)[:, None]
        other = np.cross(center, pole)
        points = height[:, None] * center + across * (np.cos(angle)[:, None] * pole + np.sin(angle)[:, None] * other)
        found.append(points[inside_trixel(trixel, points)])
    x, y, z = np.concatenate(found)[:number].T
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arcsin(z))


def _magnitudes(density: float, slope: float, limits: tuple[float, float], square_degrees: float, rng) -> np.ndarray:
    """Return magnitudes that follow counts N(<m) = density · 10**(slope (m - 24)) between limits."""
    brightest, faintest = (10 ** (slope * (m - 24)) for m in limits)
    number = rng.poisson(density * square_degrees * (faintest - brightest))
    return 24 + np.log10(rng.uniform(brightest, faintest, number)) / slope


def stars(seed: int, trixel: int, thinning: float = 1.0) -> np.ndarray:
    """Return the stars of an htm7 pixel, an array of `STAR`.

    Parameters
    ----------
    seed, trixel : `int`
    thinning : `float`, optional
        Fraction of the stars that exist, for pixels that no simulated detector sees.
    """
    rng = np.random.default_rng([seed, 201, trixel])
    r = _magnitudes(STAR_DENSITY * thinning, STAR_SLOPE, STAR_RANGE, area(trixel), rng)
    table = np.zeros(r.size, STAR)
    table["id"] = (np.int64(trixel) << 24) + np.arange(r.size)
    table["ra"], table["dec"] = _positions(trixel, r.size, rng)
    # Near stars are bright and move: the motions' scale falls from 15 to 3 mas/yr.
    scale = np.interp(r, [13, 22], [15.0, 3.0])
    table["pm_ra"], table["pm_dec"] = rng.normal(0, scale), rng.normal(0, scale)
    red = rng.normal(np.where(rng.random(r.size) < 0.4, 1.3, 0.5), 0.15).clip(0.1, 1.8)
    table["r"] = r
    table["g"] = r + red
    table["i"] = r - 0.42 * red + 0.06 + rng.normal(0, 0.02, r.size)
    table["z"] = table["i"] - 0.22 * red + 0.03 + rng.normal(0, 0.02, r.size)
    table["y"] = table["z"] - 0.10 * red + 0.01 + rng.normal(0, 0.02, r.size)
    return table


def galaxies(seed: int, trixel: int, thinning: float = 1.0) -> np.ndarray:
    """Return the galaxies of an htm7 pixel, an array of `GALAXY`; parameters as in `stars`."""
    rng = np.random.default_rng([seed, 202, trixel])
    r = _magnitudes(GALAXY_DENSITY * thinning, GALAXY_SLOPE, GALAXY_RANGE, area(trixel), rng)
    table = np.zeros(r.size, GALAXY)
    table["id"] = (np.int64(trixel) << 24) + (1 << 23) + np.arange(r.size)
    table["ra"], table["dec"] = _positions(trixel, r.size, rng)
    red = rng.normal(0.8, 0.3, r.size).clip(0.0, 1.8)
    table["r"], table["g"] = r, r + red
    table["i"], table["z"], table["y"] = r - 0.35 * red, r - 0.55 * red, r - 0.65 * red
    table["bulge"] = rng.random(r.size) < np.interp(r, [17, 23], [0.5, 0.15])
    table["radius"] = 10 ** (np.interp(r, [17, 24], [0.45, -0.35]) + rng.normal(0, 0.15, r.size))
    table["axis_ratio"] = rng.uniform(0.25, 1.0, r.size)
    table["angle"] = rng.uniform(0, np.pi, r.size)
    return table


def moved(table: np.ndarray, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the stars' positions (deg) at an MJD: their proper motion since `EPOCH`."""
    years = (mjd - EPOCH) / 365.25
    dec = table["dec"] + table["pm_dec"] * years / 3.6e6
    return (table["ra"] + table["pm_ra"] * years / 3.6e6 / np.cos(np.radians(table["dec"]))) % 360, dec

"""Sums of light in circles: fluxes in apertures, and the radius that holds half of a source's light.

What `sep.sum_circle` and `sep.flux_radius` do, several times as fast: only pixels that a circle's edge crosses are
divided, and masks and variances are looked at where there are apertures.
"""

import numpy as np

from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.jit import jit

PARTS = 5
"""Parts, along each axis, of a pixel that the edge of a circle crosses."""
RINGS = 64
"""Steps in which light is added up outwards."""


@jit
def _overlap(dx, dy, radius):  # pragma: no cover - compiled
    """Return the fraction of a pixel at an offset from a circle's centre that lies in the circle."""
    square = dx * dx + dy * dy
    if square <= max(radius - 0.7072, 0.0) ** 2:
        return 1.0
    if square >= (radius + 0.7072) ** 2:
        return 0.0
    count = 0
    for j in range(PARTS):
        v = dy + (j + 0.5) / PARTS - 0.5
        for i in range(PARTS):
            u = dx + (i + 0.5) / PARTS - 0.5
            count += u * u + v * v < radius * radius
    return count / (PARTS * PARTS)


@jit
def _sums(image, variance, mask, bad, x, y, radius, flux, error, touched):  # pragma: no cover - compiled
    """Add up the good pixels of each circle; scale to the whole circle's area (see `aperture_fluxes`)."""
    ny, nx = image.shape
    for s in range(len(x)):
        x0, x1 = int(np.floor(x[s] - radius + 0.5)), int(np.ceil(x[s] + radius - 0.5))
        y0, y1 = int(np.floor(y[s] - radius + 0.5)), int(np.ceil(y[s] + radius - 0.5))
        total, square, area, good = 0.0, 0.0, 0.0, 0.0
        touched[s] = x0 < 0 or y0 < 0 or x1 >= nx or y1 >= ny
        for j in range(max(y0, 0), min(y1 + 1, ny)):
            for i in range(max(x0, 0), min(x1 + 1, nx)):
                part = _overlap(i - x[s], j - y[s], radius)
                if part == 0.0:
                    continue
                area += part
                if (mask[j, i] & bad) != 0:
                    touched[s] = True
                    continue
                good += part
                total += part * image[j, i]
                v = variance[j, i]
                square += part * v if np.isfinite(v) else 0.0
        scale = area / good if good > 0 else np.nan
        flux[s] = total * scale
        error[s] = np.sqrt(square * scale)


def aperture_fluxes(
    exposure: MaskedImage, x: np.ndarray, y: np.ndarray, radius: float, bad: int = planes.UNUSABLE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fluxes in circular apertures, their errors, and whether bad pixels or the edge touched them.

    Bad pixels are replaced by the mean of the aperture's good ones; without any of these the flux is NaN.

    Parameters
    ----------
    exposure : `MaskedImage`
        Background-subtracted image.
    x, y : `numpy.ndarray`, (n,)
        Centres, pixels.
    radius : `float`
        Radius, pixels.
    bad : `int`
        Mask bits of pixels that are not used.

    Returns
    -------
    flux, flux_err : `numpy.ndarray`, (n,)
        In the image's unit.
    touched : `numpy.ndarray`, (n,), bool
    """
    flux, error, touched = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), bool)
    _sums(
        exposure.image, exposure.variance, exposure.mask, np.int32(bad), np.ascontiguousarray(x, float),
        np.ascontiguousarray(y, float), float(radius), flux, error, touched,
    )  # fmt: skip
    return flux, error, touched


@jit
def _half_light(image, x, y, reach, radii):  # pragma: no cover - compiled
    """Write the radius within which half of the light within ``reach`` lies; NaN where that light is not positive."""
    ny, nx = image.shape
    step = reach / RINGS
    light = np.empty(RINGS + 2)
    near = 1.5
    for s in range(len(x)):
        light[:] = 0.0
        for j in range(max(int(y[s] - reach), 0), min(int(y[s] + reach) + 2, ny)):
            for i in range(max(int(x[s] - reach), 0), min(int(x[s] + reach) + 2, nx)):
                dx, dy = i - x[s], j - y[s]
                r = np.sqrt(dx * dx + dy * dy)
                if r > reach + 0.5:
                    continue
                value = image[j, i]
                if r < near:
                    share = value / (PARTS * PARTS)
                    for v in range(PARTS):
                        for u in range(PARTS):
                            du, dv = dx + (u + 0.5) / PARTS - 0.5, dy + (v + 0.5) / PARTS - 0.5
                            light[min(int(np.sqrt(du * du + dv * dv) / step), RINGS)] += share
                    continue
                # From farther away a pixel is a strip, one pixel wide in radius: the same mean and variance.
                r += 1 / (24 * r)
                inner, outer = (r - 0.5) / step, min((r + 0.5) / step, RINGS + 1.0)
                density = value * step
                first, last = int(inner), min(int(outer), RINGS)
                if first == last:
                    light[first] += density * (outer - inner)
                    continue
                light[first] += density * (first + 1 - inner)
                for k in range(first + 1, last):
                    light[k] += density
                light[last] += density * (outer - last)
        total = 0.0
        for k in range(RINGS):
            total += light[k]
        radii[s] = np.nan
        if not total > 0.0:
            continue
        within = 0.0
        for k in range(RINGS):
            if within + light[k] >= 0.5 * total:
                radii[s] = step * (k + (0.5 * total - within) / light[k])
                break
            within += light[k]


def half_light_radii(image: np.ndarray, x: np.ndarray, y: np.ndarray, reach: float) -> np.ndarray:
    """Return the radius that holds half of the light of each source.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Background-subtracted image.
    x, y : `numpy.ndarray`, (n,)
        Positions, pixels.
    reach : `float`
        Radius, in pixels, of the circle whose light is the whole.

    Returns
    -------
    radii : `numpy.ndarray`, (n,)
        Pixels; NaN where there is no light.
    """
    radii = np.full(len(x), np.nan)
    if reach > 0:
        _half_light(image, np.ascontiguousarray(x, float), np.ascontiguousarray(y, float), float(reach), radii)
    return radii

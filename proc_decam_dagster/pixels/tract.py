"""Tracts and patches: tangent planes on the sky, and the images into which they are divided.

Positions are degrees (ICRS); tract pixels are 0-based, x grows to the west, y to the north.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Patch:
    """One patch of a tract.

    Attributes
    ----------
    tract : `Tract`
    index : `int`
        ``cell_y * nx + cell_x``.
    inner, bbox : `tuple` [`int`, `int`, `int`, `int`]
        (x0, y0, x1, y1) in tract pixels, half-open. Inner boxes tile the tract; ``bbox``, the outer box, is the
        patch's image and overlaps its neighbours'.
    """

    tract: "Tract"
    index: int
    inner: tuple[int, int, int, int]
    bbox: tuple[int, int, int, int]

    @property
    def cell(self) -> tuple[int, int]:
        """Column and row of the patch in its tract."""
        return self.index % self.tract.nx, self.index // self.tract.nx

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of the patch's image."""
        x0, y0, x1, y1 = self.bbox
        return y1 - y0, x1 - x0

    def wcs(self) -> Any:
        """Return the `astropy.wcs.WCS` (TAN) of the patch's image."""
        return self.tract._wcs(self.bbox)

    def polygon(self) -> np.ndarray:
        """Return the corners of the outer box on the sky, (4, 2): RA, Dec."""
        return self.tract._corners(self.bbox)


@dataclass(frozen=True)
class Tract:
    """A tangent plane divided into patches.

    Attributes
    ----------
    id : `int`
    ra, dec : `float`
        Tangent point.
    nx, ny : `int`
        Number of patches.
    patch_inner, border : `int`
        Width and height of a patch's inner box, and what its outer box adds on each side, in pixels.
    pixel_scale : `float`
        Arcseconds per pixel at the tangent point.
    origin : `tuple` [`float`, `float`]
        Pixel of the tangent point.
    """

    id: int
    ra: float
    dec: float
    nx: int
    ny: int
    patch_inner: int
    border: int
    pixel_scale: float
    origin: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) in pixels."""
        return self.ny * self.patch_inner, self.nx * self.patch_inner

    def __len__(self) -> int:
        return self.nx * self.ny

    def patch(self, index: int) -> Patch:
        """Return a patch by its index.

        Raises
        ------
        IndexError
            Raised if the tract has no such patch.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"tract {self.id} has patches 0 to {len(self) - 1}, not {index}")
        size = self.patch_inner
        x, y = index % self.nx * size, index // self.nx * size
        ny, nx = self.shape
        outer = (
            max(x - self.border, 0), max(y - self.border, 0),
            min(x + size + self.border, nx), min(y + size + self.border, ny),
        )  # fmt: skip
        return Patch(self, index, (x, y, x + size, y + size), outer)

    @property
    def patches(self) -> Iterator[Patch]:
        """All patches, by index."""
        return (self.patch(index) for index in range(len(self)))

    def wcs(self) -> Any:
        """Return the `astropy.wcs.WCS` (TAN) of the whole tract."""
        return self._wcs((0, 0, self.shape[1], self.shape[0]))

    def polygon(self) -> np.ndarray:
        """Return the corners on the sky, (4, 2): RA, Dec."""
        return self._corners((0, 0, self.shape[1], self.shape[0]))

    def sky_to_pixel(self, ra, dec) -> tuple[np.ndarray, np.ndarray]:
        """Return tract pixels of positions; NaN beyond 90 degrees from the tangent point."""
        ra, dec = np.radians(np.asarray(ra, float) - self.ra), np.radians(np.asarray(dec, float))
        sine, cosine = math.sin(math.radians(self.dec)), math.cos(math.radians(self.dec))
        depth = sine * np.sin(dec) + cosine * np.cos(dec) * np.cos(ra)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = np.where(depth > 1e-9, 1 / depth, np.nan) / math.radians(self.pixel_scale / 3600)
        x = self.origin[0] - np.cos(dec) * np.sin(ra) * scale
        y = self.origin[1] + (cosine * np.sin(dec) - sine * np.cos(dec) * np.cos(ra)) * scale
        return x, y

    def pixel_to_sky(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Return RA and Dec of tract pixels."""
        unit = math.radians(self.pixel_scale / 3600)
        xi, eta = (self.origin[0] - np.asarray(x, float)) * unit, (np.asarray(y, float) - self.origin[1]) * unit
        sine, cosine = math.sin(math.radians(self.dec)), math.cos(math.radians(self.dec))
        north = cosine - eta * sine
        ra = self.ra + np.degrees(np.arctan2(xi, north))
        return ra % 360, np.degrees(np.arctan2(sine + eta * cosine, np.hypot(xi, north)))

    def patch_at(self, ra: float, dec: float) -> int | None:
        """Return the index of the patch whose inner box holds a position; `None` outside the tract."""
        # Plain floats: called for thousands of single positions, where numpy would take ten times as long.
        a, d, d0 = math.radians(ra - self.ra), math.radians(dec), math.radians(self.dec)
        depth = math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a)
        if depth < 1e-9:
            return None
        unit = depth * math.radians(self.pixel_scale / 3600)
        x = self.origin[0] - math.cos(d) * math.sin(a) / unit
        y = self.origin[1] + (math.cos(d0) * math.sin(d) - math.sin(d0) * math.cos(d) * math.cos(a)) / unit
        column, row = math.floor((x + 0.5) / self.patch_inner), math.floor((y + 0.5) / self.patch_inner)
        return row * self.nx + column if 0 <= column < self.nx and 0 <= row < self.ny else None

    def patches_overlapping(self, polygon) -> list[Patch]:
        """Return the patches whose outer boxes a convex polygon touches.

        Parameters
        ----------
        polygon : array-like, (n, 2)
            Corners in order, RA and Dec; sides are great circles.
        """
        x, y = self.sky_to_pixel(*np.asarray(polygon, float).T)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return []  # beyond the horizon of the tangent plane
        reach, size = self.border + 0.5, self.patch_inner
        columns = range(max(0, int((x.min() - reach) // size)), min(self.nx, int((x.max() + reach) // size) + 1))
        rows = range(max(0, int((y.min() - reach) // size)), min(self.ny, int((y.max() + reach) // size) + 1))
        patches = [self.patch(row * self.nx + column) for row in rows for column in columns]
        return [patch for patch in patches if _overlap(x, y, patch.bbox)]

    def _wcs(self, box: tuple[int, int, int, int]) -> Any:
        from astropy.wcs import WCS

        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [self.origin[0] - box[0] + 1, self.origin[1] - box[1] + 1]
        wcs.wcs.cd = np.diag([-self.pixel_scale / 3600, self.pixel_scale / 3600])
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.set()
        wcs.array_shape = (box[3] - box[1], box[2] - box[0])
        return wcs

    def _corners(self, box: tuple[int, int, int, int]) -> np.ndarray:
        x0, y0, x1, y1 = (edge - 0.5 for edge in box)
        return np.stack(self.pixel_to_sky([x0, x1, x1, x0], [y0, y0, y1, y1]), axis=1)


def _overlap(x: np.ndarray, y: np.ndarray, box: tuple[int, int, int, int]) -> bool:
    """Return whether a convex polygon and a box share a point: no side of either separates them."""
    bx, by = np.array([box[0], box[2], box[2], box[0]]) - 0.5, np.array([box[1], box[1], box[3], box[3]]) - 0.5
    normals = [(1.0, 0.0), (0.0, 1.0), *zip(np.roll(y, -1) - y, x - np.roll(x, -1))]
    for nx, ny in normals:
        one, other = nx * x + ny * y, nx * bx + ny * by
        if one.max() < other.min() or other.max() < one.min():
            return False
    return True

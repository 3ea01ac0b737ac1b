"""Sizes that all DECam CCDs share, and the rectangle type in which sections are given."""

from typing import NamedTuple

RAW_SHAPE = (4146, 2160)
"""Shape (ny, nx) of a raw CCD: two amplifiers side by side, each with its prescan, overscan and postscan."""

TRIMMED_SHAPE = (4096, 2048)
"""Shape (ny, nx) of the light-sensitive pixels."""

PIXEL_SCALE = 0.263
"""Arcseconds per pixel, mean over the field; 0.2623 at its centre."""

PIXEL_SIZE_MM = 0.015
"""Width and height of a pixel."""

NUMBER_OF_EXTENSIONS = 70
"""Image extensions of a raw file: 62 science CCDs and 8 for guiding and focus."""


class Box(NamedTuple):
    """A rectangle of pixels, 0-based and half-open: ``x0 <= x < x1``, ``y0 <= y < y1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array: rows, columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @classmethod
    def from_section(cls, section: str) -> "Box":
        """Return the rectangle of an IRAF section as in headers, ``[x0:x1,y0:y1]``, 1-based and closed.

        A section written in read order, with its limits reversed, gives the same rectangle.
        """
        (xa, xb), (ya, yb) = (sorted(map(int, part.split(":"))) for part in section.strip(" []").split(","))
        return cls(xa - 1, ya - 1, xb, yb)

    def section(self) -> str:
        """Return the rectangle as an IRAF section."""
        return f"[{self.x0 + 1}:{self.x1},{self.y0 + 1}:{self.y1}]"

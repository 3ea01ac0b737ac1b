"""Convolution by FFT in tiles, so that the kernel may vary over the image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

TILE = 256


@dataclass(frozen=True)
class Tile:
    """A box of pixels, half-open."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index into an array [y, x]."""
        return np.s_[self.y0 : self.y1, self.x0 : self.x1]

    @property
    def centre(self) -> tuple[float, float]:
        """Position x, y of the middle."""
        return (self.x0 + self.x1 - 1) / 2, (self.y0 + self.y1 - 1) / 2


class Tiles:
    """An image cut into tiles, with the transforms that convolve them without wrap-around.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        Shape of the image.
    half : `int`
        Half width of the widest kernel.
    tile : `int`, optional
        Width and height of a tile, pixels; the tiles are made equal and at most this large.
    """

    def __init__(self, shape: tuple[int, int], half: int, tile: int = TILE) -> None:
        self.shape, self.half = shape, half
        counts = [max(1, -(-n // tile)) for n in shape]
        self.step = tuple(-(-n // count) for n, count in zip(shape, counts))
        self.size = tuple(next_fast_len(step + 2 * half, real=True) for step in self.step)

    def block(self, tile: Tile, tiles: int = 2) -> tuple[float, float]:
        """Return the position x, y of the middle of the block of so many tiles a side that a tile belongs to.

        What varies less than the image is made once a block.
        """
        middle = []
        for at, step, n in zip((tile.x0, tile.y0), self.step[::-1], self.shape[::-1]):
            low = at // (tiles * step) * tiles * step
            middle.append((low + min(low + tiles * step, n) - 1) / 2)
        return middle[0], middle[1]

    def __iter__(self) -> Iterator[Tile]:
        ny, nx = self.shape
        for y in range(0, ny, self.step[0]):
            for x in range(0, nx, self.step[1]):
                yield Tile(x, y, min(x + self.step[1], nx), min(y + self.step[0], ny))

    def spectrum(self, image: np.ndarray, tile: Tile) -> np.ndarray:
        """Return the transform of a tile with its surroundings; zeros beyond the image's edge."""
        ny, nx = self.shape
        box = np.zeros(self.size, np.float32)
        y0, x0 = tile.y0 - self.half, tile.x0 - self.half
        low_y, low_x = max(y0, 0), max(x0, 0)
        high_y, high_x = min(tile.y1 + self.half, ny), min(tile.x1 + self.half, nx)
        box[low_y - y0 : high_y - y0, low_x - x0 : high_x - x0] = image[low_y:high_y, low_x:high_x]
        return rfft2(box, overwrite_x=True)

    def kernel_spectrum(self, kernel: np.ndarray) -> np.ndarray:
        """Return the transform of a kernel (odd size, at most ``2*half + 1``) centred on its middle pixel."""
        size = len(kernel)
        if size > 2 * self.half + 1:
            raise ValueError(f"kernel of {size} pixels is wider than the tiles allow ({2 * self.half + 1})")
        box = np.zeros(self.size, np.float32)
        box[:size, :size] = kernel
        return rfft2(np.roll(box, (-(size // 2), -(size // 2)), (0, 1)), overwrite_x=True)

    def crop(self, spectrum: np.ndarray, tile: Tile) -> np.ndarray:
        """Return the tile's pixels of a product of spectra."""
        box = irfft2(spectrum, self.size, overwrite_x=True)
        return box[self.half : self.half + tile.y1 - tile.y0, self.half : self.half + tile.x1 - tile.x0]


def convolve(
    image: np.ndarray, kernel: Callable[[float, float], np.ndarray], half: int, tile: int = TILE
) -> np.ndarray:
    """Return an image convolved with a kernel that varies over it, constant within a tile.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx)
        Finite everywhere.
    kernel : callable
        Gives the kernel, odd size ≤ ``2*half + 1``, at pixel x, y.
    half : `int`
        Half width of the widest kernel.
    tile : `int`, optional
        Width of the tiles.
    """
    out = np.empty(image.shape, np.float32)
    tiles = Tiles(image.shape, half, tile)
    for box in tiles:
        out[box.slices] = tiles.crop(tiles.spectrum(image, box) * tiles.kernel_spectrum(kernel(*box.centre)), box)
    return out

"""What one CCD is like: its bias structure, flat field and defects, the same in every exposure of a survey."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE

BAD_CP, BAD_DES, SUSPECT = 1, 2, 4
"""Defects: named by the Community Pipeline's mask, by the DES mask, suspect in the DES mask."""


@dataclass(frozen=True)
class Ccd:
    """The fixed pattern of a CCD, all arrays (4096, 2048).

    Attributes
    ----------
    bias : `numpy.ndarray`, float32
        Bias structure, ADU above the overscan of its row.
    flat : `numpy.ndarray`, float32
        Response to light, with median 1 over the CCD; dead pixels and columns are in it.
    hot : `numpy.ndarray`, float32
        Dark current, e-/s; zero but for hot pixels and columns.
    defects : `numpy.ndarray`, uint8
        Bits `BAD_CP`, `BAD_DES`, `SUSPECT`.
    """

    bias: np.ndarray
    flat: np.ndarray
    hot: np.ndarray
    defects: np.ndarray


@lru_cache(maxsize=4)
def ccd(seed: int, detector: int, band: str) -> Ccd:
    """Return a CCD's fixed pattern; bias and defects depend on seed and detector, the flat on the band too."""
    defects, dead, hot = _defects(np.random.default_rng([seed, 401, detector]))
    flat = _flat(np.random.default_rng([seed, 402, detector, *band.encode()])) * dead
    flat /= np.median(flat[::7, ::7])
    return Ccd(_bias(np.random.default_rng([seed, 403, detector]), detector), flat, hot, defects)


def _bias(rng, detector: int) -> np.ndarray:
    ny, nx = TRIMMED_SHAPE
    image = np.zeros(TRIMMED_SHAPE, np.float32)
    y = np.arange(ny, dtype=np.float32)
    for amplifier in known_detector(detector).amplifiers:
        width = amplifier.bbox.x1 - amplifier.bbox.x0
        read = np.arange(width)[:: -1 if amplifier.flip_x else 1]
        row = np.arange(ny)[:: -1 if amplifier.flip_y else 1]
        # The first columns read are high, lines far from the readout glow a little, columns have their own offsets.
        pattern = rng.uniform(2, 6) * np.exp(-read / rng.uniform(20, 60)) + rng.normal(0, 0.4, width)
        pattern = pattern[None, :] + rng.uniform(0.5, 1.5) * (row / ny)[:, None] ** 2
        pattern = pattern + 0.8 * np.sin(2 * np.pi * y / rng.uniform(500, 1500))[:, None] * np.cos(
            2 * np.pi * np.arange(width) / rng.uniform(300, 900)
        )
        image[amplifier.bbox.slices] = pattern
    return image + rng.normal(0, 0.15, TRIMMED_SHAPE).astype(np.float32)


def _flat(rng) -> np.ndarray:
    ny, nx = TRIMMED_SHAPE
    x, y = np.arange(nx, dtype=np.float32), np.arange(ny, dtype=np.float32)[:, None]
    u, v = x / nx - 0.5, y / ny - 0.5
    slope = rng.normal(0, 0.02, 2)
    # Illumination: a gradient and vignetting away from an off-centre axis.
    center = rng.uniform(-0.3, 0.3, 2)
    image = 1 + slope[0] * u + slope[1] * v - 0.05 * ((u - center[0]) ** 2 + (v - center[1]) ** 2)
    image *= 1 + 0.01 * rng.standard_normal(TRIMMED_SHAPE, np.float32)
    for _ in range(rng.integers(6, 13)):
        cx, cy, radius = rng.uniform(0, nx), rng.uniform(0, ny), rng.uniform(15, 60)
        reach = int(radius * 1.6)
        rows = slice(max(int(cy) - reach, 0), min(int(cy) + reach, ny))
        columns = slice(max(int(cx) - reach, 0), min(int(cx) + reach, nx))
        distance = np.hypot(x[columns] - cx, y[rows] - cy)
        ring = np.exp(-0.5 * ((distance - radius) / (0.2 * radius)) ** 2)
        image[rows, columns] *= 1 - rng.uniform(0.01, 0.05) * ring
    # Field lines bend at the edges: the outermost pixels are larger.
    for axis, size in ((x, nx), (y, ny)):
        image *= 1 + 0.05 * np.exp(-np.minimum(axis, size - 1 - axis) / 6.0)
    return image.astype(np.float32)


def _defects(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the defect bits, the response (1, or that of a dead pixel) and the dark current in e-/s."""
    ny, nx = TRIMMED_SHAPE
    bits = np.zeros(TRIMMED_SHAPE, np.uint8)
    response, hot = np.ones(TRIMMED_SHAPE, np.float32), np.zeros(TRIMMED_SHAPE, np.float32)

    def mark(where, either: bool = True) -> None:
        # The two masks were made apart: each knows most of the defects, together they know all.
        known = rng.choice([BAD_CP, BAD_DES, BAD_CP | BAD_DES], p=[0.15, 0.15, 0.7]) if either else BAD_CP | BAD_DES
        bits[where] |= np.uint8(known)

    for _ in range(rng.integers(3, 7)):  # dead or trapped columns, from a point on
        column, start = rng.integers(40, nx - 40), rng.integers(0, ny - 500)
        where = (slice(start, ny), slice(column, column + rng.integers(1, 3)))
        response[where] = rng.choice([0.0, 0.35])
        mark(where)
    for _ in range(rng.integers(3, 7)):  # hot columns
        column, start = rng.integers(40, nx - 40), rng.integers(0, ny - 500)
        where = (slice(start, ny), slice(column, column + 1))
        hot[where] = rng.uniform(3, 40)
        mark(where)
    for _ in range(150):  # hot and dead pixels
        where = (slice(y := rng.integers(0, ny), y + 1), slice(x := rng.integers(0, nx), x + 1))
        if rng.random() < 0.5:
            hot[where] = rng.uniform(5, 150)
        else:
            response[where] = rng.uniform(0, 0.4)
        mark(where)
    for _ in range(2):  # a dead cluster
        size = rng.integers(4, 15)
        y, x = rng.integers(50, ny - 50), rng.integers(50, nx - 50)
        where = (slice(y, y + size), slice(x, x + size))
        response[where] = 0
        mark(where, either=False)
    for _ in range(3):  # suspect: response a little off in a way that light level changes
        y, x = rng.integers(50, ny - 150), rng.integers(50, nx - 50)
        bits[y : y + 100, x : x + 3] |= SUSPECT
    return bits, response, hot


def write_masks(directory: Path, seed: int, detectors: Iterable[int], band: str) -> None:
    """Write the bad-pixel masks of both families, named as the real ones, and their ``index.dat``.

    As there, every CCD has its masks: those of CCDs that are not simulated are good everywhere.
    """
    from astropy.io import fits

    simulated = set(detectors)
    blank = fits.CompImageHDU(np.zeros(TRIMMED_SHAPE, np.int16))
    for family, name in (
        ("cp", "DECam_Master_20140209v2_cd_{:02d}.fits"),
        ("des", "D_n20150105t0115_c{:02d}_r2134p01_bpm.fits"),
    ):
        folder = directory / family
        folder.mkdir(parents=True, exist_ok=True)
        first_blank = None
        for number in DETECTORS:
            path = folder / name.format(number)
            if number not in simulated:
                if first_blank is None:
                    blank.writeto(path, overwrite=True)
                    first_blank = path
                else:
                    shutil.copy(first_blank, path)
                continue
            bits = ccd(seed, number, band).defects
            if family == "cp":
                mask = (bits & BAD_CP).astype(np.int16)
            else:
                mask = np.where(bits & BAD_DES, 1, np.where(bits & SUSPECT, 512, 0)).astype(np.int16)
            hdu = fits.CompImageHDU(mask)
            hdu.header["CCDNUM"] = number
            hdu.header["DETPOS"] = known_detector(number).name
            hdu.writeto(path, overwrite=True)
        (folder / "index.dat").write_text("".join(f"{name.format(number)}\n" for number in DETECTORS))

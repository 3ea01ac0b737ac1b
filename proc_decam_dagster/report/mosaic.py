"""Focal-plane mosaics as PNG, drawn without matplotlib: half a second of every night's run would be its import."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.report.drawing import LIMIT_BYTES
from proc_decam_dagster.report.images import binned, stretch_limits

PIXEL_MM = 0.015
SIDE = 900
"""Pixels of the longer side of what is shown of the focal plane; fewer if the picture grew too big."""
MARGIN, BAR = 6, 14
BLANK = 255
"""Grey of pixels without a value, as of the paper."""
NUMBER = (255, 127, 14)


def focal_plane(images: Mapping[int, np.ndarray], title: str, unit: str, *, binning: int) -> bytes:
    """Return a mosaic of binned detector images at their places in the focal plane, with a bar of the grey scale.

    Parameters
    ----------
    images : mapping [`int`, `numpy.ndarray`]
        Detector → image (4096, 2048), already binned; NaN where there is no value.
    title, unit : `str`
        What is shown, and the unit of its values.
    binning : `int`
        CCD pixels along a side of an image's pixel.
    """
    if not images:
        return _png(_written(f"{title}: no data"))
    side = SIDE
    while True:
        picture = _drawn(images, title, unit, binning, side)
        if len(picture) <= LIMIT_BYTES or side < SIDE / 4:
            return picture
        # Noise, of which such pictures are made, takes as many bytes as it has pixels.
        side = int(side * np.clip(np.sqrt(LIMIT_BYTES / len(picture)), 0.5, 0.95))


def _grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return an image as grey levels, black at ``low`` and white at ``high``."""
    with np.errstate(invalid="ignore"):
        levels = np.clip((image - low) / (high - low), 0, 1) * 255
    return np.where(np.isfinite(levels), levels, BLANK).astype(np.uint8)


def _drawn(images: Mapping[int, np.ndarray], title: str, unit: str, binning: int, side: int) -> bytes:
    # The focal plane's x runs along CCD columns for DECam's long side: rows are drawn along y.
    centres = {d: np.array(DETECTORS[d].center_mm)[::-1] for d in images}
    shape = next(iter(images.values())).shape
    half = np.array(shape) * binning * PIXEL_MM / 2
    low, high = (f([centres[d] for d in images], axis=0) for f in (np.min, np.max))
    low, high = low - half - 1, high + half + 1
    pixels = side / max(high - low)
    wide, tall = (np.ceil((high - low) * pixels)).astype(int)
    size = tuple(np.maximum(1, np.round(2 * half * pixels)).astype(int).tolist())
    # Means of what falls on a pixel, and their range: single values of noise would hide what lies below it.
    shown = {d: binned(image, max(1, shape[0] // size[0])) for d, image in images.items()}
    black, white = stretch_limits(np.concatenate([image.ravel() for image in shown.values()]), high=95)
    scale = [f"{white:.4g} {unit}", f"{black:.4g}"]
    font = ImageFont.load_default(12)
    title_box, scale_box = font.getbbox(title), font.getbbox(max(scale, key=len))
    top = title_box[3] + 2 * MARGIN
    picture = Image.new(
        "RGB", (max(wide + BAR + scale_box[2], title_box[2]) + 4 * MARGIN, top + tall + MARGIN), (BLANK,) * 3
    )
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, (0, 0, 0), font)
    for detector, image in shown.items():
        x, y = (centres[detector] - low) * pixels
        corner = (round(MARGIN + x - size[0] / 2), round(top + tall - y - size[1] / 2))
        grey = Image.fromarray(np.ascontiguousarray(_grey(image, black, white).T[::-1]))
        picture.paste(grey.resize(size, Image.Resampling.BOX), corner)
        # At a corner, and outlined: it hides little, and is read on noise too.
        place = (corner[0] + 3, corner[1] + 2)
        draw.text(place, str(detector), NUMBER, font, stroke_width=2, stroke_fill=(0, 0, 0))
    left = wide + 2 * MARGIN
    ramp = np.repeat(np.linspace(255, 0, tall).astype(np.uint8)[:, None], BAR, axis=1)
    picture.paste(Image.fromarray(ramp), (left, top))
    draw.text((left + BAR + MARGIN, top), scale[0], (0, 0, 0), font)
    draw.text((left + BAR + MARGIN, top + tall), scale[1], (0, 0, 0), font, anchor="ls")
    return _png(picture)


def _written(text: str) -> Image.Image:
    picture = Image.new("RGB", (320, 32), (BLANK,) * 3)
    ImageDraw.Draw(picture).text((MARGIN, MARGIN), text, (0, 0, 0), ImageFont.load_default(12))
    return picture


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # A palette: noise, of which astronomical images are made, takes a third of the room.
    picture.quantize(256).save(buffer, "png")
    return buffer.getvalue()

"""Figures as PNG bytes, bounded in size: what Dagster's event log and a web page have room for."""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 80
LIMIT_BYTES = 190_000


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def png(figure: "Figure") -> bytes:
    """Return a figure as PNG of 256 colours, at a resolution at which it stays below `LIMIT_BYTES`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    dpi = DPI
    while True:
        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        buffer = io.BytesIO()
        # A palette: noise, of which astronomical images are made, takes a third of the room.
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256).save(buffer, "png")
        if buffer.tell() <= LIMIT_BYTES or dpi < DPI / 4:
            return buffer.getvalue()
        dpi *= 0.8


def nothing(message: str) -> bytes:
    """Return a picture that says that there is nothing to show."""
    figure = new_figure(4, 1)
    figure.text(0.5, 0.5, message, ha="center", va="center")
    return png(figure)

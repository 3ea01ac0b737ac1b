"""Whether a bad-pixel mask's file is what its name says: a FITS image of a trimmed CCD."""

import threading
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.errors import SurveyError

_WARNINGS = threading.Lock()
"""Held while warnings are turned off, which is done for all threads at once."""


def read_mask(path: Path, name: str = "", fix: str = "check --bpm-url") -> np.ndarray:
    """Return a mask file's image, (4096, 2048) int32, in the frame of the trimmed CCD.

    Parameters
    ----------
    path : `pathlib.Path`
    name : `str`, optional
        What to call it in an error; its path by default.
    fix : `str`, optional
        What to do about an error.

    Raises
    ------
    SurveyError
        If the file cannot be read or has another shape.
    """
    name = name or str(path)
    try:
        with _WARNINGS, warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            images = [h.data for h in hdus if h.data is not None and h.data.ndim == 2]
    except (OSError, ValueError, TypeError) as error:
        raise SurveyError(f"mask {name} cannot be read ({error})", "a FITS image", fix) from None
    if not images or images[0].shape != TRIMMED_SHAPE:
        found = f"an image of shape {images[0].shape}" if images else "no image"
        raise SurveyError(f"mask {name} holds {found}", f"a trimmed CCD, {TRIMMED_SHAPE}", fix)
    return images[0].astype(np.int32)

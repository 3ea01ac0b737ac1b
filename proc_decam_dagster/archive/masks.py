"""Bad-pixel masks of the Community Pipeline (`cp/`) and of DES (`des/`), from a site that lists them in `index.dat`."""

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

from proc_decam_dagster.archive.client import HttpSite
from proc_decam_dagster.archive.refcats import fetch_files
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.errors import SurveyError

URL = "https://epyc.astro.washington.edu/~stevengs/decam_bpm"
URL_VARIABLE = "PROC_DECAM_BPM_URL"
FAMILIES = ("cp", "des")
_WARNINGS = threading.Lock()
"""Held while warnings are turned off, which is done for all threads at once."""


def fetch_masks(
    directory: str | os.PathLike,
    base_url: str | None = None,
    *,
    jobs: int = 4,
    progress: Callable[[int, int, str], None] | None = None,
    site: HttpSite | None = None,
) -> dict[str, list[Path]]:
    """Fetch all mask files into ``directory/{cp,des}/``; those that are on disk are not fetched again.

    Each file is read after it came, whole: one that is no image of a trimmed CCD is removed again.

    Parameters
    ----------
    directory : `os.PathLike`
        Where to.
    base_url : `str`, optional
        Address of the site; by default the environment's ``PROC_DECAM_BPM_URL``, else the real one.

    Returns
    -------
    masks : `dict` [`str`, `list` [`pathlib.Path`]]
        Files by family.

    Raises
    ------
    SurveyError
        If the site lists none of a family, or what it sends is no mask.
    """
    site, directory = site or HttpSite(base_url or os.environ.get(URL_VARIABLE) or URL), Path(directory).absolute()
    work: list[tuple[str, str, Path]] = []
    for family in FAMILIES:
        names = [n.strip().removeprefix("./") for n in site.text(f"{family}/index.dat").splitlines()]
        # A listing is not trusted to stay in its folder.
        names = [n for n in names if ".fits" in n and "/" not in n]
        if not names:
            raise SurveyError(f"{site.url}/{family}/index.dat lists no FITS file", "one name a line", "check --bpm-url")
        (directory / family).mkdir(parents=True, exist_ok=True)
        work += [(family, f"{family}/{n}", directory / family / n) for n in names]
    fetch_files(site, [(source, path) for _, source, path in work], jobs, progress, read_mask)
    masks: dict[str, list[Path]] = {}
    for family, _, path in work:
        masks.setdefault(family, []).append(path)
    return masks


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

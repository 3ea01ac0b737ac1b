"""DECam raws with obs_base: headers read without the stack, so that any process may, then `RawIngestTask`."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from astropy.io import fits

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.science_pipelines.release import stack


@dataclass(frozen=True)
class RawFile:
    """What a raw file's headers say: its path, EXPNUM, and the CCDNUM of its science extensions."""

    path: str
    exposure: int
    detectors: tuple[int, ...]


def read_raw(path: str) -> RawFile:
    """Read a raw file's headers; no pixels are read.

    Raises
    ------
    SurveyError
        If the file is missing, truncated, or no DECam raw.
    """
    fix = "download it again with `proc-decam download`"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="File may have been truncated")
            with fits.open(path, disable_image_compression=True) as hdus:
                primary = hdus[0].header
                ccds = {hdu.header.get("CCDNUM") for hdu in hdus[1:]}
    except (OSError, UserWarning) as error:
        raise SurveyError(f"{path} cannot be read ({error})", "a whole FITS file", fix) from error
    detectors = tuple(sorted(ccds & set(DETECTORS)))
    if str(primary.get("INSTRUME", "")).strip().lower() != "decam" or "EXPNUM" not in primary or not detectors:
        raise SurveyError(f"{path} is no DECam raw", "INSTRUME, EXPNUM, and extensions with a CCDNUM", fix)
    return RawFile(str(path), int(primary["EXPNUM"]), detectors)


def ingest_raws(butler: Any, raw_files: Iterable[RawFile], *, transfer: str, run: str) -> None:
    """Ingest raws; what an earlier, interrupted call has ingested is left as it is.

    Raises
    ------
    SurveyError
        If a file's header cannot be translated, or its exposure cannot be registered; those before it are ingested.
    """
    base = stack("lsst.obs.base")
    config = base.RawIngestConfig()
    config.transfer = transfer
    config.failFast = True
    task = base.RawIngestTask(config=config, butler=butler)
    try:
        task.run(
            [raw.path for raw in raw_files],
            run=run,
            group_files=False,
            # One transaction an exposure: a batch that failed half-way is given again, file by file.
            skip_existing_exposures=True,
            track_file_attrs=transfer != "direct",
            search_indexes=False,
        )
    except RuntimeError as error:
        # The task names the file; why it failed stands in the cause.
        cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
        raise SurveyError(f"{error}{cause}", "a DECam raw that obs_decam can read") from error

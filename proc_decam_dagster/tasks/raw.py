"""What the calibration tasks need to know of a raw frame: its detector, amplifiers, overscans and identifiers."""

from typing import Any

from astropy.time import Time

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.filters import band_of
from proc_decam_dagster.pixels.isr import measure_overscans
from proc_decam_dagster.pixels.overscan import Overscan
from proc_decam_dagster.pixels.readout import Readout, readouts


def card(raw: Any, key: str, default: Any = None) -> Any:
    """Return a card of the detector's header, else of the exposure's."""
    return raw.header[key] if key in raw.header else raw.primary.get(key, default)


def detector_id(raw: Any) -> int:
    """Return the detector id of a raw frame."""
    return int(raw.header["CCDNUM"])


def exposure_id(raw: Any) -> int:
    """Return the exposure id of a raw frame."""
    return int(card(raw, "EXPNUM"))


def amplifiers(raw: Any) -> tuple[tuple[Readout, ...], list[Overscan]]:
    """Return the amplifiers of a raw frame and their overscans."""
    parts = readouts(raw.header, DETECTORS[detector_id(raw)])
    return parts, measure_overscans(raw.data, parts)


def describe(raw: Any) -> dict[str, Any]:
    """Return the identifiers of a raw frame, as metadata of what is made of it.

    Returns
    -------
    metadata : `dict`
        ``exposure, detector, physical_filter, band, exptime`` (s), ``mjd`` (middle of the exposure, TAI), ``object``.
    """
    exptime = float(card(raw, "EXPTIME", 0.0))
    physical_filter = str(card(raw, "FILTER", ""))
    start = Time(float(card(raw, "MJD-OBS")), format="mjd", scale="utc")
    return {
        "exposure": exposure_id(raw),
        "detector": detector_id(raw),
        "physical_filter": physical_filter,
        "band": band_of(physical_filter),
        "exptime": exptime,
        "mjd": float(start.tai.mjd) + exptime / 2 / 86400,
        "object": str(card(raw, "OBJECT", "")),
    }

"""Dimension records of an exposure from its headers, through astro_metadata_translator, as obs_base makes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from astro_metadata_translator import DecamTranslator, ObservationInfo
from lsst.daf.butler import Timespan

from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.errors import SurveyError

REQUIRED = {
    "instrument",
    "exposure_id",
    "observation_id",
    "datetime_begin",
    "exposure_time_requested",
    "observation_type",
    "physical_filter",
    "observing_day",
    "exposure_group",
}
"""Properties without which there is no exposure record."""

WANTED = REQUIRED | {
    "datetime_end",
    "dark_time",
    "observation_reason",
    "observing_day_offset",
    "observation_counter",
    "science_program",
    "object",
    "tracking_radec",
    "boresight_rotation_angle",
    "boresight_rotation_coord",
    "altaz_begin",
    "has_simulated_content",
    "group_counter_start",
    "group_counter_end",
    "can_see_sky",
}


@dataclass(frozen=True)
class ExposureRecords:
    """The dimension records that one raw file needs, as dictionaries of field values; insert them in this order."""

    group: dict[str, Any]
    day_obs: dict[str, Any]
    exposure: dict[str, Any]


def observation_info(primary: Mapping[str, Any], extension: Mapping[str, Any] | None = None, name: str = "") -> Any:
    """Return what astro_metadata_translator makes of a header, known corrections applied.

    Parameters
    ----------
    primary : mapping
        Primary header.
    extension : mapping, optional
        Header of any detector: it says in which system the pointing is (RADESYS), which raw primary headers do not.
    name : `str`, optional
        Name of the file, for messages.

    Raises
    ------
    SurveyError
        Raised if the header is not DECam's, or lacks what an exposure record needs.
    """
    header = dict(primary)
    for key in ("RADESYS", "EQUINOX"):
        if extension is not None and key in extension:
            header.setdefault(key, extension[key])
    try:
        info = ObservationInfo(
            header, filename=name, translator_class=DecamTranslator, subset=WANTED, required=REQUIRED, quiet=True
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SurveyError(
            f"{name or 'a header'} cannot be translated: {reason}", "a raw DECam header", "download it again or leave it out"
        ) from error
    if info.physical_filter not in FILTERS:
        raise SurveyError(
            f"{name or 'a header'} has FILTER {info.physical_filter!r}",
            "one of DECam's filters",
            "leave the exposure out: `--select`",
        )
    return info


def exposure_records(primary: Mapping[str, Any], extension: Mapping[str, Any] | None = None, name: str = "") -> ExposureRecords:
    """Return the dimension records of an exposure; parameters and errors as `observation_info`.

    Times are TAI. An end before the beginning, as bad headers have it, becomes the beginning. Where the header is
    silent a field is None: the registry accepts it.
    """
    info = observation_info(primary, extension, name)
    begin, end = info.datetime_begin, info.datetime_end
    if end is None or end < begin:
        end = begin
    radec, altaz = info.tracking_radec, info.altaz_begin
    on_sky = radec is not None and info.boresight_rotation_coord == "sky"
    offset = info.observing_day_offset
    day = info.observing_day
    return ExposureRecords(
        group={"instrument": info.instrument, "name": info.exposure_group},
        day_obs={
            "instrument": info.instrument,
            "id": day,
            "timespan": None if offset is None else Timespan.from_day_obs(day, round(offset.to_value("s"))),
        },
        exposure={
            "instrument": info.instrument,
            "id": info.exposure_id,
            "day_obs": day,
            "group": info.exposure_group,
            "physical_filter": info.physical_filter,
            "obs_id": info.observation_id,
            "exposure_time": float(info.exposure_time_requested.to_value("s")),
            "dark_time": None if info.dark_time is None else float(info.dark_time.to_value("s")),
            "observation_type": info.observation_type,
            "observation_reason": info.observation_reason,
            "seq_num": info.observation_counter,
            "seq_start": info.group_counter_start,
            "seq_end": info.group_counter_end,
            "target_name": info.object,
            "science_program": info.science_program,
            "tracking_ra": None if radec is None else float(radec.icrs.ra.degree),
            "tracking_dec": None if radec is None else float(radec.icrs.dec.degree),
            "sky_angle": float(info.boresight_rotation_angle.degree) if on_sky else None,
            "azimuth": None if altaz is None else float(altaz.az.degree),
            "zenith_angle": None if altaz is None else float(altaz.zen.degree),
            "has_simulated": bool(info.has_simulated_content),
            "can_see_sky": info.can_see_sky,
            "timespan": Timespan(begin.tai, end.tai),
        },
    )

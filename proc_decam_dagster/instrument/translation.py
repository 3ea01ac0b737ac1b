"""Dimension records of an exposure from its headers, through astro_metadata_translator, as obs_base makes them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from astro_metadata_translator import DecamTranslator, ObservationInfo
from astropy.time import Time
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


def observation_info(header: Mapping[str, Any], name: str = "") -> ObservationInfo:
    """Return what astro_metadata_translator makes of a header, known corrections applied.

    Parameters
    ----------
    header : mapping
        Primary header, with that of any detector below it: it says in which system the pointing is (RADESYS), which
        raw primary headers do not.
    name : `str`, optional
        Name of the file, for messages.

    Raises
    ------
    SurveyError
        Raised if the header is not DECam's, or lacks what an exposure record needs.
    """
    name = name or "a header"
    try:
        info = ObservationInfo(
            dict(header), filename=name, translator_class=DecamTranslator, subset=WANTED, required=REQUIRED, quiet=True
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise SurveyError(f"{name} cannot be translated: {reason}", "the header of a raw DECam exposure") from error
    if info.physical_filter not in FILTERS:
        raise SurveyError(f"{name} has FILTER {info.physical_filter!r}", "one of " + ", ".join(map(repr, FILTERS)))
    return info


def day_obs_record(day_obs: int) -> dict[str, Any]:
    """Return the record of an observing day (YYYYMMDD): 24 hours from noon TAI."""
    noon = datetime.strptime(str(day_obs), "%Y%m%d") + timedelta(hours=12)
    offset = DecamTranslator.observing_date_to_offset(Time(noon, scale="tai"))
    span = None if offset is None else Timespan.from_day_obs(day_obs, round(offset.to_value("s")))
    return {"instrument": DecamTranslator.name, "id": day_obs, "timespan": span}


def exposure_record(header: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return the fields of an exposure's dimension record; parameters and errors as `observation_info`.

    Its ``group`` and ``day_obs`` need records of their own first. Times are TAI. An end before the beginning, as bad
    headers have it, becomes the beginning. Where the header is silent a field is None, which the registry accepts.
    """
    info = observation_info(header, name)
    begin, end = info.datetime_begin, info.datetime_end
    if end is None or end < begin:
        end = begin
    radec, altaz = info.tracking_radec, info.altaz_begin
    on_sky = radec is not None and info.boresight_rotation_coord == "sky"
    return {
        "instrument": info.instrument,
        "id": info.exposure_id,
        "day_obs": info.observing_day,
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
    }

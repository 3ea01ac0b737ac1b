"""The search for a survey: the exposures of its proposals, and the calibrations of every night that has some."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta

import numpy as np
from astropy.coordinates import Angle
from astropy.table import Column, MaskedColumn, Table
from astropy.time import Time, TimeDelta

from proc_decam_dagster.archive.client import Archive
from proc_decam_dagster.archive.errors import QueryRefused
from proc_decam_dagster.archive.threads import in_threads
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.nights import night_of
from proc_decam_dagster.survey.proc_types import PROC_TYPES

log = logging.getLogger(__name__)

OUTFIELDS = (
    "depth", "obs_type", "caldat", "exposure", "md5sum", "proc_type", "seeing", "prod_type", "archive_filename",
    "dateobs_min", "DEC", "OBJECT", "EXPNUM", "FILTER", "RA", "PROPID", "AIRMASS",
)  # fmt: skip
"""What the archive is asked for, in the order of the table's columns; the computed columns follow."""
SIZE = "filesize"
"""Asked for besides: the table's last column, in bytes, where the archive gives it."""
SHUTTER_SECONDS = 1.0
"""Time that DECam's shutter takes to cross the focal plane: the middle of an exposure is later by half of it, as the
survey's tables have it."""
OBJECT, ZERO, FLAT = (PROC_TYPES[name].obs_type for name in ("drp", "bias", "flat"))
CALIBRATIONS = (ZERO, FLAT)
"""Observation types that are sought by night, whatever proposal they were taken for; others by proposal."""
ARCHIVE_TYPES = {"bias": ZERO, "flat": FLAT}
"""What the table of missing calibrations calls them → what the archive does."""
TELESCOPES = {"decam": "ct4m"}
NEAREST_DAYS = 30
"""How far from a night that lacks calibrations some are looked for."""
NIGHTS_APART = 5
"""Nights of calibrations are asked for together where no more days than these lie between."""
CONNECTIONS = 4
_SEXAGESIMAL = re.compile(r"\s*([+-]?)(\d+):([0-5]?\d):([0-5]?\d(?:\.\d*)?)\s*")

Progress = Callable[[int, int, str], None]


def query_exposures(
    archive: Archive,
    proposals: str | Iterable[str],
    *,
    instrument: str = "decam",
    telescope: str | None = None,
    obs_types: Sequence[str] = (OBJECT, ZERO, FLAT),
    proc_types: Sequence[str] = ("raw",),
    dates: tuple[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Table, Table]:
    """Return the exposure table of one or more proposals, and the table of calibrations that its nights lack.

    Parameters
    ----------
    archive : `Archive`
        Where to search.
    proposals : `str` or iterable of `str`
        Proposal ids such as ``2019A-0337``; each is taken by the archive as a regular expression.
    instrument, telescope : `str`
        As the archive calls them; the telescope is the instrument's own if it is not given.
    obs_types : sequence of `str`
        Observation types as the archive calls them. `CALIBRATIONS` are sought on the nights of the object exposures,
        the flats in their bands; all others among the proposals' own.
    proc_types : sequence of `str`
        Of what is sought by proposal: ``raw``, ``instcal``; calibrations are always raw.
    dates : `tuple` [`str`, `str`], optional
        First and last caldat (YYYY-MM-DD or YYYYMMDD), both included.
    progress : callable, optional
        Called with (searches done, searches in all, what).

    Returns
    -------
    exposures : `astropy.table.Table`
        Columns as in `OUTFIELDS`, then dateobs_midpoint (Time), mjd, mjd_midpoint, night (`int` caldat),
        RA(deg), DEC(deg) [deg], band (first word of FILTER); filesize [byte] if the archive gives any.
    missing : `astropy.table.Table`
        observation_type (``bias`` or ``flat``), caldat, band (`None` for bias).

    Raises
    ------
    SurveyError
        If nothing is found, or as `Archive.find` does.
    """
    proposals = [proposals] if isinstance(proposals, str) else list(proposals)
    fixed = _fixed(instrument, telescope)
    when = [["caldat", *(_caldat(d) for d in dates)]] if dates else []
    if when and when[0][1] > when[0][2]:
        raise SurveyError(
            f"the dates from {when[0][1]} to {when[0][2]} hold no night", "the first one first", "turn them round"
        )
    kinds = [(OBJECT, proc) for proc in proc_types]
    kinds += [(obs, proc) for obs in obs_types for proc in proc_types if obs not in (OBJECT, *CALIBRATIONS)]
    searches = [
        [*_of_proposal(proposal, proc, instrument, telescope, obs), *when]
        for proposal in proposals
        for obs, proc in kinds
    ]
    each = _find_each(archive, searches, progress, "exposures of the proposals")
    for number, proposal in enumerate(proposals):
        if not any(each[number * len(kinds) : (number + 1) * len(kinds)]):
            log.warning("the archive has no exposures of proposal %s", proposal)
    ours = _distinct(row for rows in each for row in rows)
    objects = [row for row in ours if row["obs_type"] == OBJECT]
    if not ours:
        span = f" from {when[0][1]} to {when[0][2]}" if when else ""
        raise SurveyError(
            f"no {' or '.join(proc_types)} {instrument} exposures of {', '.join(proposals)}{span} at {archive.url}",
            "at least one",
            "check the proposal id and the dates",
        )
    bands: dict[str, set[str]] = {}
    for row in objects:
        bands.setdefault(str(row["caldat"]), set()).add(band_of_row(row))
    # A search for each run of nights, not for each night: one proposal has hundreds.
    searches = [
        [["obs_type", obs], ["caldat", *span], *fixed, ["proc_type", "raw"]]
        for span in _spans(bands, before=0, after=0, join=NIGHTS_APART)
        for obs in obs_types
        if obs in CALIBRATIONS
    ]
    found: dict[tuple[str, str], list[dict]] = {
        (caldat, obs): [] for caldat in bands for obs in obs_types if obs in CALIBRATIONS
    }
    for rows in _find_each(archive, searches, progress, "nights' calibrations"):
        for row in rows:
            key = (str(row["caldat"]), row["obs_type"])
            # Flats of bands that the survey did not use that night are no part of it; bias frames have no band.
            if key in found and (row["obs_type"] != FLAT or band_of_row(row) in bands[key[0]]):
                found[key].append(row)
    ours = [row for row in ours if row["obs_type"] in obs_types]
    rows = _distinct([*ours, *(r for rows in found.values() for r in rows)])
    if not rows:
        raise SurveyError(
            f"{archive.url} has no exposures of type {', '.join(obs_types)} among those of {', '.join(proposals)}",
            "some of the types that the archive has, such as object, zero, dome flat",
            "check --obs-types",
        )
    return exposure_table(rows), missing_table(bands, found)


def count_exposures(
    archive: Archive, proposals: str | Iterable[str], *, instrument: str = "decam", telescope: str | None = None
) -> int:
    """Return how many raw object exposures the archive has of some proposals; an exposure of two counts twice."""
    proposals = [proposals] if isinstance(proposals, str) else proposals
    return sum(archive.count(_of_proposal(p, "raw", instrument, telescope)) for p in proposals)


def exposure_table(rows: list[dict]) -> Table:
    """Return the exposure table of the archive's rows, with the columns that are computed from them.

    Rows without an exposure number or a start time cannot be processed; they are left out, with a warning each.
    """
    kept = []
    for row in rows:
        if row.get("EXPNUM") in (None, "") or not row.get("dateobs_min"):
            log.warning("%s has no EXPNUM or dateobs_min in the archive: left out", row.get("archive_filename"))
        else:
            kept.append(row)
    table = Table()
    for name in OUTFIELDS:
        values = [row.get(name) for row in kept]
        if name in ("exposure", "AIRMASS"):
            table[name] = np.array([_number(v) for v in values], dtype=float)
        elif name == "EXPNUM":
            table[name] = np.array([int(float(v)) for v in values], dtype=np.int64)
        elif name in ("depth", "seeing"):  # null for raws, numbers for other products: kept as they are
            table[name] = Column(np.array([*values, None], dtype=object)[:-1])
        elif name == "dateobs_min":
            table[name] = Time([str(v).rstrip("Z") for v in values], format="isot", scale="utc", precision=3)
        elif any(v in (None, "") for v in values):
            table[name] = MaskedColumn([str(v or "") for v in values], mask=[v in (None, "") for v in values])
        else:
            table[name] = [str(v) for v in values]
    # Not a number for frames without an exposure time (some zeros): their middle is their beginning.
    seconds = np.nan_to_num(np.asarray(table["exposure"]))
    table["dateobs_midpoint"] = table["dateobs_min"] + TimeDelta((seconds + SHUTTER_SECONDS) / 2, format="sec")
    table["mjd"] = table["dateobs_min"].mjd
    table["mjd_midpoint"] = table["dateobs_midpoint"].mjd
    table["night"] = np.array([int(night_of(c)) for c in table["caldat"]], dtype=np.int64)
    table["RA(deg)"] = Column(_degrees([row.get("RA") for row in kept], "hourangle"), unit="deg")
    table["DEC(deg)"] = Column(_degrees([row.get("DEC") for row in kept], "deg"), unit="deg")
    table["band"] = [band_of_row(row) for row in kept]
    sizes = [_number(row.get(SIZE)) for row in kept]
    if np.isfinite(sizes).any():
        unknown = ~np.isfinite(sizes)
        table[SIZE] = np.where(unknown, 0, np.nan_to_num(sizes)).astype(np.int64)
        if unknown.any():
            table[SIZE] = MaskedColumn(table[SIZE], mask=unknown)
        table[SIZE].unit = "byte"
    return table


def missing_table(bands: dict[str, set[str]], found: dict[tuple[str, str], list[dict]]) -> Table:
    """Return which nights lack bias frames, or flats of which band.

    Parameters
    ----------
    bands : `dict` [`str`, `set` [`str`]]
        Bands used on each caldat.
    found : `dict`
        Calibration rows by (caldat, observation type), for what was searched.
    """
    rows = []
    for caldat in sorted(bands):
        if not found.get((caldat, ZERO), [None]):
            rows.append(("bias", caldat, None))
        flats = found.get((caldat, FLAT))
        if flats is not None:
            there = {band_of_row(r) for r in flats}
            rows += [("flat", caldat, band) for band in sorted(bands[caldat] - there)]
    table = Table()
    table["observation_type"] = np.array([r[0] for r in rows], dtype="U4")
    table["caldat"] = np.array([r[1] for r in rows], dtype="U10")
    table["band"] = Column(np.array([*(r[2] for r in rows), None], dtype=object)[:-1])
    return table


def missing_of_table(table: Table, obs_types: Iterable[str] = CALIBRATIONS) -> Table:
    """Return `missing_table` of an exposure table, for those calibrations that were searched for."""
    bands: dict[str, set[str]] = {}
    found: dict[tuple[str, str], list[dict]] = {}
    columns = ("obs_type", "caldat", "FILTER" if "FILTER" in table.colnames else "band")
    for obs, caldat, name in zip(*(np.asarray(table[c]).astype(str).tolist() for c in columns), strict=True):
        if obs == OBJECT:
            bands.setdefault(caldat, set()).add(band_of_row({"FILTER": name}))
        elif obs in CALIBRATIONS:
            found.setdefault((caldat, obs), []).append({"FILTER": name})
    for caldat in bands:
        for obs in set(obs_types) & set(CALIBRATIONS):
            found.setdefault((caldat, obs), [])
    return missing_table(bands, found)


def add_nearest(
    archive: Archive, missing: Table, *, instrument: str = "decam", telescope: str | None = None,
    days: int = NEAREST_DAYS, progress: Progress | None = None,
) -> Table:  # fmt: skip
    """Return a table of missing calibrations with the nearest night that has them, of those in the whole archive.

    Parameters
    ----------
    archive : `Archive`
    missing : `astropy.table.Table`
        See `missing_table`.
    instrument, telescope : `str`
        As in `query_exposures`.
    days : `int`
        How far to look.
    progress : callable, optional
        As in `query_exposures`.

    Returns
    -------
    missing : `astropy.table.Table`
        With nearest_night (YYYYMMDD; empty if there is none within reach) and days_away (negative: before).
    """
    spans = [
        (kind, span)
        for kind in sorted(set(missing["observation_type"].tolist()))
        for span in _spans(missing["caldat"][missing["observation_type"] == kind].tolist(), days, days)
    ]
    searches = [
        [["obs_type", ARCHIVE_TYPES[kind]], ["caldat", *span], *_fixed(instrument, telescope), ["proc_type", "raw"]]
        for kind, span in spans
    ]
    each = _find_each(archive, searches, progress, "nearest calibrations", ("md5sum", "caldat", "FILTER"))
    nights: dict[tuple[str, str | None], set[date]] = {}
    for (kind, _), rows in zip(spans, each, strict=True):
        for row in rows:
            key = (kind, band_of_row(row) if kind == "flat" else None)
            nights.setdefault(key, set()).add(date.fromisoformat(str(row["caldat"])))
    nearest, away = [], []
    for kind, caldat, band in missing.iterrows("observation_type", "caldat", "band"):
        lacking = date.fromisoformat(str(caldat))
        # Of two nights equally near, the earlier: its calibrations were there when the night was observed.
        apart = min(((n - lacking).days for n in nights.get((kind, band), ())), key=lambda d: (abs(d), d), default=None)
        apart = None if apart is None or abs(apart) > days else apart
        nearest.append("" if apart is None else f"{lacking + timedelta(apart):%Y%m%d}")
        away.append(apart)
    missing = missing.copy()
    missing["nearest_night"] = np.array(nearest, dtype="U8")
    missing["days_away"] = MaskedColumn([d or 0 for d in away], mask=[d is None for d in away], dtype=np.int64)
    return missing


def _spans(caldats: Iterable[str], before: int, after: int, join: int = 0) -> list[tuple[str, str]]:
    """Return the ranges of dates from some days before given ones to some after, joined where few days lie between."""
    spans: list[list[date]] = []
    for day in sorted({date.fromisoformat(str(c)) for c in caldats}):
        first, last = day - timedelta(before), day + timedelta(after)
        if spans and first <= spans[-1][1] + timedelta(join):
            spans[-1][1] = last
        else:
            spans.append([first, last])
    return [(first.isoformat(), last.isoformat()) for first, last in spans]


def band_of_row(row: dict) -> str:
    """Return the band as exposure tables have it, the first word of FILTER (`Y` is not the Butler's `y` here)."""
    return (str(row.get("FILTER") or "").split() or [""])[0]


def _fixed(instrument: str, telescope: str | None) -> list[list[str]]:
    telescope = telescope or TELESCOPES.get(instrument)
    return [["instrument", instrument], *([["telescope", telescope]] if telescope else []), ["prod_type", "image"]]


def _of_proposal(
    proposal: str, proc_type: str, instrument: str, telescope: str | None, obs_type: str = OBJECT
) -> list[list[str]]:
    condition = ["proposal", proposal, "regex"]
    return [*_fixed(instrument, telescope), ["proc_type", proc_type], ["obs_type", obs_type], condition]


def _find_each(
    archive: Archive, searches: list, progress: Progress | None, what: str,
    outfields: Sequence[str] = (*OUTFIELDS, SIZE),
) -> list[list[dict]]:  # fmt: skip
    return in_threads(
        lambda search: _find(archive, search, outfields), searches, CONNECTIONS, stop=archive.stop,
        told=progress and (lambda done, _: progress(done, len(searches), what)),
    )  # fmt: skip


def _find(archive: Archive, search: list, outfields: Sequence[str]) -> list[dict]:
    try:
        return archive.find(search, outfields)
    except QueryRefused as error:
        if SIZE not in outfields or SIZE not in str(error):
            raise
        # Sizes are good to have, no more: an archive that does not know them is searched without.
        return archive.find(search, [name for name in outfields if name != SIZE])


def _distinct(rows: Iterable[dict]) -> list[dict]:
    kept: dict[str, dict] = {}
    for row in rows:
        kept.setdefault(row["md5sum"], row)
    # Observing order, which no sort key of the archive gives.
    return sorted(kept.values(), key=lambda r: (str(r.get("caldat")), str(r.get("dateobs_min")), r["md5sum"]))


def _caldat(date: str) -> str:
    night = night_of(date)
    return f"{night[:4]}-{night[4:6]}-{night[6:]}"


def _number(value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _degrees(values: list, unit: str) -> np.ndarray:
    """Return sexagesimal texts, or numbers in degrees, as degrees; not a number where there is nothing readable."""
    out = np.full(len(values), np.nan)
    degrees = float(Angle(1, unit=unit).deg)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            out[i] = _number(value)
        elif found := _SEXAGESIMAL.fullmatch(value):  # as the archive writes them: `Angle` takes ten times as long
            sign, whole, minutes, seconds = found.groups()
            size = int(whole) + int(minutes) / 60 + float(seconds) / 3600
            out[i] = (-size if sign == "-" else size) * degrees
        elif value.strip() not in ("", "nan"):
            out[i] = _number(value)
            try:
                out[i] = Angle(value, unit=unit).deg if np.isnan(out[i]) else out[i]
            except ValueError:  # one malformed position must not hide the others
                log.warning("position %r cannot be read", value)
    return out

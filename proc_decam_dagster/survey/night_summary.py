"""A survey night by night: how many frames of each kind and band, how long, how many gigabytes, what is lacking."""

from collections import Counter

import numpy as np
from astropy.table import Table

from proc_decam_dagster.survey.exposures import nights_of, rows_of_nights
from proc_decam_dagster.survey.proc_types import PROC_TYPES

SUMMARY_NAME = "exposures_nights.ecsv"
TYPICAL_BYTES = 4.0e8
"""Of a raw file of which the archive gives no size: a survey of 20,000 files has 8 TB."""
SCIENCE, ZERO, FLAT = (PROC_TYPES[name].obs_type for name in ("drp", "bias", "flat"))


def night_summary(table: Table) -> Table:
    """Return one row a night.

    Returns
    -------
    summary : `astropy.table.Table`
        night, science, zeros, dome_flats [frames], other_files (instcals and the like), then ``science_{band}`` and
        ``flats_{band}`` of every band, science_seconds, expected_gb, files_of_unknown_size (taken as typical ones),
        lacks (the calibrations that the night has none of).
    """
    raw = np.full(len(table), True)
    if "proc_type" in table.colnames:
        raw = np.asarray(table["proc_type"]).astype(str) == "raw"
    obs = np.asarray(table["obs_type"]).astype(str)
    bands = {kind: sorted(set(map(str, table["band"][raw & (obs == kind)]))) for kind in (SCIENCE, FLAT)}
    seconds = np.asarray(table["exposure"], float) if "exposure" in table.colnames else np.zeros(len(table))
    rows = []
    for night in nights_of(table):
        part = rows_of_nights(table, [night])
        here = np.asarray(table["night"]).astype(str) == night
        counts = {kind: Counter(map(str, table["band"][here & raw & (obs == kind)])) for kind in (SCIENCE, ZERO, FLAT)}
        known, unknown = known_bytes(part)
        row = {"night": int(night), "science": counts[SCIENCE].total(), "zeros": counts[ZERO].total()}
        row |= {"dome_flats": counts[FLAT].total(), "other_files": int((here & ~raw).sum())}
        row |= {f"science_{band}": counts[SCIENCE][band] for band in bands[SCIENCE]}
        row |= {f"flats_{band}": counts[FLAT][band] for band in bands[FLAT]}
        row["science_seconds"] = round(float(np.nansum(seconds[here & raw & (obs == SCIENCE)])), 1)
        row |= {"expected_gb": round((known + unknown * TYPICAL_BYTES) / 1e9, 3), "files_of_unknown_size": unknown}
        lacks = [] if counts[ZERO] else ["bias"]
        row["lacks"] = ", ".join(lacks + [f"flat {band}" for band in sorted(counts[SCIENCE].keys() - counts[FLAT])])
        rows.append(row)
    return Table(rows=rows) if rows else Table(names=("night", "expected_gb"), dtype=(np.int64, float))


def known_bytes(table: Table) -> tuple[int, int]:
    """Return the sum of the sizes that the archive gives, and the number of files of which it gives none."""
    if "filesize" not in table.colnames:
        return 0, len(table)
    sizes = np.ma.filled(np.ma.asarray(table["filesize"]), 0).astype(np.int64)
    return int(sizes.sum()), int((sizes <= 0).sum())

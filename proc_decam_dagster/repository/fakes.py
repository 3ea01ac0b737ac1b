"""Synthetic sources to inject: a user's table checked, split by band, and put into the repository."""

import os
import warnings
from pathlib import Path

import numpy as np
from astropy.io.fits.verify import VerifyWarning
from astropy.table import Table
from lsst.daf.butler import CollectionType

from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.chains import new_run
from proc_decam_dagster.repository.presence import has_collection
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey.collections import FAKES

COLUMNS = ("RA", "DEC", "MAG", "EXPNUM")
BAND = "VR"
"""Band of a table that names none."""
MEND = "mend the table"


def ingest_fakes(repo: Repository, path: str | os.PathLike, collection: str = FAKES) -> dict[str, int]:
    """Put a table of synthetic sources into the repository and return their number by band.

    The table takes the place of the one ingested before; that stays in its own RUN.

    Parameters
    ----------
    path : path-like
        Any table that astropy reads, with the columns RA, DEC (deg, ICRS), MAG (AB), BAND and EXPNUM
        (0: every exposure of the band that covers the position).
    collection : `str`
        CHAINED collection that is made to hold the new RUN alone.

    Raises
    ------
    SurveyError
        If the file cannot be read, lacks a column, or has values without a meaning.
    """
    tables = split_fakes(read_fakes(path))
    butler = repo.butler(writeable=True)
    with repo.lock(collection, wait_seconds=60):
        run = new_run(butler, collection)
        if has_collection(butler, collection):
            kind = butler.collections.get_info(collection).type
            if kind is not CollectionType.CHAINED:
                raise SurveyError(
                    f"collection {collection} is a {kind.name}", "a new name, or one that `fakes` has made",
                    "give another --collection",
                )  # fmt: skip
        with butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
            butler.collections.register(run, CollectionType.RUN)
        try:
            repo.engine.put_fakes(butler, tables, run)
        except BaseException:
            butler.removeRuns([run])
            raise
        butler.collections.register(collection, CollectionType.CHAINED)
        butler.collections.redefine_chain(collection, [run])
    return {band: len(table) for band, table in tables.items()}


def read_fakes(path: str | os.PathLike) -> Table:
    """Read a table of synthetic sources; column names in any case, band ``Y`` as ``y``.

    Returns
    -------
    table : `astropy.table.Table`
        Columns ``ra``, ``dec`` (deg), ``mag``, ``band``, ``expnum``, ``fake_id`` (row number from 1).

    Raises
    ------
    SurveyError
        If the file cannot be read, lacks a column, or has values without a meaning.
    """
    path = Path(path)
    if not path.is_file():
        raise SurveyError(f"fakes table {path} does not exist", "a file", "give the path of the table")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VerifyWarning)  # what it says of a damaged file, the error says too
            raw = Table.read(path)
    except Exception as error:  # astropy raises many types for a file that it cannot read
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SurveyError(
            f"fakes table {path} cannot be read ({reason})", "a table that astropy reads (FITS, ECSV, CSV, …)",
            "write it again",
        ) from None  # fmt: skip
    names = {name.upper(): name for name in raw.colnames}
    missing = [c for c in COLUMNS if c not in names]
    if missing:
        raise SurveyError(
            f"fakes table {path} has no column {', '.join(missing)}",
            f"the columns {', '.join(COLUMNS)}",
            "add it: every fake belongs to a band and an exposure; EXPNUM 0 means all that cover its position",
        )
    table = Table()
    for name in ("RA", "DEC", "MAG"):
        table[name.lower()] = _numbers(raw[names[name]], name, path, float)
    bands = raw[names["BAND"]] if "BAND" in names else [BAND] * len(raw)
    band = [(b.decode() if isinstance(b, bytes) else str(b)).strip() for b in bands]
    table["band"] = np.array(["y" if b == "Y" else b for b in band], dtype=str)
    table["expnum"] = _numbers(raw[names["EXPNUM"]], "EXPNUM", path, np.int64)
    table["fake_id"] = np.arange(1, len(table) + 1)
    _check_values(table, path)
    return table


def split_fakes(table: Table) -> dict[str, Table]:
    """Return a table of synthetic sources a band, the column ``band`` left out."""
    bands = np.asarray(table["band"])
    columns = [c for c in table.colnames if c != "band"]
    return {str(band): table[bands == band][columns] for band in np.unique(bands)}


def _numbers(column, name: str, path: Path, kind: type) -> np.ndarray:
    try:
        values = np.asarray(np.ma.filled(np.ma.asarray(column).astype(float), np.nan))
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if values.ndim != 1 or not np.isfinite(values).all():
        raise SurveyError(f"fakes table {path}: {name} is not a number in every row", "one number a row", MEND)
    if (values.astype(kind) != values).any():
        raise SurveyError(f"fakes table {path}: {name} is not whole in every row", "exposure numbers", MEND)
    return values.astype(kind)


def _check_values(table: Table, path: Path) -> None:
    if not len(table):
        raise SurveyError(f"fakes table {path} is empty", "one row a fake", MEND)
    if (np.abs(table["dec"]) > 90).any() or (np.abs(table["ra"]) > 360).any():
        raise SurveyError(f"fakes table {path}: positions lie off the sky", "RA and DEC in degrees", MEND)
    known = {f.band for f in FILTERS.values()}
    unknown = sorted(set(np.asarray(table["band"]).tolist()) - known)
    if unknown:
        raise SurveyError(
            f"fakes table {path}: band {', '.join(unknown)} is unknown", f"one of {', '.join(sorted(known))}", MEND
        )

"""Reference-catalogue shards in the LSST format, as `lsst.afw.table` writes them: columns, units, keywords."""

import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits


class Field(NamedTuple):
    """A column: FITS format, unit, what it holds, and the class of field that it is to `lsst.afw.table`."""

    form: str
    unit: str | None = None
    doc: str | None = None
    kind: str = "Scalar"


class ShardFormat(NamedTuple):
    """Columns and flags of a catalogue's shards, and the version of their format (2: with covariances)."""

    fields: dict[str, Field]
    flags: dict[str, str]
    version: int


FIVE = {"coord_ra": "rad", "coord_dec": "rad", "pm_ra": "rad/year", "pm_dec": "rad/year", "parallax": "rad"}
"""The astrometric parameters in the order of the covariances' names, and their units."""
COVARIANCES = {f"{a}_{b}_Cov": (a, b) for a, b in combinations(FIVE, 2)}
"""Names of the ten covariances, and the parameters of each."""

_POSITION = {
    "id": Field("1K", None, "unique ID"),
    "coord_ra": Field("1D", "rad", "position in ra/dec", "Angle"),
    "coord_dec": Field("1D", "rad", "position in ra/dec", "Angle"),
}
_GAIA_BANDS = ("g", "bp", "rp")

GAIA = ShardFormat(
    {
        "flags": Field("2X", None, "bits for all Flag fields; see also TFLAGn", ""),
        **_POSITION,
        **{f"phot_{b}_mean_flux": Field("1D", "nJy", f"flux in filter phot_{b}_mean") for b in _GAIA_BANDS},
        **{
            f"phot_{b}_mean_fluxErr": Field("1D", "nJy", f"flux uncertainty in filter phot_{b}_mean")
            for b in _GAIA_BANDS
        },
        "coord_raErr": Field("1E", "rad", "1-sigma uncertainty on ra"),
        "coord_decErr": Field("1E", "rad", "1-sigma uncertainty on dec"),
        "epoch": Field("1D", "day", "date of observation (TAI, MJD)"),
        "pm_ra": Field("1D", "rad", "proper motion in the right ascension direction = dra/dt * cos(dec)", "Angle"),
        "pm_dec": Field("1D", "rad", "proper motion in the declination direction", "Angle"),
        "pm_raErr": Field("1E", "rad/year", "1-sigma uncertainty on ra"),
        "pm_decErr": Field("1E", "rad/year", "1-sigma uncertainty on dec"),
        "parallax": Field("1D", "rad", "parallax", "Angle"),
        "parallaxErr": Field("1D", "rad", "uncertainty in parallax", "Angle"),
        **{
            name: Field(
                "1E", "rad^2" + {0: "", 1: "/year", 2: "/year^2"}[sum("year" in FIVE[p] for p in pair)],
                f"Covariance between {pair[0]} and {pair[1]}",
            )
            for name, pair in COVARIANCES.items()
        },
        "astrometric_excess_noise": Field("1D"),
        "phot_variable_flag": Field("52A", None, None, "String"),
    },
    {
        "pm_flag": "Set if proper motion or proper motion error is bad",
        "parallax_flag": "Set if parallax or parallax error is bad",
    },
    2,
)  # fmt: skip
"""Gaia DR3: the columns of the real Gaia DR2 shards, with the covariances that the format had since."""

PS1 = ShardFormat(
    {
        **_POSITION,
        "parent": Field("1K", None, "unique ID of parent source"),
        **{f"{band}_flux": Field("1D", "nJy") for band in "grizy"},
        **{f"{band}_fluxErr": Field("1D", "nJy") for band in "iyrzg"},
        **{f"coord_{axis}_err": Field("1E") for axis in ("ra", "dec")},
        "epoch": Field("1K"),
        **{name: Field("1E") for name in ("pm_ra", "pm_dec", "pm_ra_err", "pm_dec_err")},
    },
    {},
    1,
)
"""Pan-STARRS1, as the real shards are: their epoch counts Unix seconds, and their motions have no unit."""


def write_shard(
    path: str | os.PathLike, shard_format: ShardFormat, columns: Mapping[str, np.ndarray], origin: str = ""
) -> None:
    """Write a shard; the file appears whole or not at all.

    Parameters
    ----------
    path : path-like
        ``<htm7 id>.fits``.
    shard_format : `ShardFormat`
    columns : mapping
        Every column of the format; ``flags`` as bool, (n, number of flags).
    origin : `str`, optional
        Where the rows are from; kept in the header.
    """
    path = Path(path)
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(name, f.form, f.unit, array=columns[name]) for name, f in shard_format.fields.items()]
    )
    for number, field in enumerate(shard_format.fields.values(), 1):
        if field.doc:
            hdu.header[f"TDOC{number}"] = field.doc
        if field.kind:
            hdu.header[f"TCCLS{number}"] = (field.kind, "Field template used by lsst.afw.table")
    if shard_format.flags:
        hdu.header["FLAGCOL"] = (1, "Column number for the bitflags.")
    for number, (name, doc) in enumerate(shard_format.flags.items(), 1):
        hdu.header[f"TFLAG{number}"] = name
        hdu.header[f"TFDOC{number}"] = doc
    hdu.header["HIERARCH REFCAT_FORMAT_VERSION"] = shard_format.version
    hdu.header["HIERARCH AFW_TABLE_VERSION"] = 3
    hdu.header["AFW_TYPE"] = ("SIMPLE", "Tells lsst::afw to load this as a Simple table.")
    if origin:
        hdu.header["HIERARCH REFCAT_ORIGIN"] = origin
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as out:
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

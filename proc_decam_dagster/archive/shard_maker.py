"""Reference-catalogue shards made from public TAP services, for those who have no site that serves them ready."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from astropy.time import Time

from proc_decam_dagster.archive import shard_format as form
from proc_decam_dagster.archive.footprint import HTM_LEVEL, shards_for, shards_of_positions
from proc_decam_dagster.archive.tap import SkyBox, TapSite, TapTable
from proc_decam_dagster.archive.threads import in_threads
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import datasets

MAS = np.pi / 180 / 3.6e6
"""Radians in a milliarcsecond."""
ARCSEC = 1000 * MAS
GAIA_AB = {"g": 25.8010446445, "bp": 25.3539555559, "rp": 25.1039837393}
"""Zero points of the AB system for Gaia (E)DR3 fluxes in electrons a second: Gaia EDR3 documentation, section 5.4.1,
table 5.4; Riello et al. 2021, A&A 649, A3, table 3."""
NANOJANSKY = 31.4
"""AB magnitude of 1 nJy, as the LSST converters have it."""
_GAIA_PARAMETERS = {"coord_ra": "ra", "coord_dec": "dec", "pm_ra": "pmra", "pm_dec": "pmdec", "parallax": "parallax"}
_GAIA_ORDER = ("ra", "dec", "parallax", "pmra", "pmdec")
GAIA_CORRELATIONS = tuple(f"{a}_{b}_corr" for i, a in enumerate(_GAIA_ORDER) for b in _GAIA_ORDER[i + 1 :])
GAIA_COLUMNS = (
    "source_id", "ra", "dec", "ra_error", "dec_error", "ref_epoch", "pmra", "pmra_error", "pmdec", "pmdec_error",
    "parallax", "parallax_error", *GAIA_CORRELATIONS,
    *(f"phot_{b}_mean_{what}" for b in GAIA_AB for what in ("flux", "flux_error")),
    "astrometric_excess_noise", "phot_variable_flag",
)  # fmt: skip
PS1_COLUMNS = (
    "objID", "raMean", "decMean", "raMeanErr", "decMeanErr", "epochMean",
    *(f"{b}MeanPSFMag{what}" for b in "grizy" for what in ("", "Err")),
)  # fmt: skip
PS1_UNKNOWN = -999.0


@dataclass(frozen=True)
class Source:
    """How a catalogue is had: its table, the shards' format, and the function that makes their columns of the rows."""

    table: TapTable
    shard_format: form.ShardFormat
    convert: Callable[[Table], dict[str, np.ndarray]]


def gaia_columns(rows: Table) -> dict[str, np.ndarray]:
    """Return a shard's columns from rows of ``gaia_source``: radians, nJy, epoch as MJD TAI; NaN where unknown."""
    value = {name: _floats(rows, name) for name in GAIA_COLUMNS[1:-1]}
    columns: dict[str, np.ndarray] = {
        "id": np.asarray(rows["source_id"], np.int64),
        "coord_ra": np.radians(value["ra"] % 360),
        "coord_dec": np.radians(value["dec"]),
        "epoch": Time(value["ref_epoch"], format="jyear", scale="tcb").tai.mjd,
        "astrometric_excess_noise": value["astrometric_excess_noise"],
        "phot_variable_flag": np.array(
            ["" if v is np.ma.masked or v is None else _text(v) for v in rows["phot_variable_flag"]], "U52"
        ),
    }
    for band, zero_point in GAIA_AB.items():
        scale = 10 ** (0.4 * (NANOJANSKY - zero_point))
        columns[f"phot_{band}_mean_flux"] = value[f"phot_{band}_mean_flux"] * scale
        columns[f"phot_{band}_mean_fluxErr"] = value[f"phot_{band}_mean_flux_error"] * scale
    error = {ours: value[f"{theirs}_error"] * MAS for ours, theirs in _GAIA_PARAMETERS.items()}
    columns |= {f"{name}Err": e for name, e in error.items()}
    columns |= {name: value[_GAIA_PARAMETERS[name]] * MAS for name in ("pm_ra", "pm_dec", "parallax")}
    for name, pair in form.COVARIANCES.items():
        first, second = sorted((_GAIA_PARAMETERS[p] for p in pair), key=_GAIA_ORDER.index)
        columns[name] = error[pair[0]] * error[pair[1]] * value[f"{first}_{second}_corr"]
    bad = {
        "pm": [columns[n] for n in ("pm_ra", "pm_dec", "pm_raErr", "pm_decErr")],
        "parallax": [columns[n] for n in ("parallax", "parallaxErr")],
    }
    columns["flags"] = np.stack([~np.isfinite(np.stack(parts)).all(axis=0) for parts in bad.values()], axis=1)
    return columns


def ps1_columns(rows: Table) -> dict[str, np.ndarray]:
    """Return a shard's columns from rows of ``MeanObjectView``: radians, nJy, epoch in Unix seconds as real shards."""
    value = {name.lower(): _floats(rows, name.lower(), PS1_UNKNOWN) for name in PS1_COLUMNS[1:]}
    seconds = Time(np.nan_to_num(value["epochmean"]), format="mjd", scale="utc").unix
    columns: dict[str, np.ndarray] = {
        "id": np.asarray(rows["objid"], np.int64),
        "coord_ra": np.radians(value["ramean"] % 360),
        "coord_dec": np.radians(value["decmean"]),
        "parent": np.zeros(len(rows), np.int64),
        "coord_ra_err": np.nan_to_num(value["rameanerr"]) * ARCSEC,
        "coord_dec_err": np.nan_to_num(value["decmeanerr"]) * ARCSEC,
        "epoch": np.where(np.isfinite(value["epochmean"]), np.round(seconds), 0).astype(np.int64),
        # The table of mean objects has no motions: none, not unknown ones, so that nothing downstream drops the star.
        **{name: np.zeros(len(rows)) for name in ("pm_ra", "pm_dec", "pm_ra_err", "pm_dec_err")},
    }
    for band in "grizy":
        magnitude, error = value[f"{band}meanpsfmag"], value[f"{band}meanpsfmagerr"]
        columns[f"{band}_flux"] = 10 ** (0.4 * (NANOJANSKY - magnitude))
        columns[f"{band}_fluxErr"] = columns[f"{band}_flux"] * error * 0.4 * np.log(10)
    return columns


SOURCES = {
    datasets.REFCAT_ASTROMETRY: Source(
        TapTable("https://datalab.noirlab.edu/tap", "gaia_dr3.gaia_source", GAIA_COLUMNS), form.GAIA, gaia_columns
    ),
    datasets.REFCAT_PHOTOMETRY: Source(
        # Objects that were detected once only are mostly no objects.
        TapTable(
            "https://mast.stsci.edu/vo-tap/api/v0.1/ps1dr2", "dbo.MeanObjectView", PS1_COLUMNS, "raMean", "decMean",
            "nDetections > 1",
        ),
        form.PS1, ps1_columns,
    ),
}  # fmt: skip
"""How each catalogue (by dataset type name) is made."""


def make_shards(
    exposures: Table,
    directory: str | os.PathLike,
    *,
    names: Iterable[str] | None = None,
    urls: Mapping[str, str] | None = None,
    tables: Mapping[str, str] | None = None,
    jobs: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
    **how,
) -> dict[str, list[Path]]:
    """Make the shards of a survey's footprint; those that are on disk are not made again.

    Parameters
    ----------
    exposures : `astropy.table.Table`
        The survey, see `footprint.shards_for`.
    directory : path-like
        Shards go to ``directory/<catalogue>/<htm7>.fits``.
    names : iterable of `str`, optional
        Catalogues, as dataset type names; all of `SOURCES` by default.
    urls, tables : mapping, optional
        Other services, and other names of the tables there, by catalogue.
    jobs : `int`
        Queries at once.
    progress : callable, optional
        Called with (shards done, in all, which).
    **how
        Retries, back-off and time-outs, see `TapSite`.

    Returns
    -------
    shards : `dict` [`str`, `list` [`pathlib.Path`]]
        Files by catalogue; trixels without a source (PS1 in the south) have none.

    Raises
    ------
    SurveyError
        If a catalogue cannot be made, or a service fails; the shards that are whole stay, and no other is written.
    """
    directory, urls, tables = Path(directory).absolute(), urls or {}, tables or {}
    wanted, work = shards_for(exposures), []
    for name in names or SOURCES:
        if name not in SOURCES:
            raise SurveyError(f"catalogue {name} cannot be made from a TAP service", f"one of {', '.join(SOURCES)}")
        source = SOURCES[name]
        table = replace(source.table, url=urls.get(name, source.table.url), table=tables.get(name, source.table.table))
        (directory / name).mkdir(parents=True, exist_ok=True)
        work += [(replace(source, table=table), shard, directory / name / f"{shard}.fits") for shard in wanted]

    def one(item: tuple[Source, int, Path]) -> Path | None:
        source, shard, path = item
        if not path.is_file():
            make_shard(TapSite(source.table.url, **how), source, shard, path)
        return path if path.is_file() else None

    shards: dict[str, list[Path]] = {}

    def told(done: int, _: Path | None) -> None:
        if progress:
            progress(done, len(work), f"{work[done - 1][2].parent.name}/{work[done - 1][2].name}")

    for path in in_threads(one, work, jobs, told=told):
        if path is not None:
            shards.setdefault(path.parent.name, []).append(path)
    if not shards:
        raise SurveyError(
            f"no service has a source in any of the {len(wanted)} trixels of the survey's footprint",
            fix="check --tap-url and --tap-table",
        )
    return shards


def make_shard(site: TapSite, source: Source, shard: int, path: Path) -> int:
    """Make one shard and return its number of sources; nothing is written where there are none."""
    table = source.table
    rows = vstack([site.rows(table, box) for box in boxes_of(shard)], metadata_conflicts="silent")
    absent = [c for c in table.columns if c.lower() not in rows.colnames]
    if absent:
        raise SurveyError(f"{table.table} at {table.url} has no column {', '.join(absent)}", fix="check --tap-table")
    ra, dec = _floats(rows, table.ra.lower()), _floats(rows, table.dec.lower())
    placed = np.isfinite(ra) & np.isfinite(dec)
    rows, ra, dec = rows[placed], ra[placed], dec[placed]
    # A trixel's boxes reach beyond it; each source belongs to the one trixel that sphgeom says.
    rows = rows[shards_of_positions(ra, dec) == shard] if len(rows) else rows
    if not len(rows):
        return 0
    ids = np.asarray(rows[table.columns[0].lower()], np.int64)
    rows = rows[np.unique(ids, return_index=True)[1]]
    form.write_shard(path, source.shard_format, source.convert(rows), f"{table.table} at {table.url}")
    return len(rows)


def boxes_of(shard: int) -> list[SkyBox]:
    """Return boxes of RA and Dec that hold a trixel: two where it lies across RA 0, all RA where it holds a pole."""
    from lsst.sphgeom import HtmPixelization

    bounds = HtmPixelization(HTM_LEVEL).triangle(shard).getBoundingBox()
    lon, lat = bounds.getLon(), bounds.getLat()
    dec0, dec1 = (max(min(np.degrees(a.asRadians()), 90.0), -90.0) for a in (lat.getA(), lat.getB()))
    margin = 1e-6  # edges are open, and their decimals few
    dec0, dec1 = max(dec0 - margin, -90.0), min(dec1 + margin, 90.0)
    if lon.isFull():
        return [SkyBox(0.0, 360.0, dec0, dec1)]
    ra0, ra1 = np.degrees(lon.getA().asRadians()) - margin, np.degrees(lon.getB().asRadians()) + margin
    if ra1 <= ra0:
        ra1 += 360
    boxes = [SkyBox(max(ra0, 0.0), min(ra1, 360.0), dec0, dec1)]
    if ra0 < 0:
        boxes.append(SkyBox(ra0 + 360, 360.0, dec0, dec1))
    if ra1 > 360:
        boxes.append(SkyBox(0.0, ra1 - 360, dec0, dec1))
    return boxes


def _floats(rows: Table, name: str, unknown: float | None = None) -> np.ndarray:
    """Return a column as plain floats, NaN where there is no value."""
    values = np.ma.filled(np.ma.asarray(rows[name]).astype(float), np.nan)
    return values if unknown is None else np.where(values <= unknown, np.nan, values)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

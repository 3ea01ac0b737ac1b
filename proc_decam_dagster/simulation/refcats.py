"""Reference-catalogue shards of the simulated sky, in the LSST format of the real ones (columns, units, keywords)."""

from pathlib import Path

import numpy as np

from proc_decam_dagster.simulation.catalogue import EPOCH

GAIA_DIRECTORY = "GAIA_DR3/gaia_dr3"
PS1_DIRECTORY = "ps1/ps1_pv3_3pi_20170110"
GAIA_LIMIT, PS1_LIMIT = 20.7, 22.5
"""Faintest Gaia G and PS1 r magnitudes."""
PS1_FLOOR = 0.008
"""Relative error of the brightest PS1 fluxes."""
PS1_ERROR = 15.0 / 3.6e6
"""Error of a PS1 position in each direction, deg."""
_MAS = np.pi / 180 / 3.6e6
_NANOJANSKY = 31.4

_GAIA_COLUMNS = {
    "flags": ("2X", None, "bits for all Flag fields; see also TFLAGn", None),
    "id": ("K", None, "unique ID", "Scalar"),
    "coord_ra": ("D", "rad", "position in ra/dec", "Angle"),
    "coord_dec": ("D", "rad", "position in ra/dec", "Angle"),
    **{f"phot_{b}_mean_flux": ("D", "nJy", f"flux in filter phot_{b}_mean", "Scalar") for b in ("g", "bp", "rp")},
    **{
        f"phot_{b}_mean_fluxErr": ("D", "nJy", f"flux uncertainty in filter phot_{b}_mean", "Scalar")
        for b in ("g", "bp", "rp")
    },
    "coord_raErr": ("E", "rad", "1-sigma uncertainty on ra", "Scalar"),
    "coord_decErr": ("E", "rad", "1-sigma uncertainty on dec", "Scalar"),
    "epoch": ("D", "day", "date of observation (TAI, MJD)", "Scalar"),
    "pm_ra": ("D", "rad", "proper motion in the right ascension direction = dra/dt * cos(dec)", "Angle"),
    "pm_dec": ("D", "rad", "proper motion in the declination direction", "Angle"),
    "pm_raErr": ("E", "rad/year", "1-sigma uncertainty on ra", "Scalar"),
    "pm_decErr": ("E", "rad/year", "1-sigma uncertainty on dec", "Scalar"),
    "parallax": ("D", "rad", "parallax", "Angle"),
    "parallaxErr": ("D", "rad", "uncertainty in parallax", "Angle"),
    "astrometric_excess_noise": ("D", None, None, "Scalar"),
    "phot_variable_flag": ("52A", None, None, "String"),
}
_GAIA_FLAGS = {
    "pm_flag": "Set if proper motion or proper motion error is bad",
    "parallax_flag": "Set if parallax or parallax error is bad",
}
_PS1_COLUMNS = {
    "id": ("K", None, "unique ID", "Scalar"),
    "coord_ra": ("D", "rad", "position in ra/dec", "Angle"),
    "coord_dec": ("D", "rad", "position in ra/dec", "Angle"),
    "parent": ("K", None, "unique ID of parent source", "Scalar"),
    **{f"{band}_flux": ("D", "nJy", None, "Scalar") for band in "grizy"},
    **{f"{band}_fluxErr": ("D", "nJy", None, "Scalar") for band in "iyrzg"},
    "coord_ra_err": ("E", None, None, "Scalar"),
    "coord_dec_err": ("E", None, None, "Scalar"),
    "epoch": ("K", None, None, "Scalar"),
    **dict.fromkeys(("pm_ra", "pm_dec", "pm_ra_err", "pm_dec_err"), ("E", None, None, "Scalar")),
}


def _flux(magnitude) -> np.ndarray:
    return 10 ** (0.4 * (_NANOJANSKY - np.asarray(magnitude)))


def gaia(seed: int, trixel: int, stars: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a Gaia shard: positions and motions as measured, with errors that grow with magnitude."""
    rng = np.random.default_rng([seed, 301, trixel])
    red = stars["g"] - stars["r"]
    g = stars["r"] - 0.05 * red + 0.02
    keep = g < GAIA_LIMIT
    stars, red, g = stars[keep], red[keep], g[keep]
    size = stars.size
    error = np.maximum(0.03, 0.03 * 10 ** (0.25 * (g - 15.0)))  # mas, mas/yr
    ra = stars["ra"] + rng.normal(0, error) / 3.6e6 / np.cos(np.radians(stars["dec"]))
    unknown = (g > 20.3) & (rng.random(size) < 0.2)
    columns = {
        "flags": np.stack([unknown, unknown], axis=1),
        "id": stars["id"],
        "coord_ra": np.radians(ra % 360),
        "coord_dec": np.radians(stars["dec"] + rng.normal(0, error) / 3.6e6),
        "coord_raErr": error * _MAS,
        "coord_decErr": error * _MAS,
        "epoch": np.full(size, EPOCH),
        "parallax": np.where(unknown, 0, rng.normal(0, error) * _MAS),
        "parallaxErr": np.where(unknown, 0, error * _MAS),
        "astrometric_excess_noise": np.zeros(size),
        "phot_variable_flag": np.full(size, "NOT_AVAILABLE", "U52"),
    }
    for name in ("pm_ra", "pm_dec"):
        columns[name] = np.where(unknown, 0, (stars[name] + rng.normal(0, error)) * _MAS)
        columns[f"{name}Err"] = np.where(unknown, 0, error * _MAS)
    for name, magnitude, noise in (("g", g, 1.0), ("bp", g + 0.45 * red, 5.0), ("rp", g - 0.55 * red, 5.0)):
        sigma = _flux(magnitude) * np.hypot(5e-4, noise * 2e-3 * 10 ** (0.3 * (magnitude - 19)))
        columns[f"phot_{name}_mean_flux"] = _flux(magnitude) + rng.normal(0, sigma)
        columns[f"phot_{name}_mean_fluxErr"] = sigma
    return columns


def ps1(seed: int, trixel: int, stars: np.ndarray, galaxies: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a PS1 shard: stars and galaxies; epoch in Unix seconds and no errors of place, as there."""
    rng = np.random.default_rng([seed, 302, trixel])
    bands = "grizy"
    both = [table[table["r"] < PS1_LIMIT] for table in (stars, galaxies)]
    size = sum(table.size for table in both)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([table[name] for table in both])

    error_ra, error_dec = rng.normal(0, PS1_ERROR, (2, size))
    columns = {
        "id": joined("id"),
        "coord_ra": np.radians((joined("ra") + error_ra / np.cos(np.radians(joined("dec")))) % 360),
        "coord_dec": np.radians(joined("dec") + error_dec),
        "parent": np.zeros(size, np.int64),
        "epoch": rng.integers(1_270_000_000, 1_420_000_000, size),
        **{f"coord_{axis}_err": np.zeros(size) for axis in ("ra", "dec")},
        **{f"pm_{axis}": np.zeros(size) for axis in ("ra", "dec", "ra_err", "dec_err")},
    }
    for band, limit in zip(bands, (23.3, 23.2, 23.1, 22.3, 21.4)):
        flux = _flux(joined(band))
        sigma = np.hypot(PS1_FLOOR * flux, _flux(limit) / 5)
        columns[f"{band}_flux"], columns[f"{band}_fluxErr"] = flux + rng.normal(0, sigma), sigma
    return columns


def write_shard(path: Path, columns: dict[str, np.ndarray], *, flags: dict[str, str] | None = None) -> None:
    """Write a shard as `lsst.afw.table` writes a SimpleCatalog."""
    from astropy.io import fits

    described = _GAIA_COLUMNS if flags else _PS1_COLUMNS
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(name, form, unit, array=columns[name]) for name, (form, unit, _, _) in described.items()]
    )
    for number, (_, _, doc, kind) in enumerate(described.values(), start=1):
        if doc:
            hdu.header[f"TDOC{number}"] = doc
        if kind:
            hdu.header[f"TCCLS{number}"] = (kind, "Field template used by lsst.afw.table")
    if flags:
        hdu.header["FLAGCOL"] = (1, "Column number for the bitflags.")
    for number, (name, doc) in enumerate((flags or {}).items(), start=1):
        hdu.header[f"TFLAG{number}"] = name
        hdu.header[f"TFDOC{number}"] = doc
    hdu.header["HIERARCH REFCAT_FORMAT_VERSION"] = 1
    hdu.header["HIERARCH AFW_TABLE_VERSION"] = 3
    hdu.header["AFW_TYPE"] = ("SIMPLE", "Tells lsst::afw to load this as a Simple table.")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def write_shards(directory: Path, seed: int, tables: dict[int, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write every htm7 pixel's shard of both catalogues, and the ``index.dat`` that lists them.

    Parameters
    ----------
    directory : `pathlib.Path`
        Folder ``refcats``.
    seed : `int`
    tables : `dict` [`int`, `tuple`]
        Stars and galaxies of each htm7 pixel.
    """
    for name in (GAIA_DIRECTORY, PS1_DIRECTORY):
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        for trixel, (stars, galaxies) in tables.items():
            if name == GAIA_DIRECTORY:
                columns = _within(trixel, gaia(seed, trixel, stars))
                write_shard(folder / f"{trixel}.fits", columns, flags=_GAIA_FLAGS)
            else:
                write_shard(folder / f"{trixel}.fits", _within(trixel, ps1(seed, trixel, stars, galaxies)))
        (folder / "index.dat").write_text("".join(f"{trixel}.fits\n" for trixel in sorted(tables)))


def _within(trixel: int, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows inside a trixel: an error of place may carry a source over its edge."""
    from lsst.sphgeom import HtmPixelization, LonLat, UnitVector3d

    pixels = HtmPixelization(7)
    places = zip(columns["coord_ra"].tolist(), columns["coord_dec"].tolist())
    keep = np.array([pixels.index(UnitVector3d(LonLat.fromRadians(*place))) == trixel for place in places], bool)
    return {name: values[keep] for name, values in columns.items()}

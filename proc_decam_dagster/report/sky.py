"""Maps of the sky, as PNG bytes: where a survey points, and which shards of its reference catalogues are there."""

import io
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from astropy.table import Table

from proc_decam_dagster.camera.distortion import camera_outline
from proc_decam_dagster.survey.exposures import rows_of_obs_type
from proc_decam_dagster.survey.proc_types import PROC_TYPES

SKY_NAME = "exposures_sky.png"
COVERAGE_NAME = "refcats_coverage.png"
BAND_COLOURS = {
    "u": "tab:purple", "g": "tab:green", "r": "tab:red", "i": "tab:brown", "z": "tab:pink", "Y": "tab:gray",
    "VR": "tab:blue", "N964": "black", "N708": "tab:olive", "N662": "tab:orange", "N540": "tab:cyan",
}  # fmt: skip
POINTING_DEG = 0.01
"""Exposures of the same band that point within this are drawn as one."""
FIELD_DEG = 3.0
"""Pointings nearer than this to each other are one field, and share a panel."""
FIELDS = 6
"""Panels at most: the fields with the most exposures."""
_OUTLINE_REACH_DEG = 1.3


def sky_map(table: Table, title: str = "") -> bytes:
    """Return a map of a survey's science exposures by band: the whole sky above, below it each field by itself.

    Both projections keep areas. East is to the left; an outline is that of the camera, darker where there were more
    exposures.

    Parameters
    ----------
    table : `astropy.table.Table`
        An exposure table.
    title : `str`, optional
    """
    shown = _pointings(table)
    if not len(shown):
        return _nothing(f"{title}: no science exposure with a position".lstrip(": "))
    fields = _fields(shown)
    columns = min(max(len(fields), 1), 3)
    lines = -(-len(fields) // columns)
    figure = _figure(11, 5 + 3.9 * lines)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[4.6, *[3.6] * lines])
    sky = figure.add_subplot(grid[0, :], projection="mollweide")
    middle = _circular_mean(shown["ra"])
    longitude = -np.radians(_wrapped(shown["ra"] - middle))
    for band in _bands(shown):
        of = shown["band"] == band
        count = int(shown["count"][of].sum())
        sky.scatter(
            longitude[of], np.radians(shown["dec"][of]), s=14, color=_colour(band), alpha=0.6, linewidths=0,
            label=f"{band}: {count:,} exposures, {of.sum()} pointings",
        )  # fmt: skip
    for number, field in enumerate(fields, 1):
        ra, dec = _centre(shown[field])
        sky.annotate(
            str(number), (-np.radians(_wrapped(ra - middle)), np.radians(dec)), xytext=(6, 6),
            textcoords="offset points", fontsize=9, fontweight="bold",
        )  # fmt: skip
    ticks = np.arange(-120, 121, 60)
    sky.set_xticks(np.radians(ticks), [f"{(middle - t) % 360:.0f}°" for t in ticks], fontsize=7)
    sky.tick_params(axis="y", labelsize=7)
    sky.grid(alpha=0.3)
    sky.set_title(title or "Science exposures")
    figure.legend(loc="upper right", fontsize=8, frameon=False)
    for number, field in enumerate(fields, 1):
        axes = figure.add_subplot(grid[1 + (number - 1) // columns, (number - 1) % columns])
        part = shown[field]
        centre = _centre(part)
        most = part["count"].max()
        for row in part[np.argsort(part["count"])]:
            x, y = _flat(*camera_outline(row["ra"], row["dec"]).T, *centre)
            colour, strength = _colour(row["band"]), 0.08 + 0.35 * float(row["count"] / most)
            axes.fill(x, y, color=colour, alpha=strength, linewidth=0)
            axes.plot(np.append(x, x[0]), np.append(y, y[0]), color=colour, linewidth=0.6, alpha=0.8)
        _sky_axes(axes, centre, f"{number}: {int(part['count'].sum()):,} exposures, {len(part)} pointings")
    return _png(figure)


def coverage_map(table: Table, wanted: Collection[int], present: Mapping[str, Iterable[int]]) -> bytes:
    """Return a map of the trixels that a survey needs, by catalogue: those that are there, and those that are not.

    Parameters
    ----------
    table : `astropy.table.Table`
        The survey's exposure table.
    wanted : collection of `int`
        htm7 ids of the footprint.
    present : mapping [`str`, iterable of `int`]
        Ids of the shards that are there, by catalogue.
    """
    from lsst.sphgeom import HtmPixelization
    from matplotlib.collections import PolyCollection

    shown = _pointings(table)
    if not len(shown) or not present:
        return _nothing("no reference catalogue and footprint to show")
    pixels = HtmPixelization(7)
    corners = {i: np.array([[v.x(), v.y(), v.z()] for v in pixels.triangle(i).getVertices()]) for i in sorted(wanted)}
    middles = np.array([c.sum(axis=0) for c in corners.values()])
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    fields = _fields(shown)
    figure = _figure(3.9 * len(present) + 0.4, 3.9 * len(fields) + 0.6)
    grid = figure.subplots(len(fields), len(present), squeeze=False)
    for line, field in enumerate(fields):
        part = shown[field]
        centre = _centre(part)
        places = _vectors(part["ra"], part["dec"])
        near = (middles @ places.T).max(axis=1) > np.cos(np.radians(_OUTLINE_REACH_DEG + 1))
        ids = [i for i, n in zip(corners, near) if n]
        shapes = {i: np.column_stack(_flat(*_positions(corners[i]), *centre)) for i in ids}
        for axes, (name, has) in zip(grid[line], present.items()):
            has = set(has)
            for there, look in ((True, {"facecolor": "tab:green"}), (False, {"facecolor": "tab:red", "hatch": "///"})):
                chosen = [shapes[i] for i in ids if (i in has) is there]
                axes.add_collection(PolyCollection(chosen, alpha=0.35, edgecolor="black", linewidth=0.5, **look))
            if len(ids) <= 60:
                for i in ids:
                    axes.text(*shapes[i].mean(axis=0), str(i), fontsize=5, ha="center", va="center", clip_on=True)
            axes.autoscale_view()
            for ra, dec in {(round(float(r["ra"]), 1), round(float(r["dec"]), 1)) for r in part}:
                x, y = _flat(*camera_outline(ra, dec).T, *centre)
                axes.plot(np.append(x, x[0]), np.append(y, y[0]), color="tab:blue", linewidth=0.7)
            count = sum(i in has for i in ids)
            _sky_axes(axes, centre, f"{name}\n{count} of {len(ids)} shards here")
    missing = {name: len(set(wanted) - set(has)) for name, has in present.items()}
    figure.suptitle(
        f"{len(wanted)} htm7 shards in the footprint; missing (red): "
        + ", ".join(f"{count} of {name}" for name, count in missing.items()),
        fontsize=9,
    )
    return _png(figure)


def _pointings(table: Table) -> Table:
    """Return the science exposures' places: band, ra, dec [deg], count."""
    if not {"RA(deg)", "DEC(deg)", "obs_type", "band"} <= set(table.colnames):
        return Table(names=("band", "ra", "dec", "count"), dtype=("U8", float, float, int))
    table = rows_of_obs_type(table, PROC_TYPES["drp"].obs_type)
    ra, dec = (np.ma.filled(np.ma.asarray(table[c], float), np.nan) for c in ("RA(deg)", "DEC(deg)"))
    there = np.isfinite(ra) & np.isfinite(dec)
    cells = np.stack([ra[there] / POINTING_DEG, dec[there] / POINTING_DEG], axis=1).round().astype(np.int64)
    bands, band = np.unique(np.asarray(table["band"]).astype(str)[there], return_inverse=True)
    found, count = np.unique(np.column_stack([band.reshape(-1, 1), cells]), axis=0, return_counts=True)
    if not len(found):
        return Table(names=("band", "ra", "dec", "count"), dtype=("U8", float, float, int))
    columns = [bands[found[:, 0]], found[:, 1] * POINTING_DEG, found[:, 2] * POINTING_DEG, count]
    return Table(columns, names=("band", "ra", "dec", "count"))


def _fields(shown: Table) -> list[np.ndarray]:
    """Return the rows of each group of pointings that hang together, those with the most exposures first."""
    vectors = _vectors(shown["ra"], shown["dec"])
    label = np.full(len(shown), -1)
    limit = np.cos(np.radians(FIELD_DEG))
    fields = 0
    for start in range(len(shown)):
        if label[start] >= 0:
            continue
        edge = np.array([start])
        while edge.size:
            label[edge] = fields
            near = (vectors @ vectors[edge].T > limit).any(axis=1)
            edge = np.flatnonzero(near & (label < 0))
        fields += 1
    groups = [np.flatnonzero(label == n) for n in range(fields)]
    return sorted(groups, key=lambda g: -shown["count"][g].sum())[:FIELDS]


def _bands(shown: Table) -> list[str]:
    counts = {str(b): shown["count"][shown["band"] == b].sum() for b in set(shown["band"])}
    return sorted(counts, key=lambda b: -counts[b])


def _colour(band: str) -> str:
    return BAND_COLOURS.get(str(band), "tab:orange")


def _vectors(ra, dec) -> np.ndarray:
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _positions(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return RA and Dec (deg) of vectors."""
    x, y, z = vectors.T
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _centre(part: Table) -> tuple[float, float]:
    ra, dec = _positions(_vectors(part["ra"], part["dec"]).mean(axis=0))
    return float(ra % 360), float(dec)


def _circular_mean(ra) -> float:
    angle = np.radians(np.asarray(ra, float))
    return float(np.degrees(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum())) % 360)


def _wrapped(degrees):
    return (np.asarray(degrees, float) + 180) % 360 - 180


def _flat(ra, dec, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Lambert's equal-area coordinates (deg) about a centre; x grows to the east."""
    delta, dec, dec0 = np.radians(np.asarray(ra, float) - ra0), np.radians(dec), np.radians(dec0)
    scale = np.sqrt(2 / (1 + np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(delta)))
    x = scale * np.cos(dec) * np.sin(delta)
    y = scale * (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(delta))
    return np.degrees(x), np.degrees(y)


def _sky_axes(axes, centre: tuple[float, float], title: str) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.invert_xaxis()
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(f"east of RA {centre[0]:.2f}° (°)", fontsize=7)
    axes.set_ylabel(f"north of Dec {centre[1]:+.2f}° (°)", fontsize=7)
    axes.tick_params(labelsize=7)


def _figure(width: float, height: float):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=90, layout="constrained")


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _nothing(message: str) -> bytes:
    figure = _figure(5, 1)
    figure.text(0.5, 0.5, message, ha="center", va="center")
    return _png(figure)

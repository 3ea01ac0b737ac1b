"""Pictures of a coadd subset: the deepest patches, and how deep the whole template is on the sky."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from proc_decam_dagster.report.drawing import new_figure, nothing, png
from proc_decam_dagster.report.images import binned, read_plane, stretch_limits
from proc_decam_dagster.repository.queries import find_refs, path_of
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

MAP_BINNING = 64


def coadd_pictures(repo: "Repository", coadd_subset: str, template_type: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and picture: the deepest patches, and the depth map of each band."""
    yield "deepest_patches", coadd_picture(repo, coadd_subset, template_type)
    for band in sorted({r.dataId["band"] for r in _depths(repo, coadd_subset, template_type)}):
        yield f"depth_{band}", depth_map(repo, coadd_subset, template_type, band)


def coadd_picture(repo: "Repository", coadd_subset: str, template_type: str, patches: int = 4) -> bytes:
    """Return the deepest coadds of a subset beside the number of visits in each pixel."""
    from matplotlib.ticker import MaxNLocator

    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    depth = {_key(r): binned(read_plane(path_of(repo, r)), 8) for r in _depths(repo, coadd_subset, template_type)}
    refs = {_key(r): r for r in find_refs(repo, datasets.named(datasets.COADD), chain)}
    deepest = sorted(depth.keys() & refs.keys(), key=lambda k: (-float(np.nanmean(depth[k])), k))[:patches]
    if not deepest:
        return nothing(f"{chain}: no coadds")
    figure = new_figure(2.6 * len(deepest) + 0.6, 5.2)
    axes = figure.subplots(2, len(deepest), squeeze=False)
    for column, key in enumerate(deepest):
        image = binned(read_plane(path_of(repo, refs[key])), 4)
        low, high = stretch_limits(image, 10, 99.5)
        stretched = np.arcsinh((image - low) / (high - low) * 5)
        axes[0, column].imshow(stretched, origin="lower", cmap="gray", vmin=0, vmax=np.arcsinh(5))
        axes[0, column].set_title(f"{key[0]} tract {key[1]} patch {key[2]}", fontsize=8)
        shown = axes[1, column].imshow(depth[key], origin="lower", cmap="viridis", vmin=0)
        figure.colorbar(shown, ax=axes[1, column], label="visits", shrink=0.8, ticks=MaxNLocator(integer=True))
    for a in axes.ravel():
        a.set_xticks([])
        a.set_yticks([])
    return png(figure)


def depth_map(repo: "Repository", coadd_subset: str, template_type: str, band: str) -> bytes:
    """Return the number of visits in a band's coadds on the sky, all patches together."""
    from matplotlib.ticker import MaxNLocator

    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    coadds = {_key(r): r for r in find_refs(repo, datasets.named(datasets.COADD), chain)}
    shown, corners = [], []
    for ref in _depths(repo, coadd_subset, template_type):
        if ref.dataId["band"] == band and _key(ref) in coadds:
            counts = binned(read_plane(path_of(repo, ref)), MAP_BINNING)
            wcs = _wcs(path_of(repo, coadds[_key(ref)]))
            y, x = np.mgrid[0 : counts.shape[0] + 1, 0 : counts.shape[1] + 1] * MAP_BINNING - 0.5
            shown.append(np.ma.masked_less_equal(np.nan_to_num(counts), 0))
            corners.append(wcs.all_pix2world(x, y, 0))
    if not shown:
        return nothing(f"{chain}: no coadds in {band}")
    # Around the first corner, so that a survey across 0 h is drawn in one piece.
    origin = corners[0][0].flat[0]
    places = [((ra - origin + 180) % 360 - 180 + origin, dec) for ra, dec in corners]
    (left, right), (bottom, top) = ((min(c.min() for c in cs), max(c.max() for c in cs)) for cs in zip(*places))
    stretch = 1 / np.cos(np.radians((bottom + top) / 2))
    # As high as the footprint is: a small one would else lie in an empty frame.
    figure = new_figure(7, 1.2 + float(np.clip(5.5 * (top - bottom) * stretch / (right - left), 0.8, 7)))
    axes = figure.subplots()
    most = max(float(c.max()) for c in shown)
    for counts, (ra, dec) in zip(shown, places):
        drawn = axes.pcolormesh(ra, dec, counts, vmin=0, vmax=most)
    axes.set(title=f"{coadd_subset} {template_type} {band}", xlabel="RA (deg)", ylabel="Dec (deg)")
    axes.set_aspect(stretch)
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    figure.colorbar(drawn, ax=axes, label="visits", ticks=MaxNLocator(5, integer=True))
    return png(figure)


def _depths(repo: "Repository", coadd_subset: str, template_type: str) -> list[Any]:
    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    return find_refs(repo, datasets.named(datasets.COADD_NIMAGE), chain)


def _key(ref: Any) -> tuple[str, int, int]:
    return ref.dataId["band"], ref.dataId["tract"], ref.dataId["patch"]


def _wcs(path: str) -> WCS:
    """Return the WCS of an image file, from the first header that has one."""
    with fits.open(path, memmap=False) as hdus:
        return next(WCS(h.header) for h in hdus if "CTYPE1" in h.header)

"""Small pictures of a night's products, as PNG bytes: focal-plane mosaics, coadds with their depth, differences."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.report.images import binned, read_plane, stretch_limits
from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

BINNING = 16
PIXEL_MM = 0.015
DPI = 80


def _figure(width: float, height: float):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _empty(message: str) -> bytes:
    figure = _figure(4, 1)
    figure.text(0.5, 0.5, message, ha="center", va="center")
    return _png(figure)


def focal_plane(images: Mapping[int, np.ndarray], title: str, unit: str) -> bytes:
    """Return a mosaic of binned detector images at their places in the focal plane.

    Parameters
    ----------
    images : mapping [`int`, `numpy.ndarray`]
        Detector → image (4096, 2048), already binned by `BINNING`.
    """
    if not images:
        return _empty(f"{title}: no data")
    low, high = stretch_limits(np.concatenate([i.ravel() for i in images.values()]))
    centres = np.array([DETECTORS[d].center_mm for d in images])
    half = np.array(next(iter(images.values())).shape[::-1]) * BINNING * PIXEL_MM / 2
    # The focal plane's x runs along CCD columns for DECam's long side: rows are drawn along y.
    tall, wide = np.ptp(centres, axis=0) + 2 * half
    figure = _figure(*(np.clip(np.array([wide, tall]) / max(wide, tall) * 7, 3, 7) + (1.2, 0.6)))
    axes = figure.subplots()
    for (detector, image), (x, y) in zip(images.items(), centres):
        shown = axes.imshow(
            image.T, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest",
            extent=(y - half[1], y + half[1], x - half[0], x + half[0]),
        )  # fmt: skip
        axes.text(y, x, str(detector), color="tab:orange", ha="center", va="center", fontsize=7)
    axes.set(
        title=title, xlabel="mm", ylabel="mm",
        xlim=(centres[:, 1].min() - half[1] - 1, centres[:, 1].max() + half[1] + 1),
        ylim=(centres[:, 0].min() - half[0] - 1, centres[:, 0].max() + half[0] + 1),
    )  # fmt: skip
    figure.colorbar(shown, ax=axes, label=unit, shrink=0.8)
    return _png(figure)


def calibration_picture(repo: "Repository", night: str, proc_type: str) -> bytes:
    """Return the focal plane of a night's certified bias or flat (one band where there are several)."""
    dataset = PROC_TYPES[proc_type].certifies
    refs = find_certified(repo, dataset, names.calib_collection(night, dataset))
    band = min((str(r.dataId.get("physical_filter", "")) for r in refs), default="")
    chosen = {
        int(r.dataId["detector"]): binned(read_plane(path_of(repo, r)), BINNING)
        for r in refs
        if str(r.dataId.get("physical_filter", "")) == band
    }
    return focal_plane(
        chosen, f"{proc_type} {night} {band.split(' ')[0]}", "ADU" if proc_type == "bias" else "relative"
    )


def visit_picture(repo: "Repository", night: str) -> bytes:
    """Return the focal plane of a night's first visit, calibrated and background-subtracted."""
    refs = find_refs(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night))
    first = [r for r in refs if r.dataId["visit"] == refs[0].dataId["visit"]]
    images = {int(r.dataId["detector"]): binned(read_plane(path_of(repo, r)), BINNING) for r in first}
    return focal_plane(images, f"visit {first[0].dataId['visit']}" if first else night, "electrons")


def coadd_picture(repo: "Repository", coadd_subset: str, template_type: str, patches: int = 4) -> bytes:
    """Return the deepest coadds of a subset beside the number of visits in each pixel."""
    from matplotlib.ticker import MaxNLocator

    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    depth = {
        (r.dataId["tract"], r.dataId["patch"]): binned(read_plane(path_of(repo, r)), 8)
        for r in find_refs(repo, datasets.named(datasets.COADD_NIMAGE), chain)
    }
    deepest = sorted(depth, key=lambda k: -float(np.nanmean(depth[k])))[:patches]
    refs = {(r.dataId["tract"], r.dataId["patch"]): r for r in find_refs(repo, datasets.named(datasets.COADD), chain)}
    deepest = [k for k in deepest if k in refs]
    if not deepest:
        return _empty(f"{chain}: no coadds")
    figure = _figure(2.6 * len(deepest) + 0.6, 5.2)
    axes = figure.subplots(2, len(deepest), squeeze=False)
    for column, key in enumerate(deepest):
        image = binned(read_plane(path_of(repo, refs[key])), 4)
        low, high = stretch_limits(image, 10, 99.5)
        axes[0, column].imshow(np.arcsinh((image - low) / (high - low) * 5), origin="lower", cmap="gray")
        axes[0, column].set_title(f"tract {key[0]} patch {key[1]}", fontsize=8)
        shown = axes[1, column].imshow(depth[key], origin="lower", cmap="viridis", vmin=0)
        figure.colorbar(shown, ax=axes[1, column], label="visits", shrink=0.8, ticks=MaxNLocator(integer=True))
    for a in axes.ravel():
        a.set_xticks([])
        a.set_yticks([])
    return _png(figure)


def difference_picture(
    repo: "Repository", subset: str, coadd_subset: str, template_type: str, sources: int = 6, half: int = 20
) -> bytes:
    """Return cut-outs of science, template and difference around the brightest new sources of a night."""
    from proc_decam_dagster.report.figures import dia_sources

    parts = (subset, coadd_subset, template_type)
    chain = PROC_TYPES["diff_drp"].chain(*parts)
    table = dia_sources(repo, *parts)
    if not len(table):
        return _empty(f"{chain}: no DIA sources")
    table = table[np.argsort(-np.asarray(table["snr"], float))][:sources]
    planes = (
        ("science", datasets.CALEXP), ("template", datasets.named(datasets.TEMPLATE)),
        ("difference", datasets.named(datasets.DIFFERENCE)),
    )  # fmt: skip
    figure = _figure(1.5 * len(table) + 0.8, 4.8)
    axes = figure.subplots(3, len(table), squeeze=False)
    cache: dict[tuple[str, int, int], np.ndarray] = {}
    for column, row in enumerate(table):
        visit, detector, x, y = int(row["visit"]), int(row["detector"]), float(row["x"]), float(row["y"])
        for line, (label, dataset) in enumerate(planes):
            key = (dataset, visit, detector)
            if key not in cache:
                found = find_refs(
                    repo, dataset, chain, "instrument='DECam' AND visit=v AND detector=d", v=visit, d=detector
                )
                cache[key] = read_plane(path_of(repo, found[0])) if found else np.full((1, 1), np.nan)
            image = cache[key]
            y0, x0 = max(int(y) - half, 0), max(int(x) - half, 0)
            stamp = image[y0 : int(y) + half + 1, x0 : int(x) + half + 1]
            axis = axes[line, column]
            if stamp.size:
                low, high = stretch_limits(stamp, 5, 99.5)
                axis.imshow(stamp, origin="lower", cmap="gray", vmin=low, vmax=high)
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(f"{visit}/{detector}\nS/N {float(row['snr']):.0f}", fontsize=7)
    return _png(figure)

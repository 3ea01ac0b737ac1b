"""Focal-plane mosaics of a night: its master calibrations, how they changed, the sky of a visit and what it leaves."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from proc_decam_dagster.report import mosaic
from proc_decam_dagster.report.images import BINNING, glance
from proc_decam_dagster.report.levels import earlier_masters
from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

SMOOTHING = 4
"""Binned pixels along a side of those whose median shows the sky: stars are on few of them."""
UNITS = {"bias": "ADU", "flat": "relative"}


def focal_plane(images: Mapping[int, np.ndarray], title: str, unit: str) -> bytes:
    """Return a mosaic of detector images, binned by `BINNING`; see `mosaic.focal_plane`."""
    return mosaic.focal_plane(images, title, unit, binning=BINNING)


def sky_plane(repo: "Repository", refs: list[Any], title: str) -> bytes:
    """Return a mosaic of the sky of images of one exposure (electrons), without its stars."""
    images = {int(ref.dataId["detector"]): smoothed(_small(repo, ref)) for ref in refs}
    return mosaic.focal_plane(images, title, "electrons", binning=BINNING * SMOOTHING)


def smoothed(image: np.ndarray) -> np.ndarray:
    """Return the median of `SMOOTHING` × `SMOOTHING` blocks, NaN where a block has no finite pixel."""
    ny, nx = (n // SMOOTHING for n in image.shape)
    blocks = image[: ny * SMOOTHING, : nx * SMOOTHING].reshape(ny, SMOOTHING, nx, SMOOTHING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanmedian(blocks, axis=(1, 3))


def calibration_picture(repo: "Repository", night: str, proc_type: str, band: str | None = None) -> bytes:
    """Return the focal plane of a night's certified bias or flat (of its first band where there are several)."""
    masters = _masters(repo, night, proc_type)
    band = min(masters, default="") if band is None else band
    images = {d: _small(repo, ref) for d, ref in masters.get(band, {}).items()}
    return focal_plane(images, f"{proc_type} {night} {_short(band)}", UNITS[proc_type])


def calibration_pictures(repo: "Repository", night: str, proc_type: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and picture of a night's masters, of each band, and of how they differ from the last night's."""
    masters = _masters(repo, night, proc_type)
    for band in sorted(masters):
        name = f"focal_plane_{_short(band)}" if band else "focal_plane"
        yield name, calibration_picture(repo, night, proc_type, band)
    for other, before in earlier_masters(repo, night, proc_type)[:1]:
        for band, refs in sorted(masters.items()):
            last = {int(m.detector): ref for m, ref in before.items() if m.physical_filter == band}
            images = {}
            for detector in refs.keys() & last.keys():
                now, then = _small(repo, refs[detector]), _small(repo, last[detector])
                images[detector] = now - then if proc_type == "bias" else 100 * (now / then - 1)
            unit = "ADU" if proc_type == "bias" else "%"
            name = f"change_{_short(band)}" if band else "change"
            yield name, focal_plane(images, f"{proc_type} {night} against {other} {_short(band)}", unit)


def visit_picture(repo: "Repository", night: str) -> bytes:
    """Return the focal plane of a night's best covered visit, calibrated and background-subtracted."""
    refs = _best_visit(find_refs(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night)), "visit")
    title = f"visit {refs[0].dataId['visit']}: what the sky model leaves" if refs else night
    return sky_plane(repo, refs, title)


def visit_pictures(repo: "Repository", night: str) -> Iterator[tuple[str, bytes]]:
    """Yield the focal plane of a visit before its sky is subtracted, and after."""
    refs = _best_visit(find_refs(repo, datasets.POST_ISR, PROC_TYPES["drp"].chain(night)), "exposure")
    if refs:
        yield "sky", sky_plane(repo, refs, f"exposure {refs[0].dataId['exposure']}: sky")
    yield "residuals", visit_picture(repo, night)


def _best_visit(refs: list[Any], dimension: str) -> list[Any]:
    """Return the datasets of the first visit (or exposure) that has the most detectors."""
    if not refs:
        return []
    counts = Counter(r.dataId[dimension] for r in refs)
    best = min(counts, key=lambda v: (-counts[v], v))
    return [r for r in refs if r.dataId[dimension] == best]


def _masters(repo: "Repository", night: str, proc_type: str) -> dict[str, dict[int, Any]]:
    """Return the certified masters of a night: physical filter (empty for a bias) → detector → dataset."""
    dataset = PROC_TYPES[proc_type].certifies
    found: dict[str, dict[int, Any]] = {}
    for ref in find_certified(repo, dataset, names.calib_collection(night, dataset)):
        found.setdefault(str(ref.dataId.get("physical_filter", "")), {})[int(ref.dataId["detector"])] = ref
    return found


def _small(repo: "Repository", ref: Any) -> np.ndarray:
    return glance(path_of(repo, ref)).small


def _short(physical_filter: str) -> str:
    return physical_filter.split(" ")[0]

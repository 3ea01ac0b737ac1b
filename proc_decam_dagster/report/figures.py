"""Numbers that people look at over time: calibration levels, seeing, zero point, depth, scatter, counts of sources."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table, vstack

from proc_decam_dagster.execution.plan import bytes_below
from proc_decam_dagster.report.images import glance, read_plane
from proc_decam_dagster.repository.association import coadd_nights
from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of, source_night
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

RELIABILITY = 0.5
"""Least real/bogus score of what a survey works with."""


def calibration_figures(repo: "Repository", night: str, proc_type: str) -> dict[str, float]:
    """Return the number of certified masters of a night, their median level and pixel scatter."""
    dataset = PROC_TYPES[proc_type].certifies
    levels, scatters = [], []
    for ref in find_certified(repo, dataset, names.calib_collection(night, dataset)):
        sample = glance(path_of(repo, ref)).sample
        level = np.nanmedian(sample)
        levels.append(level)
        scatters.append(1.4826 * np.nanmedian(np.abs(sample - level)))
    return {
        "certified": len(levels),
        "median_level": float(np.median(levels)) if levels else float("nan"),
        "median_scatter": float(np.median(scatters)) if scatters else float("nan"),
    }


def visit_summary(repo: "Repository", night: str) -> Table:
    """Return one row a visit and detector of a night: the visits' summaries, stacked (empty if there is none)."""
    refs = find_refs(repo, datasets.VISIT_SUMMARY, PROC_TYPES["drp"].chain(night))
    tables = [repo.butler().get(ref) for ref in refs]
    return vstack(tables, metadata_conflicts="silent") if tables else Table()


VISIT_FIGURES = {
    "seeing_arcsec": "fwhm_arcsec",
    "zero_point": "zero_point",
    "astrometric_rms_mas": "astrometric_rms_mas",
    "zero_point_scatter": "zero_point_scatter",
    "depth_5sigma": "depth_5sigma_mag",
    "sky_e": "sky_e",
}
"""Figure of a night → column of the visit summaries whose median it is."""


def visit_figures(repo: "Repository", night: str) -> dict[str, float]:
    """Return medians over the visits and detectors of a night."""
    summary = visit_summary(repo, night)
    figures: dict[str, float] = {"calexps": len(summary)}
    for figure, column in VISIT_FIGURES.items():
        values = np.asarray(summary[column], float) if column in summary.colnames else np.array([])
        figures[figure] = float(np.nanmedian(values)) if values.size else float("nan")
    return figures


def refused_detectors(repo: "Repository", night: str) -> list[tuple[int, int, str]]:
    """Return visit, detector and reason of what the visit summaries of a night refuse: none of it enters a warp.

    Empty for an engine whose summaries judge nothing.
    """
    summary = visit_summary(repo, night)
    if "accepted" not in summary.colnames:
        return []
    return [
        (int(row["visit"]), int(row["detector"]), str(row["reason"]))
        for row in summary[~summary["accepted"].astype(bool)]
    ]


def warps_by_night(repo: "Repository", coadd_subset: str, template_type: str) -> list[tuple[str, int, int]]:
    """Return the nights that went into a coadd subset, each with its number of warps and of visits."""
    tag = names.coadd_inputs_collection(coadd_subset, template_type)
    warps: dict[str, list[int]] = {night: [] for night in coadd_nights(repo, coadd_subset, template_type)}
    for ref in find_refs(repo, datasets.named(datasets.DIRECT_WARP), tag):
        warps.setdefault(source_night(ref), []).append(int(ref.dataId["visit"]))
    return [(night, len(visits), len(set(visits))) for night, visits in sorted(warps.items())]


def gigabytes_of(repo: "Repository", runs: Iterable[str]) -> float:
    """Return the size of the files that RUNs hold in the repository's folder (GB)."""
    return sum(bytes_below(Path(repo.root) / run) for run in runs) / 1e9


def coadd_figures(repo: "Repository", coadd_subset: str, template_type: str) -> dict[str, float]:
    """Return the number of coadds, the median number of visits in them, and their median pixel noise in nJy."""
    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    counts = [
        read_plane(path_of(repo, ref))[::8, ::8]
        for ref in find_refs(repo, datasets.named(datasets.COADD_NIMAGE), chain)
    ]
    inputs = np.concatenate([c[c > 0] for c in counts]) if counts else np.array([])
    noise = []
    for ref in find_refs(repo, datasets.named(datasets.COADD), chain):
        variance = read_plane(path_of(repo, ref), "VARIANCE")[::8, ::8]
        finite = variance[np.isfinite(variance) & (variance > 0)]
        if finite.size:
            noise.append(np.sqrt(np.median(finite)))
    return {
        "coadds": len(counts),
        "median_inputs": float(np.median(inputs)) if inputs.size else 0.0,
        "median_noise_njy": float(np.median(noise)) if noise else float("nan"),
    }


def dia_sources(
    repo: "Repository", subset: str, coadd_subset: str, template_type: str, *, injected: bool = False
) -> Table:
    """Return the DIA sources of a night, stacked over its visits (empty if there is none)."""
    chain = PROC_TYPES["diff_drp"].chain(subset, coadd_subset, template_type)
    name = (datasets.INJECTED if injected else "") + datasets.DIA_SOURCE_TABLE_VISIT
    tables = [repo.butler().get(ref) for ref in find_refs(repo, name, chain)]
    tables = [t for t in tables if len(t)]
    return vstack(tables, metadata_conflicts="silent") if tables else Table()


def sample(sources: Table, *, negative: bool = False) -> Table:
    """Return the DIA sources that a survey works with: positive (or negative), no dipoles, more likely real than not.

    What it leaves out stays in the tables.
    """
    if not len(sources):
        return sources
    kept = (np.asarray(sources["negative"], bool) == negative) & ~np.asarray(sources["dipole"], bool)
    return sources[kept & (np.asarray(sources["reliability"], float) > RELIABILITY)]


def difference_figures(repo: "Repository", subset: str, coadd_subset: str, template_type: str) -> dict[str, float]:
    """Return the number of difference images, of DIA sources a CCD, of DIA objects of a night, and of false sources.

    Noise and bad subtractions make as many negative sources as positive ones; what is new is positive. The number of
    negative ones in the sample that a survey works with therefore estimates that of false ones in it, from above:
    variable stars that were brighter in the template count too.
    """
    parts = (subset, coadd_subset, template_type)
    chain = PROC_TYPES["diff_drp"].chain(*parts)
    differences = len(find_refs(repo, datasets.named(datasets.DIFFERENCE), chain))
    objects = sum(
        len(repo.butler().get(ref)) for ref in find_refs(repo, datasets.named(datasets.DIA_OBJECTS_CALCULATED), chain)
    )
    found = dia_sources(repo, *parts)
    ccds = differences or float("nan")
    return {
        "differences": differences,
        "dia_sources": len(found),
        "dia_sources_per_ccd": len(found) / ccds,
        "candidates_per_ccd": len(sample(found)) / ccds,
        "false_per_ccd": len(sample(found, negative=True)) / ccds,
        "dia_objects": objects,
    }

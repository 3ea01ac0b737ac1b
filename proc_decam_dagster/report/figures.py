"""Numbers that people look at over time: calibration levels, seeing, zero point, depth, scatter, counts of sources."""

from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table, vstack

from proc_decam_dagster.report.images import read_plane
from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def calibration_figures(repo: "Repository", night: str, proc_type: str) -> dict[str, float]:
    """Return the number of certified masters of a night, their median level and pixel scatter."""
    dataset = PROC_TYPES[proc_type].certifies
    levels, scatters = [], []
    for ref in find_certified(repo, dataset, names.calib_collection(night, dataset)):
        sample = read_plane(path_of(repo, ref))[::8, ::8]
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


def difference_figures(repo: "Repository", subset: str, coadd_subset: str, template_type: str) -> dict[str, float]:
    """Return the number of difference images, of DIA sources a CCD, and of DIA objects of a night."""
    parts = (subset, coadd_subset, template_type)
    chain = PROC_TYPES["diff_drp"].chain(*parts)
    differences = len(find_refs(repo, datasets.named(datasets.DIFFERENCE), chain))
    objects = sum(
        len(repo.butler().get(ref)) for ref in find_refs(repo, datasets.named(datasets.DIA_OBJECTS_CALCULATED), chain)
    )
    sources = len(dia_sources(repo, *parts))
    return {
        "differences": differences,
        "dia_sources": sources,
        "dia_sources_per_ccd": sources / differences if differences else float("nan"),
        "dia_objects": objects,
    }

"""How completely fakes are recovered from differences of injected images, by magnitude."""

from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from proc_decam_dagster.report.drawing import new_figure, nothing, png
from proc_decam_dagster.report.figures import dia_sources, sample, visit_figures
from proc_decam_dagster.repository.queries import find_refs
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

MATCH_PIXELS = 3.0
"""A source this near to where a fake was injected is that fake."""
USABLE = 0.5
"""Least fraction of a fake's PSF on good pixels: one on a bad column cannot be found."""
BIN_MAG = 0.5


def fakes_recovery(repo: "Repository", subset: str, coadd_subset: str, template_type: str) -> Table:
    """Return one row a fake on good pixels of a difference of an injected image: visit, detector, mag, recovered.

    A fake is recovered if a source of the sample that a survey works with lies at its place. The table is empty if no
    injected image was differenced.
    """
    chain = PROC_TYPES["diff_drp"].chain(subset, coadd_subset, template_type)
    searched = {
        (int(r.dataId["visit"]), int(r.dataId["detector"]))
        for r in find_refs(repo, datasets.INJECTED + datasets.named(datasets.DIFFERENCE), chain)
    }
    found = sample(dia_sources(repo, subset, coadd_subset, template_type, injected=True)) if searched else Table()
    rows = []
    for ref in find_refs(repo, datasets.INJECTED_CATALOG, PROC_TYPES["drp"].chain(subset)) if searched else ():
        visit, detector = int(ref.dataId["visit"]), int(ref.dataId["detector"])
        if (visit, detector) not in searched:
            continue
        fakes = repo.butler().get(ref)
        fakes = fakes[np.asarray(fakes["usable"], float) > USABLE]
        here = found
        if len(found):
            here = found[(np.asarray(found["visit"]) == visit) & (np.asarray(found["detector"]) == detector)]
        near = np.full(len(fakes), np.inf)
        if len(here) and len(fakes):
            near, _ = cKDTree(_places(here)).query(_places(fakes))
        rows += [(visit, detector, float(m), bool(d < MATCH_PIXELS)) for m, d in zip(fakes["mag"], near)]
    return Table(rows=rows, names=("visit", "detector", "mag", "recovered")) if rows else Table()


def completeness(recovery: Table) -> list[tuple[float, int, int]]:
    """Return the centre of each bin of magnitudes, its number of fakes, and how many of them were recovered."""
    bins = np.floor(np.asarray(recovery["mag"]) / BIN_MAG).astype(int)
    recovered = np.asarray(recovery["recovered"], bool)
    return [((b + 0.5) * BIN_MAG, int((bins == b).sum()), int(recovered[bins == b].sum())) for b in np.unique(bins)]


def bright_fakes(repo: "Repository", subset: str, recovery: Table) -> tuple[float, int, int]:
    """Return a limiting magnitude, and how many brighter fakes there are and were recovered.

    The limit is one magnitude above the night's median depth of 5 σ (of point sources in single exposures): a
    difference has the noise of both images, and yet such a fake stands out by some 10 σ.
    """
    limit = visit_figures(repo, subset)["depth_5sigma"] - 1.0
    bright = recovery[np.asarray(recovery["mag"]) < limit]
    return limit, len(bright), int(np.sum(bright["recovered"])) if len(bright) else 0


def completeness_picture(recovery: Table, title: str) -> bytes:
    """Return the fraction of fakes recovered against their magnitude, with its binomial uncertainty."""
    if not len(recovery):
        return nothing(f"{title}: no injected images were differenced")
    mag, total, good = (np.array(c, float) for c in zip(*completeness(recovery)))
    fraction = good / total
    # Wilson's interval: it stays within 0 and 1, and has a width where all or none were recovered.
    centre = (fraction + 0.5 / total) / (1 + 1 / total)
    width = np.sqrt(fraction * (1 - fraction) / total + 0.25 / total**2) / (1 + 1 / total)
    figure = new_figure(5.5, 3.6)
    axes = figure.subplots()
    axes.vlines(mag, centre - width, centre + width, color="tab:blue", lw=1)
    axes.plot(mag, fraction, "o-", color="tab:blue")
    for x, y, n in zip(mag, fraction, total):
        axes.annotate(f"{n:.0f}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(
        xlabel="magnitude (beside the points: fakes injected)", ylabel="fakes recovered", ylim=(-0.05, 1.1), title=title
    )
    return png(figure)


def _places(table: Table) -> np.ndarray:
    return np.column_stack([np.asarray(table["x"], float), np.asarray(table["y"], float)])

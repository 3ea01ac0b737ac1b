"""Pictures of a night's differences: cut-outs of its best new sources, and how completely fakes are recovered."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from proc_decam_dagster.report.drawing import new_figure, nothing, png
from proc_decam_dagster.report.figures import dia_sources, sample
from proc_decam_dagster.report.images import read_plane, stretch_limits
from proc_decam_dagster.report.recovery import completeness_picture, fakes_recovery
from proc_decam_dagster.repository.queries import find_refs, path_of
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

PLANES = (
    ("science", datasets.CALEXP), ("template", datasets.named(datasets.TEMPLATE)),
    ("difference", datasets.named(datasets.DIFFERENCE)),
)  # fmt: skip


def difference_pictures(
    repo: "Repository", subset: str, coadd_subset: str, template_type: str
) -> Iterator[tuple[str, bytes]]:
    """Yield name and picture: cut-outs of new sources; completeness of fakes where injected images were differenced."""
    parts = (subset, coadd_subset, template_type)
    yield "new_sources", difference_picture(repo, *parts)
    recovery = fakes_recovery(repo, *parts)
    if len(recovery):
        yield "completeness", completeness_picture(recovery, " ".join(parts))


def difference_picture(
    repo: "Repository", subset: str, coadd_subset: str, template_type: str, sources: int = 8, half: int = 20
) -> bytes:
    """Return cut-outs of science, template and difference around the best new sources of a night, the brightest first.

    Those that a survey works with (see `sample`); a place that was seen in several visits is shown once.
    """
    parts = (subset, coadd_subset, template_type)
    chain = PROC_TYPES["diff_drp"].chain(*parts)
    table = sample(dia_sources(repo, *parts))
    if not len(table):
        return nothing(f"{chain}: no new sources")
    table = table[np.argsort(-np.asarray(table["snr"], float), kind="stable")]
    places, chosen = set(), []
    for index, row in enumerate(table):
        place = (round(float(row["ra"]) * 3600 / 3), round(float(row["dec"]) * 3600 / 3))
        if not {(place[0] + i, place[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & places:
            chosen.append(index)
        places.add(place)
        if len(chosen) == sources:
            break
    table = table[chosen]
    figure = new_figure(1.5 * len(table) + 0.8, 4.8)
    axes = figure.subplots(3, len(table), squeeze=False)
    cache: dict[tuple[str, int, int], np.ndarray] = {}
    for column, row in enumerate(table):
        visit, detector, x, y = int(row["visit"]), int(row["detector"]), float(row["x"]), float(row["y"])
        for line, (label, dataset) in enumerate(PLANES):
            key = (dataset, visit, detector)
            if key not in cache:
                cache[key] = _image(repo, dataset, chain, visit, detector)
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
        axes[0, column].set_title(f"{visit}/{detector}\nS/N {float(row['snr']):.0f}", fontsize=8)
    return png(figure)


def _image(repo: "Repository", dataset: str, chain: str, visit: int, detector: int) -> np.ndarray:
    where = "instrument='DECam' AND visit=v AND detector=d"
    found = find_refs(repo, dataset, chain, where, v=visit, d=detector)
    return read_plane(path_of(repo, found[0])) if found else np.full((1, 1), np.nan)

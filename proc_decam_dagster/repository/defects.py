"""Bad-pixel masks, Community-Pipeline and DES, made into curated defects: tables of boxes, certified for all time."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from proc_decam_dagster.archive.mask_file import read_mask
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.certify import certify_refs
from proc_decam_dagster.repository.chains import new_run
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB_BPM

FAMILIES = {
    "cp": "cp/DECam_Master_20140209v2_cd_{detector:02d}.fits",
    "des": "des/D_n20150105t0115_c{detector:02d}_r2134p01_bpm.fits",
}
"""File of each family's mask of a detector, below the folder that is given."""
BAD = "bad"
"""The RUNs of bad pixels are below this name."""
FETCH_AGAIN = "delete it, and run `proc-decam defects` again, which fetches what is not there"
DES_SUSPECT = 512
"""Value of suspect pixels in the DES masks; every other value but 0 is bad."""


@dataclass
class DefectsReport:
    """What was written.

    Attributes
    ----------
    collection : `str`
        CALIBRATION collection.
    detectors : `int`
    bad_pixels, suspect_pixels, bad_boxes, suspect_boxes : `int`
        Totals over the detectors.
    """

    collection: str
    detectors: int = 0
    bad_pixels: int = 0
    suspect_pixels: int = 0
    bad_boxes: int = 0
    suspect_boxes: int = 0
    masks: list[str] = field(default_factory=lambda: list(FAMILIES))

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def ingest_defects(
    repo: Repository,
    bpm_dir: str | os.PathLike,
    *,
    detectors: Iterable[int] | None = None,
    calib_collection: str = CALIB_BPM,
    run_prefix: str = CALIB_BPM,
    bad_dataset: str = datasets.DEFECTS,
    suspect_dataset: str = datasets.SUSPECT_MASK,
) -> DefectsReport:
    """Write the union of both mask families as defects, and certify them from 1970 to 2100.

    Those certified before stay in their RUNs, where graphs that are running read them; the new ones take their place
    in the collection all at once.

    Parameters
    ----------
    bpm_dir : path-like
        Folder that holds the families' folders ``cp`` and ``des``.
    detectors : iterable of `int`, optional
        Only these; all 62 if not given. Masks are needed for each of them, from both families.
    calib_collection : `str`
        CALIBRATION collection that the defects are certified into.
    run_prefix : `str`
        The RUNs are ``{run_prefix}/bad/{UTC stamp}`` and ``{run_prefix}/suspect/{UTC stamp}``.
    bad_dataset, suspect_dataset : `str`
        Dataset type names.

    Raises
    ------
    SurveyError
        If a mask is missing, unreadable, or not of a CCD's shape; nothing is written then.
    """
    wanted = sorted(set(detectors)) if detectors is not None else sorted(DETECTORS)
    if unknown := [d for d in wanted if d not in DETECTORS]:
        raise SurveyError(f"detectors {unknown} do not exist", "1 to 62")
    folder = Path(bpm_dir)
    _require(folder, wanted)
    report = DefectsReport(calib_collection, len(wanted))
    tables: dict[str, dict[int, Table]] = {bad_dataset: {}, suspect_dataset: {}}
    for detector in wanted:
        bad, suspect = union_masks(
            *(read_mask(folder / p.format(detector=detector), fix=FETCH_AGAIN) for p in FAMILIES.values())
        )
        tables[bad_dataset][detector] = mask_to_boxes(bad)
        tables[suspect_dataset][detector] = mask_to_boxes(suspect)
        report.bad_pixels += int(bad.sum())
        report.suspect_pixels += int(suspect.sum())
    report.bad_boxes = sum(map(len, tables[bad_dataset].values()))
    report.suspect_boxes = sum(map(len, tables[suspect_dataset].values()))
    butler = repo.butler(writeable=True)
    with repo.lock(calib_collection, wait_seconds=60):
        refs = []
        for name, parent in ((bad_dataset, f"{run_prefix}/{BAD}"), (suspect_dataset, f"{run_prefix}/suspect")):
            refs += repo.engine.put_defects(butler, name, tables[name], new_run(butler, parent))
        certify_refs(butler, calib_collection, refs)
    return report


def union_masks(cp: np.ndarray, des: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bad and the suspect pixels (bool) of two masks; a pixel that either calls bad is not suspect."""
    bad = (cp != 0) | ((des != 0) & (des != DES_SUSPECT))
    return bad, (des == DES_SUSPECT) & ~bad


def mask_to_boxes(mask: np.ndarray) -> Table:
    """Return boxes that cover exactly the set pixels of a mask.

    Runs along x that repeat from row to row become one box, so that a bad column is one box; or runs along y that
    repeat from column to column, if those are fewer.

    Parameters
    ----------
    mask : `numpy.ndarray`, (ny, nx), bool

    Returns
    -------
    boxes : `astropy.table.Table`
        Integer columns ``x0, y0, width, height`` in pixels, which do not overlap.
    """
    along_x, along_y = _runs(mask), _runs(mask.T)
    boxes = along_x if len(along_x) <= len(along_y) else [(x, y, w, h) for y, x, h, w in along_y]
    columns = np.array(sorted(boxes), np.int32).reshape(-1, 4)
    return Table(columns, names=("x0", "y0", "width", "height"))


def _runs(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return boxes (x0, y0, width, height) of runs along x that repeat from row to row."""
    rows = np.nonzero(mask.any(axis=1))[0]
    edges = np.diff(np.pad(mask[rows].astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, stops = np.nonzero(edges == 1), np.nonzero(edges == -1)
    boxes: list[tuple[int, int, int, int]] = []
    growing: dict[tuple[int, int], int] = {}
    last, first = -2, 0
    for index, y in enumerate(rows.tolist()):
        end = int(np.searchsorted(starts[0], index, side="right"))
        runs = set(zip(starts[1][first:end].tolist(), stops[1][first:end].tolist()))
        first = end
        kept = runs if y == last + 1 else set()
        for run in [r for r in growing if r not in kept]:
            boxes.append((run[0], growing[run], run[1] - run[0], last + 1 - growing.pop(run)))
        growing.update({run: y for run in runs if run not in growing})
        last = y
    boxes += [(run[0], y0, run[1] - run[0], last + 1 - y0) for run, y0 in growing.items()]
    return boxes


def boxes_to_mask(boxes: Table, shape: tuple[int, int] = TRIMMED_SHAPE) -> np.ndarray:
    """Return the mask (bool) that boxes cover; the inverse of `mask_to_boxes`."""
    mask = np.zeros(shape, bool)
    for x0, y0, width, height in boxes.iterrows("x0", "y0", "width", "height"):
        mask[y0 : y0 + height, x0 : x0 + width] = True
    return mask


def missing_masks(bpm_dir: str | os.PathLike, detectors: Iterable[int] | None = None) -> list[str]:
    """Return the mask files of some detectors (all if not given) that a folder lacks, relative to it."""
    wanted = sorted(set(DETECTORS) if detectors is None else set(detectors) & set(DETECTORS))
    names = [p.format(detector=d) for p in FAMILIES.values() for d in wanted]
    return [name for name in names if not (Path(bpm_dir) / name).is_file()]


def _require(folder: Path, detectors: list[int]) -> None:
    """Raise an error that names the mask families and files that are missing."""
    fix = "put them there, or give the detectors that you have with `--detectors`"
    absent = [family for family in FAMILIES if not (folder / family).is_dir()]
    if absent:
        raise SurveyError(f"{folder} lacks the mask family {', '.join(absent)}", "the folders cp and des", fix)
    missing = missing_masks(folder, detectors)
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise SurveyError(
            f"{folder} lacks {len(missing)} masks: {shown}", f"one a detector for {len(detectors)} detectors", fix
        )

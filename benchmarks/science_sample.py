"""The simulated CCD that the science benchmark works on: raws, masters and calibrated exposures, at full size."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.table import Table
from lsst.pipe.base import InMemoryDatasetHandle

import proc_decam_dagster
from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.instrument.formatters import read_table
from proc_decam_dagster.instrument.image_file import read_image, write_image
from proc_decam_dagster.instrument.raw import read_raw
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.repository.defects import mask_to_boxes, union_masks
from proc_decam_dagster.simulation.catalogue import trixels_of_circle
from proc_decam_dagster.simulation.optics import PsfField, true_cards
from proc_decam_dagster.simulation.plan import Exposure, exposures_of_night
from proc_decam_dagster.simulation.survey import read_plan, simulate_survey

PACKAGE = Path(proc_decam_dagster.__file__).parent
DETECTOR = 25
SEED = 11
TEMPLATES = 8
"""Epochs of the coadd."""
SCIENCE = 10
"""Differences: half of the exposures are sharper than the template."""


@dataclass
class Visit:
    """One calibrated exposure: the image, its sources, and the conditions under which it was simulated."""

    exposure: MaskedImage
    sources: Table
    truth: Exposure

    @property
    def psf(self) -> PsfField:
        """The true PSF."""
        return PsfField.of(self.truth)


class Sample:
    """A simulated survey of one CCD: 20 zeros, 10 flats and 10 exposures a night, in two nights.

    Parameters
    ----------
    folder : `pathlib.Path`
        Made if it holds no survey yet.
    say : callable
        Takes a line of progress.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say, self.detector = folder, say, DETECTOR
        self.raws = folder / "survey"
        self.products = _products(folder)
        if not (self.raws / "truth" / "exposures.ecsv").is_file():
            say("simulating 20 exposures, 40 zeros and 20 flats of one CCD")
            simulate_survey(
                self.raws, seed=SEED, detectors=(DETECTOR,), template_nights=1, science_nights=1,
                exposures_per_night=SCIENCE, zeros=20, flats=10, transients=0, movers=0, variables=0, fakes=0, jobs=1,
            )  # fmt: skip
        self.plan, nights = read_plan(self.raws)
        self.exposures = [e for n, (night, kind) in enumerate(nights)
                          for e in exposures_of_night(self.plan, n, night, kind)]  # fmt: skip
        rows = Table.read(self.raws / "archive" / "files.ecsv", format="ascii.ecsv")
        self._paths = {int(row["EXPNUM"]): self.raws / "archive" / str(row["path"]) for row in rows}

    def expnums(self, obs_type: str, kind: str | None = None) -> list[int]:
        """Return the exposures of a type (``zero``, ``dome flat``, ``object``) and kind (``template``, ``science``)."""
        return [e.expnum for e in self.exposures if e.obs_type == obs_type and kind in (None, e.kind)]

    def path(self, expnum: int) -> Path:
        """Return the raw file of an exposure."""
        return self._paths[expnum]

    def raw(self, expnum: int):
        """Return the raw frame of an exposure."""
        return read_raw(self.path(expnum), self.detector)

    @staticmethod
    def statistics(raw) -> dict:
        """Return the statistics of a raw frame that the tasks ask for."""
        from proc_decam_dagster.tasks.raw_statistics import RawStatisticsTask

        return RawStatisticsTask().run(raw).statistics

    @property
    def crosstalk(self) -> dict:
        """The ``crosstalk`` dataset of the detector."""
        return {"detector": self.detector, "sources": [list(row) for row in sources(self.detector)]}

    @property
    def linearizer(self) -> dict | None:
        """The ``linearizer`` dataset of the detector, if the survey's amplifiers are bent."""
        tables = {name: {"adu": t.adu, "correction": t.correction} for name, t in linearity(self.detector).items()}
        return {"detector": self.detector, "amplifiers": tables} if self.plan.linearity else None

    @cached_property
    def defects(self) -> tuple[Table, Table]:
        """Boxes of bad and of suspect pixels, of the simulated masks."""
        from proc_decam_dagster.archive.mask_file import read_mask

        cp, des = (
            next((self.raws / "bpm").glob(pattern))
            for pattern in (f"cp/*_cd_{self.detector:02d}.fits", f"des/*_c{self.detector:02d}_*.fits")
        )
        return tuple(mask_to_boxes(mask) for mask in union_masks(read_mask(cp), read_mask(des)))

    @cached_property
    def bias(self) -> MaskedImage:
        """The master bias of the first night."""
        from proc_decam_dagster.tasks.bias import BiasCombineTask

        return self._made("bias", lambda: BiasCombineTask().run(
            *self._stack(self.expnums("zero", "template")), detector=self.detector
        ).bias)  # fmt: skip

    @cached_property
    def flat(self) -> MaskedImage:
        """The master flat of the first night."""
        from proc_decam_dagster.tasks.flat import FlatCombineTask

        def make() -> MaskedImage:
            numbers = self.expnums("dome flat", "template")
            scales = {str(e.expnum): float(e.lamp_e) for e in self.exposures if e.expnum in numbers}
            handles, statistics = self._stack(numbers)
            return FlatCombineTask().run(
                handles, statistics, {"scales": scales, "rejected": {}, "rejected_frames": {}}, self.bias,
                self.crosstalk, self.linearizer, detector=self.detector, physical_filter=self.plan.physical_filter,
            ).flat  # fmt: skip

        return self._made("flat", make)

    @cached_property
    def references(self) -> dict[str, list[Table]]:
        """The reference shards that the CCD touches, by catalogue."""
        ny, nx = TRIMMED_SHAPE
        ra, dec = (float(v) for v in self.true_wcs(self.exposures[-1].expnum).all_pix2world(nx / 2, ny / 2, 0))
        wanted = set(trixels_of_circle(ra, dec, 0.25))
        folders = sorted(p for p in (self.raws / "refcats").rglob("*") if p.is_dir() and list(p.glob("*.fits")))
        return {
            folder.name: [read_table(str(p)) for p in sorted(folder.glob("*.fits")) if int(p.stem) in wanted]
            for folder in folders
        }

    def detrend(self, raw) -> MaskedImage:
        """Return a raw frame in electrons, as the ISR task makes it."""
        from proc_decam_dagster.tasks.isr import IsrTask

        defects, suspect = self.defects
        return IsrTask().run(
            raw, self.statistics(raw), self.bias, self.flat, self.crosstalk, defects=defects, suspectMask=suspect,
            linearizer=self.linearizer,
        ).outputExposure  # fmt: skip

    def forget_masters(self) -> None:
        """Drop the masters from memory: the next frame reads them again, as a quantum of its own does."""
        for name in ("bias", "flat"):
            self.__dict__.pop(name, None)

    def calibrate(self, image: MaskedImage, expnum: int):
        """Return what the calibration task makes of a detrended image."""
        from proc_decam_dagster.tasks.calibrate_image import CalibrateImageTask

        gaia = next(v for k, v in self.references.items() if "gaia" in k)
        ps1 = next(v for k, v in self.references.items() if "ps1" in k)
        return CalibrateImageTask().run(image, gaia, ps1, visit=expnum, detector=self.detector)

    def visit(self, expnum: int) -> Visit:
        """Return a calibrated exposure; made once, then read."""
        path = self.products / f"{expnum}.fits"
        if not path.is_file():
            self.say(f"calibrating exposure {expnum}")
            made = self.calibrate(self.detrend(self.raw(expnum)), expnum)
            made.sources.write(path.with_suffix(".sources.fits"), overwrite=True)
            write_image(path, made.exposure)
        truth = next(e for e in self.exposures if e.expnum == expnum)
        return Visit(read_image(path), Table.read(path.with_suffix(".sources.fits")), truth)

    def true_wcs(self, expnum: int):
        """Return the WCS after which an exposure was simulated."""
        from proc_decam_dagster.simulation.optics import wcs_of

        return wcs_of(true_cards(self.detector, next(e for e in self.exposures if e.expnum == expnum)))

    def _stack(self, numbers: list[int]) -> tuple[dict, list]:
        raws = {number: self.raw(number) for number in numbers}
        handles = {number: InMemoryDatasetHandle(raw, copy=False) for number, raw in raws.items()}
        return handles, [self.statistics(raw) for raw in raws.values()]

    def _made(self, name: str, make: Callable[[], MaskedImage]) -> MaskedImage:
        path = self.products / f"{name}.fits"
        if not path.is_file():
            self.say(f"making the master {name}")
            write_image(path, make())
        return read_image(path)


def _products(folder: Path) -> Path:
    """Return where masters and calibrated exposures are kept; what other sources of the engine have made is removed.

    Otherwise a survey that is kept would show what the engine was.
    """
    digest = hashlib.sha256()
    for part in ("camera", "pixels", "tasks", "instrument"):
        for path in sorted((PACKAGE / part).rglob("*.py")):
            digest.update(path.read_bytes())
    products = folder / "products" / digest.hexdigest()[:12]
    for old in set((folder / "products").glob("*")) - {products}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    products.mkdir(parents=True, exist_ok=True)
    return products


def blank_positions(image: np.ndarray, mask: np.ndarray, count: int, seed: int, margin: int = 40) -> np.ndarray:
    """Return random positions of usable, blank sky, (n, 2) as x, y.

    Parameters
    ----------
    image : `numpy.ndarray`, (ny, nx)
    mask : `numpy.ndarray`, (ny, nx), bool
        Pixels that are not blank.
    count : `int`
        How many are tried.
    """
    ny, nx = image.shape
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(margin, nx - 1 - margin, count), rng.uniform(margin, ny - 1 - margin, count)
    good = ~mask[y.astype(int), x.astype(int)] & np.isfinite(image[y.astype(int), x.astype(int)])
    return np.stack([x[good], y[good]], 1)

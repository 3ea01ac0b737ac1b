"""Which engine a repository was made with, and what every engine offers; the instrument class decides."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from proc_decam_dagster.errors import SurveyError

INSTRUMENT = "DECam"
EMBEDDED = "embedded"
SCIENCE_PIPELINES = "science-pipelines"

ENGINES = {
    EMBEDDED: (
        "proc_decam_dagster.instrument.DarkEnergyCamera",
        "proc_decam_dagster.instrument.engine.EmbeddedEngine",
    ),
    SCIENCE_PIPELINES: (
        "lsst.obs.decam.DarkEnergyCamera",
        "proc_decam_dagster.repository.science_pipelines.SciencePipelinesEngine",
    ),
}
"""Engine name → (instrument class name in the registry, class of the engine)."""


class RawFile(Protocol):
    """What an engine learns from a raw file's headers."""

    path: str
    exposure: int
    detectors: Sequence[int]


class SkyMap(Protocol):
    """What the repository needs to know of an engine's skymap."""

    name: str
    kind: str


class Engine(Protocol):
    """What differs between the engines. Everything else (collections, graphs, execution) is common.

    Angles are ICRS degrees; `butler` is always writeable. `coadd_memory_mb` is what the coadd of a patch was measured
    to need, as (number of warps up to which, MB), ascending; empty if that does not depend on their number.
    `worker_modules` are what its tasks import only when they run: workers are forked with these in memory.
    """

    name: str
    instrument_class: str
    pipeline_folder: str
    coadd_memory_mb: Sequence[tuple[int, float]]
    worker_modules: Sequence[str]

    def require(self) -> None:
        """Raise a `SurveyError` unless all that this engine needs is installed, in a release that it supports."""

    def seed_config(self) -> Mapping[str, Any]:
        """Return what a new repository's configuration holds beyond the middleware's defaults."""

    def register_instrument(self, butler: Any) -> None:
        """Register the instrument with its detectors and filters; does nothing the second time."""

    def write_curated_calibrations(self, butler: Any) -> int:
        """Write and certify the calibrations that come with the camera; return how many were new."""

    def read_raw(self, path: str) -> RawFile:
        """Read a raw file's headers. Pure: called in other processes.

        Raises
        ------
        SurveyError
            If the file is missing, truncated, or no DECam raw.
        """

    def ingest_raws(self, butler: Any, raw_files: Iterable[RawFile], *, transfer: str, run: str) -> None:
        """Insert the exposures' dimension records and ingest their raws, all or none."""

    def define_visits(self, butler: Any, exposures: Iterable[int], skymap: str) -> int:
        """Define the visits of science exposures, and the tracts that they fall on; return how many were new."""

    def rings_skymap(self, name: str = "") -> SkyMap:
        """Return the skymap of the whole sky, under its own name if none is given."""

    def discrete_skymap(self, name: str, pointings: Sequence[tuple[float, float]]) -> SkyMap:
        """Return a skymap whose tracts contain the camera's outline at every pointing."""

    def find_skymap(self, butler: Any, name: str) -> SkyMap | None:
        """Return a registered skymap; `None` if there is none of this name."""

    def register_skymap(self, butler: Any, skymap: SkyMap) -> bool:
        """Register a skymap, with its dataset; return whether it was new.

        Raises
        ------
        SurveyError
            If another skymap has this name already: a skymap never changes.
        """

    def outside_skymap(self, butler: Any, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
        """Return of each pointing whether a part of the camera falls on no tract."""

    def put_defects(self, butler: Any, dataset_type: str, boxes: Mapping[int, Any], run: str) -> list[Any]:
        """Write one table of defect boxes (x0, y0, width, height) a detector into a new run; return the refs."""

    def read_defects(self, butler: Any, ref: Any) -> Any:
        """Return the table of boxes of a detector's defects, as `put_defects` takes it."""

    def master_exposures(self, butler: Any, ref: Any) -> tuple[list[int], list[int]]:
        """Return the exposures that a master was combined from, and those rejected then; empty if it does not say."""

    def master_pixels(self, butler: Any, ref: Any) -> Any:
        """Return an array of a master's pixels, columns of both amplifiers; `None` if it is no image."""

    def ingest_refcat_shards(self, butler: Any, dataset_type: str, shards: Mapping[int, Path], run: str) -> int:
        """Ingest reference-catalogue shards where they lie, by htm7 id; return how many were new."""

    def put_fakes(self, butler: Any, tables: Mapping[str, Any], run: str) -> None:
        """Write one table of synthetic sources a band."""


def engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises
    ------
    SurveyError
        If it is unknown, or its own modules cannot be imported. What else it needs, `Engine.require` looks for: a
        repository can be opened and listed without.
    """
    if name not in ENGINES:
        raise SurveyError(f"engine {name!r} is unknown", f"one of {', '.join(ENGINES)}")
    module, _, cls = ENGINES[name][1].rpartition(".")
    try:
        return getattr(import_module(module), cls)()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("proc_decam_dagster"):
            raise
        raise SurveyError(
            f"engine {name} needs the Python package {error.name}, which is not installed",
            fix="`pip install proc-decam-dagster[embedded]`, or set up the Science Pipelines stack",
        ) from None


def engine_of_instrument(class_name: str) -> Engine:
    """Return the engine of the instrument class that is registered in a repository.

    Raises
    ------
    SurveyError
        If the class belongs to no engine of ours.
    """
    for name, (instrument_class, _) in ENGINES.items():
        if class_name == instrument_class:
            return engine(name)
    raise SurveyError(
        f"the repository's instrument {INSTRUMENT} is of class {class_name}, made by an engine that is unknown here",
        "one of " + ", ".join(c for c, _ in ENGINES.values()),
        "make a repository with `proc-decam create REPO`",
    )

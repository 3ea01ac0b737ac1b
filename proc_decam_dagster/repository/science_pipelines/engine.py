"""`SciencePipelinesEngine`: what the repository asks of an engine, answered by the LSST stack."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.table import Table

from proc_decam_dagster.repository.engines import INSTRUMENT
from proc_decam_dagster.repository.science_pipelines import calibrations, raws, sources, visits
from proc_decam_dagster.repository.science_pipelines import skymap as skymaps
from proc_decam_dagster.repository.science_pipelines.release import require_release


class SciencePipelinesEngine:
    """The engine of a repository made with ``lsst.obs.decam.DarkEnergyCamera``.

    It can be made where no stack is set up: a repository can be opened and listed there. What needs the stack says so.
    """

    name = "science-pipelines"
    instrument_class = "lsst.obs.decam.DarkEnergyCamera"
    pipeline_folder = ""
    coadd_memory_mb = ((50, 6 * 1024.0), (150, 12 * 1024.0))
    worker_modules = ()
    """As the survey team that ran the replaced system measured on patches of 4,200 pixels a side."""

    def require(self) -> None:
        """Raise a `SurveyError` unless a complete stack of the supported release is set up."""
        require_release()

    def seed_config(self) -> Mapping[str, Any]:
        """Return nothing: the stack's storage classes are the middleware's defaults."""
        return {}

    def register_instrument(self, butler: Any) -> None:
        """Register DECam with its detectors and filters; does nothing the second time."""
        calibrations.register_instrument(butler)

    def write_curated_calibrations(self, butler: Any) -> int:
        """Write the camera geometry and the curated calibrations of obs_decam_data; return how many were new."""
        return calibrations.write_curated_calibrations(butler)

    def read_raw(self, path: str) -> raws.RawFile:
        """Read a raw file's headers."""
        return raws.read_raw(path)

    def ingest_raws(self, butler: Any, raw_files: Iterable[raws.RawFile], *, transfer: str, run: str) -> None:
        """Ingest raws with `lsst.obs.base.RawIngestTask`."""
        raws.ingest_raws(butler, raw_files, transfer=transfer, run=run)

    def define_visits(self, butler: Any, exposures: Iterable[int], skymap: str) -> int:
        """Define visits with `lsst.obs.base.DefineVisitsTask`; a skymap's tracts are all registered with it."""
        return visits.define_visits(butler, exposures, INSTRUMENT)

    def rings_skymap(self, name: str = "") -> skymaps.StackSkyMap:
        """Return the skymap of the whole sky, under its own name if none is given."""
        return skymaps.rings_skymap(name)

    def discrete_skymap(self, name: str, pointings: Sequence[tuple[float, float]]) -> skymaps.StackSkyMap:
        """Return a skymap whose tracts contain the camera's outline at every pointing."""
        return skymaps.discrete_skymap(name, pointings)

    def find_skymap(self, butler: Any, name: str) -> skymaps.StackSkyMap | None:
        """Return a registered skymap; `None` if there is none of this name."""
        return skymaps.find_skymap(butler, name)

    def register_skymap(self, butler: Any, skymap: skymaps.StackSkyMap) -> bool:
        """Register a skymap, with its dataset, tracts and patches; return whether it was new."""
        return skymaps.register_skymap(butler, skymap)

    def outside_skymap(self, butler: Any, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
        """Return of each pointing whether a part of the camera falls on no tract."""
        return skymaps.outside_skymap(butler, name, pointings)

    def put_defects(self, butler: Any, dataset_type: str, boxes: Mapping[int, Table], run: str) -> list[Any]:
        """Write one `lsst.ip.isr.Defects` a detector into a run that has none; return the new refs."""
        return calibrations.put_defects(butler, dataset_type, boxes, run, INSTRUMENT)

    def read_defects(self, butler: Any, ref: Any) -> Table:
        """Return the table of boxes of a detector's defects."""
        return calibrations.read_defects(butler, ref)

    def master_exposures(self, butler: Any, ref: Any) -> tuple[list[int], list[int]]:
        """Return the exposures that a master was combined from; cp_pipe rejects none as a whole."""
        return calibrations.master_exposures(butler, ref), []

    def master_pixels(self, butler: Any, ref: Any) -> Any:
        """Return a sixteenth of a master's rows; `None` if it is no image."""
        return calibrations.master_pixels(butler, ref)

    def ingest_refcat_shards(self, butler: Any, dataset_type: str, shards: Mapping[int, Path], run: str) -> int:
        """Ingest reference-catalogue shards where they lie, by htm7 id; return how many were new."""
        return sources.ingest_refcat_shards(butler, dataset_type, shards, run)

    def put_fakes(self, butler: Any, tables: Mapping[str, Table], run: str) -> None:
        """Write synthetic sources as the catalogues of `lsst.source.injection`."""
        sources.put_fakes(butler, tables, run)

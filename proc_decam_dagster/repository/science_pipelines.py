"""The Science Pipelines engine: calls into an installed LSST stack, imported lazily."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey.collections import CALIB

_LATER = "this part of the science-pipelines engine is not there yet; use the engine embedded"


def _stack(module: str) -> Any:
    """Import a module of the stack.

    Raises
    ------
    SurveyError
        If the stack is not set up.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SurveyError(
            f"the engine science-pipelines needs {module}, which cannot be imported ({error})",
            "an LSST Science Pipelines stack",
            "`source loadLSST.sh && setup lsst_distrib`, or use the engine embedded",
        ) from None


def _count(butler: Any) -> int:
    """Return the number of datasets in the RUNs of curated calibrations."""
    return len(butler.query_all_datasets(f"{CALIB}/*", find_first=False, limit=None))


class SciencePipelinesEngine:
    """The engine of a repository made with ``lsst.obs.decam.DarkEnergyCamera``."""

    name = "science-pipelines"
    instrument_class = "lsst.obs.decam.DarkEnergyCamera"
    pipeline_folder = ""

    def seed_config(self) -> Mapping[str, Any]:
        """Return nothing: the stack's storage classes are the middleware's defaults."""
        _stack("lsst.obs.decam")
        return {}

    def register_instrument(self, butler: Any) -> None:
        """Register DECam."""
        _stack("lsst.obs.decam").DarkEnergyCamera().register(butler.registry)

    def write_curated_calibrations(self, butler: Any) -> int:
        """Write the curated calibrations of the stack's data package; return how many were new."""
        before = _count(butler)
        _stack("lsst.obs.decam").DarkEnergyCamera().writeCuratedCalibrations(butler, collection=CALIB)
        return _count(butler) - before

    def define_visits(self, butler: Any, exposures: Iterable[int], skymap: str) -> int:
        """Define visits with `lsst.obs.base.DefineVisitsTask`."""
        base = _stack("lsst.obs.base")
        task = base.DefineVisitsTask(config=base.DefineVisitsConfig(), butler=butler)
        data_ids = [{"instrument": "DECam", "exposure": e} for e in exposures]
        task.run(data_ids, collections=["DECam/raw/all"], update_records=False)
        return len(data_ids)

    def read_raw(self, path: str) -> Any:
        """Not there yet."""
        raise SurveyError(f"{path} cannot be read with the engine science-pipelines", fix=_LATER)

    def ingest_raws(self, butler: Any, raw_files: Iterable[Any], *, transfer: str, run: str) -> None:
        """Not there yet."""
        raise SurveyError("raws cannot be ingested with the engine science-pipelines", fix=_LATER)

    def rings_skymap(self, name: str = "") -> Any:
        """Not there yet."""
        raise SurveyError("a skymap cannot be made with the engine science-pipelines", fix=_LATER)

    def discrete_skymap(self, name: str, pointings: Sequence[tuple[float, float]]) -> Any:
        """Not there yet."""
        raise SurveyError("a discrete skymap cannot be made with the engine science-pipelines", fix=_LATER)

    def find_skymap(self, butler: Any, name: str) -> Any:
        """Not there yet."""
        raise SurveyError(f"skymap {name} cannot be read with the engine science-pipelines", fix=_LATER)

    def register_skymap(self, butler: Any, skymap: Any) -> bool:
        """Not there yet."""
        raise SurveyError("a skymap cannot be registered with the engine science-pipelines", fix=_LATER)

    def outside_skymap(self, butler: Any, name: str, pointings: Sequence[tuple[float, float]]) -> list[bool]:
        """Not there yet."""
        raise SurveyError(f"skymap {name} cannot be read with the engine science-pipelines", fix=_LATER)

    def put_defects(self, butler: Any, dataset_type: str, boxes: Mapping[int, Any], run: str) -> list[Any]:
        """Not there yet."""
        raise SurveyError("defects cannot be written with the engine science-pipelines", fix=_LATER)

    def ingest_refcat_shards(self, butler: Any, dataset_type: str, shards: Mapping[int, Path], run: str) -> int:
        """Not there yet."""
        raise SurveyError("reference catalogues cannot be ingested with the engine science-pipelines", fix=_LATER)

    def put_fakes(self, butler: Any, tables: Mapping[str, Any], run: str) -> None:
        """Not there yet."""
        raise SurveyError("fakes cannot be written with the engine science-pipelines", fix=_LATER)

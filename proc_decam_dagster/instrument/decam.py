"""`DarkEnergyCamera`: DECam as the Butler and pipelines know it, without the science stack."""

from typing import Any, ClassVar

from lsst.pipe.base import Instrument

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.filters import FILTERS

CLASS_NAME = "proc_decam_dagster.instrument.DarkEnergyCamera"
"""Name under which the class stands in repositories and pipelines: it must never change."""

ID_MAX = 2**25
"""Limit of exposure and visit ids; with 100 for detectors, obs_decam's packed ids."""


class DarkEnergyCamera(Instrument):
    """DECam with detector ids, names, filters and exposure ids equal to obs_decam's."""

    engine: ClassVar[str] = "proc_decam_dagster.instrument.engine.EmbeddedEngine"
    """Class that makes, fills and describes repositories of this instrument."""

    policyName = "decam"
    raw_definition = ("raw", ("instrument", "exposure", "detector"), "DecamRaw")

    @classmethod
    def getName(cls) -> str:
        """Return the name of the instrument in data ids."""
        return "DECam"

    def register(self, registry: Any, *, update: bool = False) -> None:
        """Insert instrument, detectors and filters into a registry; what is there already, and equal, stays.

        Parameters
        ----------
        registry : `lsst.daf.butler.Registry`
        update : `bool`, optional
            Replace records that differ.
        """
        name = self.getName()
        with registry.transaction():
            instrument = {
                "name": name,
                "detector_max": 100,
                "visit_max": ID_MAX,
                "exposure_max": ID_MAX,
                "visit_system": 0,  # every exposure is a visit
                "class_name": CLASS_NAME,
            }
            registry.syncDimensionData("instrument", instrument, update=update)
            for detector in DETECTORS.values():
                record = {
                    "instrument": name,
                    "id": detector.id,
                    "full_name": detector.name,
                    "raft": detector.raft,
                    "name_in_raft": detector.name_in_raft,
                    "purpose": detector.purpose,
                }
                registry.syncDimensionData("detector", record, update=update)
            for each in FILTERS.values():
                record = {"instrument": name, "name": each.physical_filter, "band": each.band}
                registry.syncDimensionData("physical_filter", record, update=update)

    def getRawFormatter(self, dataId: Any) -> type:
        """Return the formatter of raw files."""
        from proc_decam_dagster.instrument.formatters import RawFormatter

        return RawFormatter

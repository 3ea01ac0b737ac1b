"""DECam, registered as obs_decam does: 62 detectors, visits one to one, 32 million exposures at most."""

from lsst.afw.cameraGeom import Camera
from lsst.obs.base import Instrument, RawFormatter
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.filters import FILTERS


class DarkEnergyCamera(Instrument):
    """The instrument."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.configPaths = []

    @classmethod
    def getName(cls):
        return "DECam"

    def getCamera(self):
        return Camera()

    def getRawFormatter(self, dataId):
        return RawFormatter

    def register(self, registry, update=False):
        with registry.transaction():
            registry.syncDimensionData(
                "instrument",
                {
                    "name": "DECam", "detector_max": 100, "visit_max": 2**25, "exposure_max": 2**25,
                    "class_name": "lsst.obs.decam.DarkEnergyCamera", "visit_system": 0,
                },
                update=update,
            )  # fmt: skip
            for d in DETECTORS.values():
                registry.syncDimensionData(
                    "detector",
                    {
                        "instrument": "DECam", "id": d.id, "full_name": d.name, "name_in_raft": d.name[1:],
                        "raft": d.name[0], "purpose": "SCIENCE",
                    },
                    update=update,
                )  # fmt: skip
            for f in FILTERS.values():
                registry.syncDimensionData(
                    "physical_filter", {"instrument": "DECam", "name": f.physical_filter, "band": f.band}, update=update
                )

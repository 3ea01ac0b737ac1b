"""The camera, as a dataset and as the engine looks detectors up in it."""

import json
from pathlib import Path
from types import SimpleNamespace

from proc_decam_dagster.camera.detectors import DETECTORS


class Camera:
    """DECam's detectors by id."""

    def getName(self):
        return "DECam"

    def __getitem__(self, detector):
        name = DETECTORS[detector].name
        return SimpleNamespace(getId=lambda: detector, getName=lambda: name, getSerial=lambda: str(detector))

    def writeFits(self, path):
        Path(path).write_text(json.dumps(sorted(DETECTORS)))

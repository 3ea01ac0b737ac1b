"""Tasks that add one to a number, or fail in the ways that real ones do."""

import os
import signal
import time
from pathlib import Path

from lsst.pex.config import Field, ListField
from lsst.pipe.base import NoWorkFound, PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
from lsst.pipe.base import connectionTypes as ct

FRAME = ("instrument", "exposure", "detector")


class AddConnections(PipelineTaskConnections, dimensions=FRAME, defaultTemplates={"source": "raw", "target": "added"}):
    before = ct.Input(doc="A number.", name="{source}", storageClass="StructuredDataDict", dimensions=FRAME)
    after = ct.Output(doc="It and one.", name="{target}", storageClass="StructuredDataDict", dimensions=FRAME)


class AddConfig(PipelineTaskConfig, pipelineConnections=AddConnections):
    bad = ListField(dtype=int, default=[], doc="Detectors that fail.")
    badExposures = ListField(dtype=int, default=[], doc="Exposures in which they fail; all if empty.")
    mode = Field(
        dtype=str, default="error", doc="How: error, partial, allocate, memory, os, full, kill, exit, slow, nowork."
    )
    times = Field(dtype=int, default=10**6, doc="How often a bad quantum fails before it succeeds.")
    memory = Field(dtype=str, default="", doc="Folder that remembers how often it failed.")
    seconds = Field(dtype=float, default=0.0, doc="How long every quantum takes.")
    diary = Field(dtype=str, default="", doc="Folder that gets a file each time that a quantum is begun.")
    megabytes = Field(dtype=int, default=0, doc="What a bad quantum allocates in the mode allocate.")


class AddTask(PipelineTask):
    ConfigClass = AddConfig
    _DefaultName = "add"

    def runQuantum(self, butlerQC, inputRefs, outputRefs):
        data_id = inputRefs.before.dataId
        if self.config.diary:
            name = f"{self.log.name} {data_id['exposure']} {data_id['detector']} {os.getpid()} {time.time_ns()}"
            (Path(self.config.diary) / name).touch()
        value = butlerQC.get(inputRefs.before)["value"]
        time.sleep(self.config.seconds)
        if data_id["detector"] in self.config.bad and self._may_fail(data_id):
            self._fail(butlerQC, outputRefs)
        butlerQC.put(Struct(after={"value": value + 1, "pid": os.getpid()}), outputRefs)

    def _may_fail(self, data_id) -> bool:
        if self.config.badExposures and data_id["exposure"] not in self.config.badExposures:
            return False
        if not self.config.memory:
            return True
        folder = Path(self.config.memory)
        folder.mkdir(exist_ok=True)
        name = f"{self.log.name}_{data_id['exposure']}_{data_id['detector']}"
        seen = len(list(folder.glob(f"{name}_*")))
        (folder / f"{name}_{seen}").touch()
        return seen < self.config.times

    def _fail(self, butlerQC, outputRefs):
        match self.config.mode:
            case "error":
                raise RuntimeError("toy failure")
            case "partial":
                butlerQC.put(Struct(after={"value": 0.0}), outputRefs)
                raise RuntimeError("toy failure after writing")
            case "allocate":
                bytearray(self.config.megabytes * 2**20)
            case "memory":
                raise MemoryError("Unable to allocate toy memory")
            case "os":
                raise OSError(5, "Input/output error")
            case "full":
                raise OSError(28, "No space left on device")
            case "kill":
                butlerQC.put(Struct(after={"value": 0.0}), outputRefs)
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "slow":
                time.sleep(600)
            case "nowork":
                raise NoWorkFound("nothing to add")


class CombineConnections(PipelineTaskConnections, dimensions=("instrument", "detector"),
                         defaultTemplates={"source": "added"}):  # fmt: skip
    frames = ct.Input(
        doc="Numbers.", name="{source}", storageClass="StructuredDataDict", dimensions=FRAME, multiple=True,
        deferLoad=True,
    )  # fmt: skip
    combined = ct.Output(
        doc="Their mean.", name="bias", storageClass="StructuredDataDict", dimensions=("instrument", "detector"),
        isCalibration=True,
    )  # fmt: skip


class CombineConfig(PipelineTaskConfig, pipelineConnections=CombineConnections):
    pass


class CombineTask(PipelineTask):
    ConfigClass = CombineConfig
    _DefaultName = "combine"

    def run(self, frames):
        values = [frame.get()["value"] for frame in frames]
        return Struct(combined={"value": sum(values) / len(values), "frames": len(values), "pid": os.getpid()})


class ApplyConnections(PipelineTaskConnections, dimensions=FRAME):
    frame = ct.Input(doc="A number.", name="raw", storageClass="StructuredDataDict", dimensions=FRAME)
    flat = ct.PrerequisiteInput(
        doc="A calibration.", name="flat", storageClass="StructuredDataDict",
        dimensions=("instrument", "physical_filter", "detector"), isCalibration=True,
    )  # fmt: skip
    applied = ct.Output(doc="Their product.", name="applied", storageClass="StructuredDataDict", dimensions=FRAME)


class ApplyConfig(PipelineTaskConfig, pipelineConnections=ApplyConnections):
    pass


class ApplyTask(PipelineTask):
    ConfigClass = ApplyConfig
    _DefaultName = "apply"

    def run(self, frame, flat):
        return Struct(applied={"value": frame["value"] * flat["value"]})


class InjectConnections(PipelineTaskConnections, dimensions=FRAME):
    frame = ct.Input(doc="A number.", name="raw", storageClass="StructuredDataDict", dimensions=FRAME)
    fakes = ct.PrerequisiteInput(
        doc="Synthetic sources.", name="fakes_table", storageClass="StructuredDataDict",
        dimensions=("instrument", "band"),
    )  # fmt: skip
    injected = ct.Output(doc="It with them.", name="injected_raw", storageClass="StructuredDataDict", dimensions=FRAME)


class InjectConfig(PipelineTaskConfig, pipelineConnections=InjectConnections):
    pass


class InjectTask(PipelineTask):
    ConfigClass = InjectConfig
    _DefaultName = "inject"

    def run(self, frame, fakes):
        return Struct(injected=frame)

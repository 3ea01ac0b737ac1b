"""A task that takes its time over every raw: something to interrupt."""

import time

from lsst.pex.config import Field
from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
from lsst.pipe.base import connectionTypes as ct

FRAME = ("instrument", "exposure", "detector")

PIPELINE = """
description: One slow quantum a raw
instrument: proc_decam_dagster.instrument.DarkEnergyCamera
tasks:
  slow: {class: slow_task.SlowTask}
subsets:
  step1: {subset: [slow], description: one a frame and detector}
"""


class SlowConnections(PipelineTaskConnections, dimensions=FRAME):
    raw = ct.Input(doc="A raw.", name="raw", storageClass="DecamRaw", dimensions=FRAME, deferLoad=True)
    slow = ct.Output(doc="Its number.", name="slow", storageClass="StructuredDataDict", dimensions=FRAME)


class SlowConfig(PipelineTaskConfig, pipelineConnections=SlowConnections):
    seconds = Field(dtype=float, default=0.4, doc="How long every quantum takes.")


class SlowTask(PipelineTask):
    ConfigClass = SlowConfig
    _DefaultName = "slow"

    def run(self, raw):
        time.sleep(self.config.seconds)
        return Struct(slow={"exposure": raw.dataId["exposure"]})

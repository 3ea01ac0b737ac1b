"""Toy tasks of the execution benchmark: quanta that cost nothing, so that what is measured is everything around them.

They know nothing of the code that is measured: the reference's re-enactment runs the same ones.
"""

from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct
from lsst.pipe.base import connectionTypes as ct

FRAME = ("instrument", "exposure", "detector")


class FirstConnections(PipelineTaskConnections, dimensions=FRAME):
    raw = ct.Input(doc="A raw, never read.", name="raw", storageClass="DecamRaw", dimensions=FRAME, deferLoad=True)
    first = ct.Output(doc="Its data id.", name="toyFirst", storageClass="StructuredDataDict", dimensions=FRAME)


class FirstConfig(PipelineTaskConfig, pipelineConnections=FirstConnections):
    pass


class FirstTask(PipelineTask):
    ConfigClass = FirstConfig
    _DefaultName = "first"

    def run(self, raw):
        return Struct(first=dict(raw.dataId.required))


class NextConnections(
    PipelineTaskConnections, dimensions=FRAME, defaultTemplates={"source": "toyFirst", "target": "toyNext"}
):
    before = ct.Input(doc="A dictionary.", name="{source}", storageClass="StructuredDataDict", dimensions=FRAME)
    after = ct.Output(doc="The same.", name="{target}", storageClass="StructuredDataDict", dimensions=FRAME)


class NextConfig(PipelineTaskConfig, pipelineConnections=NextConnections):
    pass


class NextTask(PipelineTask):
    ConfigClass = NextConfig
    _DefaultName = "next"

    def run(self, before):
        return Struct(after=before)

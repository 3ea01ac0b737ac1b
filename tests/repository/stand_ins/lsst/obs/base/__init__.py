"""Instrument, raw ingest and visits; records of dimensions are made as the embedded engine makes them."""

import datetime
from collections.abc import Sequence

from astropy.time import Time

from lsst.daf.butler import (
    CollectionType,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    FileDataset,
    FormatterV2,
    Timespan,
)  # fmt: skip
from lsst.geom import Box2I, Extent2I, Point2I
from lsst.ip.isr import Defects
from lsst.pex.config import ChoiceField, Config, Field
from lsst.pipe.base import Instrument as InstrumentBase
from lsst.pipe.base import Struct, Task
from proc_decam_dagster.instrument import visit_definition
from proc_decam_dagster.instrument.raw_ingest import read_raw_file
from proc_decam_dagster.instrument.translation import day_obs_record

CALLS: list[tuple[str, dict]] = []
"""What was called, with which arguments."""


def _do_nothing(*args, **kwargs):
    pass


class Instrument(InstrumentBase):
    """Curated calibrations: the camera, and the defects of two CCDs."""

    standardCuratedDatasetTypes: frozenset = frozenset({"defects", "crosstalk"})
    additionalCuratedDatasetTypes: frozenset = frozenset()

    def writeCameraGeom(self, butler, collection=None, labels=()):
        butler.registry.registerCollection(collection, type=CollectionType.CALIBRATION)
        run = self.makeUnboundedCalibrationRunName(*labels)
        butler.registry.registerRun(run)
        kind = DatasetType("camera", ("instrument",), "Camera", isCalibration=True, universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        ref = butler.put(self.getCamera(), kind, {"instrument": self.getName()}, run=run)
        butler.registry.certify(collection, [ref], Timespan(begin=None, end=None))

    def writeStandardTextCuratedCalibrations(self, butler, collection=None, labels=()):
        if "defects" not in self.standardCuratedDatasetTypes:
            return
        kind = DatasetType(
            "defects", ("instrument", "detector"), "Defects", isCalibration=True, universe=butler.dimensions
        )
        butler.registry.registerDatasetType(kind)
        run = self.makeCuratedCalibrationRunName("2015-01-05T01:15:00", *labels)
        butler.registry.registerRun(run)
        begin = Time(datetime.datetime(2015, 1, 5), scale="utc")
        with butler.transaction():
            refs = [
                butler.put(
                    Defects([Box2I(Point2I(0, 0), Extent2I(1, 1))]), kind,
                    {"instrument": self.getName(), "detector": detector}, run=run,
                )
                for detector in (1, 25)
            ]  # fmt: skip
            butler.registry.certify(collection, refs, Timespan(begin, None))

    def writeAdditionalCuratedCalibrations(self, butler, collection=None, labels=()):
        return


class RawIngestConfig(Config):
    """How raws are taken."""

    transfer = ChoiceField(
        doc="mode", dtype=str, optional=True, default="auto",
        allowed={k: k for k in ("move", "copy", "auto", "direct", "link", "hardlink", "symlink", "relsymlink")},
    )  # fmt: skip
    failFast = Field(doc="stop at the first problem", dtype=bool, default=False)


class RawFormatter(FormatterV2):
    """Only registered: nothing reads a raw here."""

    default_extension = ".fits.fz"


class RawIngestTask(Task):
    """One transaction an exposure; a file that cannot be translated stops all with `failFast`."""

    ConfigClass = RawIngestConfig
    _DefaultName = "ingest"

    def __init__(
        self,
        config=None,
        *,
        butler,
        on_success=_do_nothing,
        on_metadata_failure=_do_nothing,
        on_ingest_failure=_do_nothing,
        on_exposure_record=_do_nothing,
        **kwargs,
    ):
        config.validate()
        super().__init__(config, **kwargs)
        self.butler = butler

    def run(
        self,
        files,
        *,
        pool=None,
        processes=None,
        run=None,
        file_filter=r"\.fit[s]?\b",
        group_files=True,
        skip_existing_exposures=False,
        update_exposure_records=False,
        track_file_attrs=True,
        search_indexes=True,
        num_workers=1,
        skip_ingest=False,
    ):
        CALLS.append(("RawIngestTask.run", {k: v for k, v in locals().items() if k != "self"}))
        raws = []
        for path in files:
            try:
                raws.append(read_raw_file(str(path)))
            except Exception as error:
                if self.config.failFast:
                    raise RuntimeError(f"Problem extracting metadata for file {path}") from error
        kind = DatasetType("raw", ("instrument", "detector", "exposure"), "Exposure", universe=self.butler.dimensions)
        refs = []
        for raw in raws:
            registry = self.butler.registry
            registry.insertDimensionData("day_obs", day_obs_record(raw.record["day_obs"]), skip_existing=True)
            registry.insertDimensionData(
                "group", {"instrument": raw.record["instrument"], "name": raw.record["group"]}, skip_existing=True
            )
            registry.insertDimensionData("exposure", raw.record, skip_existing=True)
            registry.registerDatasetType(kind)
            registry.registerCollection(run, type=CollectionType.RUN)
            new = [
                DatasetRef(
                    kind,
                    DataCoordinate.standardize(
                        instrument="DECam", exposure=raw.exposure, detector=d, universe=self.butler.dimensions
                    ),
                    run=run,
                )
                for d in raw.detectors
            ]
            if skip_existing_exposures:
                new = [r for r in new if self.butler.find_dataset(kind, r.dataId, collections=run) is None]
            if new:
                self.butler.ingest(
                    FileDataset(path=raw.path, refs=new, formatter=RawFormatter), transfer=self.config.transfer,
                    record_validation_info=track_file_attrs,
                )  # fmt: skip
            refs += new
        return refs


class DefineVisitsConfig(Config):
    """How visits are defined."""

    groupExposures = Field(doc="algorithm", dtype=str, default="one-to-one")
    computeVisitRegions = Field(doc="algorithm", dtype=str, default="single-raw-wcs")
    ignoreNonScienceExposures = Field(doc="leave out silently", dtype=bool, default=True)
    updateObsCoreTable = Field(doc="obscore", dtype=bool, default=True)


class DefineVisitsTask(Task):
    """Leaves out silently what has no pointing, and with `prefilter` what is defined."""

    ConfigClass = DefineVisitsConfig
    _DefaultName = "defineVisits"

    def __init__(self, config, *, butler, **kwargs):
        config.validate()
        super().__init__(config, **kwargs)
        self.butler = butler

    def run(
        self,
        dataIds_or_records,
        *,
        collections: Sequence[str] | str | None = None,
        update_records=False,
        incremental=False,
        skip_conflicting=False,
        prefilter=False,
        check_detector_regions=False,
    ):
        CALLS.append(("DefineVisitsTask.run", {k: v for k, v in locals().items() if k != "self"}))
        records = [self.butler.registry.expandDataId(d).records["exposure"] for d in dataIds_or_records]
        on_sky = [r.id for r in records if r.tracking_ra is not None]
        new, _ = visit_definition.define_visits(self.butler, on_sky, "DECam")
        if not prefilter and new < len(on_sky):
            raise RuntimeError("visits exist")
        return Struct(n_visits=len(on_sky), n_new=new, n_filtered=len(on_sky) - new)

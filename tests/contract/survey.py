"""A survey for generated tasks: a repository with raws, visits, curated calibrations, catalogues and a skymap."""

import json
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

from astropy.table import Table
from astropy.time import Time, TimeDelta
from contract.storage import formatters
from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, FileDataset, Timespan
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.repository.science_pipelines.engine import SciencePipelinesEngine
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets

FILTER, BAND = "g DECam SDSS c0001 4720.0 1520.0", "g"
SKYMAP, RA, DEC, WIDTH = "toy", 149.4, 1.7, 1.0
PATCHES = 2
"""Side by side; each detector lies on one of them."""
EPOCHS = ("early", "late")
"""Masks of bad pixels: those of the first night, and those that are valid from the second on."""


@dataclass(frozen=True)
class Size:
    """How much there is of everything.

    Attributes
    ----------
    nights, detectors, visits : `int`
        Nights, CCDs of the camera, and science exposures a night.
    frames : `int`
        Zeros, and dome flats, of a night. If there are several nights, the last has none.
    """

    nights: int
    detectors: int
    visits: int
    frames: int = 3

    @property
    def names(self) -> list[str]:
        """The nights, YYYYMMDD."""
        return [str(20190401 + i) for i in range(self.nights)]

    @property
    def detector_ids(self) -> range:
        """The detectors' numbers."""
        return range(1, self.detectors + 1)

    def exposures(self, night: str) -> dict[str, range]:
        """Return the numbers of a night's exposures by observation type."""
        first = 1000 * self.names.index(night)
        science = {"object": range(first + 301, first + 301 + self.visits)}
        if self.nights > 1 and night == self.names[-1]:
            return science
        return science | {k: range(first + n, first + n + self.frames) for k, n in (("zero", 101), ("dome flat", 201))}


class StandInEngine(SciencePipelinesEngine):
    """The engine of production; the stack is not asked for, and visits are defined when raws are made."""

    def require(self) -> None: ...

    def define_visits(self, butler, exposures, skymap) -> int:
        return 0


class StackRepository(Repository):
    """A repository of the stand-in camera."""

    engine = StandInEngine()

    def __reduce__(self):
        return (StackRepository, (str(self.root),))


def make_survey(root: Path, size: Size) -> StackRepository:
    """Make a repository with nights of zeros, dome flats and visits, and all that their pipelines read besides."""
    Butler.makeRepo(str(root), config={"datastore": {"formatters": formatters()}})
    made = StackRepository(root)
    (made.root / "given").mkdir()
    registry = made.butler(writeable=True).registry
    registry.syncDimensionData(
        "instrument",
        {
            "name": "DECam", "detector_max": 100, "visit_max": 2**25, "exposure_max": 2**25,
            "class_name": made.engine.instrument_class,
        },
    )  # fmt: skip
    registry.insertDimensionData(
        "detector",
        *[{"instrument": "DECam", "id": d, "full_name": f"S{d}", "purpose": "SCIENCE"} for d in size.detector_ids],
    )
    registry.insertDimensionData("physical_filter", {"instrument": "DECam", "name": FILTER, "band": BAND})
    registry.insertDimensionData("visit_system", {"instrument": "DECam", "id": 0, "name": "one-to-one"})
    _add_sky(registry)
    _add_calibrations(made, size)
    for night in size.names:
        registry.insertDimensionData("day_obs", {"instrument": "DECam", "id": int(night)})
        for kind, numbers in size.exposures(night).items():
            _add_raws(made, size, night, kind, numbers)
        for number in size.exposures(night)["object"]:
            _add_visit(registry, size, night, number)
    made.remember_exposures(_exposure_table(size))
    made.update_settings(skymap=SKYMAP)
    return made


def _exposure_table(size: Size) -> Table:
    rows = [
        (kind, f"{night[:4]}-{night[4:6]}-{night[6:]}", f"{number:032d}", f"c4d_{number}.fits.fz", number, night, BAND)
        for night in size.names
        for kind, numbers in size.exposures(night).items()
        for number in numbers
    ]
    return Table(rows=rows, names=("obs_type", "caldat", "md5sum", "archive_filename", "EXPNUM", "night", "band"))


def _box(x: float, y: float, width: float, height: float) -> ConvexPolygon:
    """Return a box whose lower left corner and sizes are fractions of the field's width."""
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return ConvexPolygon(
        [UnitVector3d(LonLat.fromDegrees(RA + (u - 0.5) * WIDTH, DEC + (v - 0.5) * WIDTH)) for u, v in corners]
    )


WHOLE = _box(-0.1, -0.1, 1.2, 1.2)


def _detector_box(size: Size, detector: int) -> ConvexPolygon:
    """Return a detector's place on the sky: in rows and columns, with gaps."""
    side = ceil(sqrt(size.detectors))
    row, column = divmod(detector - 1, side)
    return _box((column + 0.1) / side, (row + 0.1) / side, 0.8 / side, 0.8 / side)


def _add_sky(registry) -> None:
    """Add a skymap of one tract."""
    registry.insertDimensionData(
        "skymap", {"name": SKYMAP, "hash": b"0", "tract_max": 1, "patch_nx_max": PATCHES, "patch_ny_max": 1}
    )
    registry.insertDimensionData("tract", {"skymap": SKYMAP, "id": 0, "region": WHOLE})
    for i in range(PATCHES):
        registry.insertDimensionData(
            "patch",
            {
                "skymap": SKYMAP, "tract": 0, "id": i, "cell_x": i, "cell_y": 0,
                "region": _box(i / PATCHES, 0, 1 / PATCHES, 1),
            },
        )  # fmt: skip


def _add_calibrations(made: StackRepository, size: Size) -> None:
    """Add what comes with the camera, masks of two epochs, catalogues, fakes and the skymap's dataset."""
    everything, detectors = Timespan(None, None), [{"instrument": "DECam", "detector": d} for d in size.detector_ids]
    _certify(made, names.CALIB, "camera", "Camera", [{"instrument": "DECam"}], {"always": everything})
    _certify(made, names.CALIB, datasets.CROSSTALK, "CrosstalkCalib", detectors, {"always": everything})
    change = minutes_after_noon(size.names[0], 24 * 60).begin
    epochs = dict(zip(EPOCHS, (Timespan(None, change), Timespan(change, None))))
    for name in (datasets.DEFECTS, datasets.SUSPECT_MASK):
        _certify(made, names.CALIB_BPM, name, "Defects", detectors, epochs)
    pixelization = made.butler().dimensions.commonSkyPix.pixelization
    shards = [{"htm7": i} for span in pixelization.envelope(WHOLE) for i in range(*span)]
    for name in datasets.REFCATS.values():
        _put(made, names.REFCATS, name, "SimpleCatalog", shards)
    _put(made, names.FAKES, "injection_catalog", "ArrowAstropy", [{"band": BAND} | shard for shard in shards])
    _put(made, names.SKYMAPS, datasets.SKYMAP, "SkyMap", [{"skymap": SKYMAP}])


def _certify(made: StackRepository, collection: str, name: str, storage_class: str, data_ids, epochs) -> None:
    """Write a calibration for each data id and epoch, and certify it for the epoch's time."""
    butler = made.butler(writeable=True)
    butler.collections.register(collection, CollectionType.CALIBRATION)
    for epoch, timespan in epochs.items():
        run = f"{collection}/{name}/{epoch}"
        refs = _put(made, run, name, storage_class, data_ids, calibration=True, epoch=epoch)
        butler.registry.certify(collection, refs, timespan)


def _put(
    made: StackRepository, run: str, name: str, storage_class: str, data_ids, calibration: bool = False, **content
) -> list:
    """Ingest one file with a content for all data ids."""
    butler = made.butler(writeable=True)
    dimensions = butler.dimensions.conform(data_ids[0])
    kind = DatasetType(name, dimensions, storage_class, isCalibration=calibration)
    butler.registry.registerDatasetType(kind)
    butler.collections.register(run, CollectionType.RUN)
    refs = [DatasetRef(kind, butler.registry.expandDataId(i), run) for i in data_ids]
    file = made.root / "given" / f"{name}-{len(list((made.root / 'given').glob('*')))}.json"
    file.write_text(json.dumps(content))
    butler.ingest(FileDataset(str(file), refs), transfer="direct", record_validation_info=False)
    return refs


def _add_raws(made: StackRepository, size: Size, night: str, kind: str, exposures: range) -> None:
    butler = made.butler(writeable=True)
    for number in exposures:
        butler.registry.insertDimensionData("group", {"instrument": "DECam", "name": str(number)})
        butler.registry.insertDimensionData(
            "exposure",
            {
                "instrument": "DECam", "id": number, "day_obs": int(night), "group": str(number), "obs_id": str(number),
                "physical_filter": FILTER, "observation_type": kind, "exposure_time": 1.0, "dark_time": 1.0,
                "seq_num": number, "seq_start": number, "seq_end": number, "has_simulated": False,
                "can_see_sky": False, "timespan": minutes_after_noon(night, number % 1000),
            },
        )  # fmt: skip
        data_ids = [{"instrument": "DECam", "exposure": number, "detector": d} for d in size.detector_ids]
        _put(made, names.RAW_ALL, datasets.RAW, "Exposure", data_ids)  # as real ones: a file holds all detectors


def _add_visit(registry, size: Size, night: str, number: int) -> None:
    """Add a visit of one exposure."""
    registry.insertDimensionData(
        "visit",
        {
            "instrument": "DECam", "id": number, "day_obs": int(night), "physical_filter": FILTER, "name": str(number),
            "seq_num": number, "exposure_time": 1.0, "observation_reason": "", "target_name": "",
            "science_program": "", "timespan": minutes_after_noon(night, number % 1000), "region": _box(0, 0, 1, 1),
        },
    )  # fmt: skip
    registry.insertDimensionData("visit_definition", {"instrument": "DECam", "exposure": number, "visit": number})
    registry.insertDimensionData("visit_system_membership", {"instrument": "DECam", "visit_system": 0, "visit": number})
    registry.insertDimensionData(
        "visit_detector_region",
        *[
            {"instrument": "DECam", "visit": number, "detector": d, "region": _detector_box(size, d)}
            for d in size.detector_ids
        ],
    )


def minutes_after_noon(night: str, minutes: int) -> Timespan:
    """Return half a minute of a night."""
    noon = Time(f"{night[:4]}-{night[4:6]}-{night[6:]}T12:00:00", scale="tai")
    begin = noon + TimeDelta(60 * minutes, format="sec")
    return Timespan(begin, begin + TimeDelta(30, format="sec"))

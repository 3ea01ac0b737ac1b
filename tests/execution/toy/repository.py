"""A small Butler repository: an instrument of a few detectors, nights of dictionaries instead of images."""

from pathlib import Path
from types import SimpleNamespace

from astropy.time import Time, TimeDelta
from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, Timespan
from lsst.pipe.base import Instrument

from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey.collections import RAW_ALL, calib_collection, raw_collection

FILTER = "g"
CAMERA = "toy.repository.ToyCamera"
PIPELINES = Path(__file__).parent / "pipelines"


class ToyCamera(Instrument):
    """Registers nothing but what the toy repository needs."""

    @classmethod
    def getName(cls) -> str:
        return "DECam"

    def register(self, registry, *, update: bool = False) -> None:
        pass

    def getRawFormatter(self, dataId):
        raise NotImplementedError


class ToyRepository(Repository):
    """A repository of the toy camera, which no engine of ours knows."""

    @property
    def engine(self):
        return SimpleNamespace(
            name="toy", pipeline_folder="embedded", instrument_class=CAMERA, require=lambda: None, coadd_memory_mb=(),
            worker_modules=(),
            master_exposures=lambda butler, ref: ([], []), master_pixels=lambda butler, ref: None,
        )  # fmt: skip

    def __reduce__(self):
        return (ToyRepository, (str(self.root),))


def make_repository(root: Path, detectors=(1, 2, 3, 4), registry: dict | None = None) -> ToyRepository:
    """Make a repository without any exposure, its registry in SQLite unless another is configured."""
    Butler.makeRepo(str(root), config={"registry": registry} if registry else None)
    repository = ToyRepository(root)
    butler = repository.butler(writeable=True)
    registry = butler.registry
    registry.syncDimensionData(
        "instrument",
        {"name": "DECam", "detector_max": 100, "visit_max": 2**25, "exposure_max": 2**25, "class_name": CAMERA},
    )
    registry.insertDimensionData(
        "detector", *[{"instrument": "DECam", "id": d, "full_name": f"S{d}", "purpose": "SCIENCE"} for d in detectors]
    )
    registry.insertDimensionData("physical_filter", {"instrument": "DECam", "name": FILTER, "band": "g"})
    for name, dimensions, calibration in (
        ("raw", ("instrument", "exposure", "detector"), False),
        ("flat", ("instrument", "physical_filter", "detector"), True),
    ):
        registry.registerDatasetType(
            DatasetType(name, dimensions, "StructuredDataDict", universe=butler.dimensions, isCalibration=calibration)
        )
    butler.collections.register(RAW_ALL, CollectionType.RUN)
    return repository


def add_night(repository: ToyRepository, night: str, proc_type: str, exposures, detectors=(1, 2, 3, 4)) -> None:
    """Put a night's raws, tagged for a proc type."""
    butler = repository.butler(writeable=True)
    registry = butler.registry
    begin = Time(f"{night[:4]}-{night[4:6]}-{night[6:]}T02:00:00", scale="tai")
    registry.syncDimensionData(
        "day_obs",
        {"instrument": "DECam", "id": int(night), "timespan": Timespan(begin, begin + TimeDelta(1, format="jd"))},
    )
    tag = raw_collection(night, proc_type)
    butler.collections.register(tag, CollectionType.TAGGED)
    raw = butler.get_dataset_type("raw")
    refs = []
    with butler.transaction():
        for i, exposure in enumerate(exposures):
            span = Timespan(begin + TimeDelta(60 * i, format="sec"), begin + TimeDelta(60 * i + 50, format="sec"))
            registry.insertDimensionData("group", {"instrument": "DECam", "name": str(exposure)})
            registry.insertDimensionData(
                "exposure",
                {
                    "instrument": "DECam", "id": exposure, "day_obs": int(night), "group": str(exposure),
                    "physical_filter": FILTER, "obs_id": str(exposure), "timespan": span, "observation_type": "zero",
                    "exposure_time": 1.0, "dark_time": 1.0, "seq_num": i, "seq_start": i, "seq_end": i,
                    "observation_reason": "", "target_name": "", "science_program": "", "has_simulated": False,
                    "can_see_sky": False,
                },
            )  # fmt: skip
            for detector in detectors:
                data_id = registry.expandDataId(instrument="DECam", exposure=exposure, detector=detector)
                refs.append(butler.put({"value": float(exposure)}, DatasetRef(raw, data_id, run=RAW_ALL)))
        registry.associate(tag, refs)


def certify_flat(repository: ToyRepository, night: str, detectors) -> None:
    """Certify a flat for some detectors."""
    butler = repository.butler(writeable=True)
    run = f"{night}/flat/flat/step3/20240101T000000Z"
    butler.collections.register(run, CollectionType.RUN)
    flat = butler.get_dataset_type("flat")
    refs = [
        butler.put(
            {"value": 1.0},
            DatasetRef(
                flat,
                butler.registry.expandDataId(instrument="DECam", detector=d, physical_filter=FILTER),
                run=run,
            ),
        )
        for d in detectors
    ]
    collection = calib_collection(night, "flat")
    butler.collections.register(collection, CollectionType.CALIBRATION)
    butler.registry.certify(collection, refs, Timespan(None, None))

"""A night run by generated tasks, from zeros to differences: ``python -m contract.night ROOT`` prints results as JSON.

It is a program of its own, because storage classes are set once a process.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from astropy.time import Time, TimeDelta
from contract.classes import contract
from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, StorageClassDelegate, Timespan
from lsst.daf.butler.formatters.json import JsonFormatter
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d
from lsst.utils.introspection import get_full_type_name

from proc_decam_dagster.execution import WorkerPool, run_coadd, run_pipeline
from proc_decam_dagster.repository.repository import Repository
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB, RAW_ALL, raw_collection

NIGHT, FILTER, DETECTORS = "20190401", "g DECam SDSS c0001 4720.0 1520.0", (25, 26)
CAMERA = "lsst.obs.decam.DarkEnergyCamera"
VISITS, SKYMAP, RA, DEC = (301, 302, 303), "toy", 149.4, 1.7


class StackRepository(Repository):
    """A repository of the stand-in camera."""

    @property
    def engine(self):
        return SimpleNamespace(
            name="science-pipelines", pipeline_folder="", instrument_class=CAMERA, require=lambda: None,
            coadd_memory_mb=(),
        )  # fmt: skip

    def __reduce__(self):
        return (StackRepository, (str(self.root),))


class Frame(dict):
    """Stands for an exposure."""

    @property
    def maskedImage(self) -> "Frame":
        """Itself: `planes` are those of its mask."""
        return self


class Boxes(dict):
    """Stands for defects."""

    def maskPixels(self, image: Frame, plane: str) -> None:
        """Take note of the plane that is marked."""
        image["planes"] = sorted({*image.get("planes", ()), plane})


class Parts(StorageClassDelegate):
    """Any component of a frame is another dictionary."""

    def getComponent(self, composite, componentName):
        return Frame(component=componentName)

    def assemble(self, components, pytype=None):
        return components


class DictionaryFormatter(JsonFormatter):
    """A dictionary as a file; any component of it is another dictionary."""

    def read_from_uri(self, uri, component=None, expected_size=-1):
        whole = super().read_from_uri(uri, None, expected_size)
        return Frame(component=component) if component else self.file_descriptor.storageClass.pytype(whole)


def storage_classes() -> dict[str, dict]:
    """Return the storage classes of all connections; each holds a dictionary here."""
    members = [m for row in contract()["connections"].values() for m in row["members"].values()]
    types = {"Exposure": Frame, "ExposureF": Frame, "Defects": Boxes}
    names = sorted({member[2] for member in members} | types.keys())
    found = {name: {"pytype": get_full_type_name(types.get(name, dict))} for name in names}
    for name in ("Exposure", "ExposureF"):
        found[name]["delegate"] = get_full_type_name(Parts)
    return found


def make_repository(root: Path) -> StackRepository:
    """Make a repository with a night of zeros, dome flats and visits, and all that its pipelines read besides."""
    json_files = dict.fromkeys(storage_classes(), "contract.night.DictionaryFormatter")
    Butler.makeRepo(str(root), config={"datastore": {"formatters": json_files}})
    made = StackRepository(root)
    registry = made.butler(writeable=True).registry
    registry.syncDimensionData(
        "instrument",
        {"name": "DECam", "detector_max": 100, "visit_max": 2**25, "exposure_max": 2**25, "class_name": CAMERA},
    )
    registry.insertDimensionData(
        "detector", *[{"instrument": "DECam", "id": d, "full_name": f"S{d}", "purpose": "SCIENCE"} for d in DETECTORS]
    )
    registry.insertDimensionData("physical_filter", {"instrument": "DECam", "name": FILTER, "band": "g"})
    registry.insertDimensionData("day_obs", {"instrument": "DECam", "id": int(NIGHT)})
    of_detectors = [{"detector": d} for d in DETECTORS]
    _curate(made, CALIB, "camera", "Camera", [{}])
    _curate(made, CALIB, datasets.CROSSTALK, "CrosstalkCalib", of_detectors)
    for name in (datasets.DEFECTS, datasets.SUSPECT_MASK):
        _curate(made, names.CALIB_BPM, name, "Defects", of_detectors)
    _add_raws(made, "bias", "zero", range(101, 106))
    _add_raws(made, "flat", "dome flat", range(201, 206))
    _add_raws(made, "drp", "object", VISITS)
    _add_sky(made)
    for visit in VISITS:
        _add_visit(made, visit)
    shards = [{"htm7": i} for span in registry.dimensions.commonSkyPix.pixelization.envelope(_square(1.0))
              for i in range(*span)]  # fmt: skip
    for name in datasets.REFCATS.values():
        _put(made, names.REFCATS, name, "SimpleCatalog", shards)
    _put(made, names.FAKES, "injection_catalog", "ArrowAstropy", [{"band": "g"} | shard for shard in shards])
    _put(made, names.SKYMAPS, datasets.SKYMAP, "SkyMap", [{"skymap": SKYMAP}])
    made.update_settings(skymap=SKYMAP)
    return made


def _square(width: float) -> ConvexPolygon:
    """Return a square around the field, deg wide."""
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return ConvexPolygon(
        [UnitVector3d(LonLat.fromDegrees(RA + x * width / 2, DEC + y * width / 2)) for x, y in corners]
    )


def _add_sky(repository) -> None:
    """Add a skymap of one tract with one patch."""
    registry = repository.butler(writeable=True).registry
    registry.insertDimensionData(
        "skymap", {"name": SKYMAP, "hash": b"0", "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1}
    )
    registry.insertDimensionData("tract", {"skymap": SKYMAP, "id": 0, "region": _square(0.8)})
    registry.insertDimensionData(
        "patch", {"skymap": SKYMAP, "tract": 0, "id": 0, "cell_x": 0, "cell_y": 0, "region": _square(0.8)}
    )


def _add_visit(repository, number: int) -> None:
    """Add a visit of one exposure."""
    registry = repository.butler(writeable=True).registry
    system = {"instrument": "DECam", "id": 0, "name": "one-to-one"}
    registry.syncDimensionData("visit_system", system)
    registry.insertDimensionData(
        "visit",
        {
            "instrument": "DECam", "id": number, "day_obs": int(NIGHT), "physical_filter": FILTER, "name": str(number),
            "seq_num": number, "exposure_time": 1.0, "observation_reason": "", "target_name": "",
            "science_program": "", "timespan": _seconds_after_noon(number), "region": _square(0.5),
        },
    )  # fmt: skip
    registry.insertDimensionData("visit_definition", {"instrument": "DECam", "exposure": number, "visit": number})
    registry.insertDimensionData("visit_system_membership", {"instrument": "DECam", "visit_system": 0, "visit": number})
    registry.insertDimensionData(
        "visit_detector_region",
        *[{"instrument": "DECam", "visit": number, "detector": d, "region": _square(0.5)} for d in DETECTORS],
    )


def _put(repository, run: str, name: str, storage_class: str, data_ids: list[dict], calibration: bool = False) -> list:
    """Write an empty dataset for each data id."""
    butler = repository.butler(writeable=True)
    dimensions = butler.dimensions.conform(data_ids[0])
    kind = DatasetType(name, dimensions, storage_class, isCalibration=calibration)
    butler.registry.registerDatasetType(kind)
    butler.collections.register(run, CollectionType.RUN)
    empty = kind.storageClass.pytype()
    return [butler.put(empty, DatasetRef(kind, butler.registry.expandDataId(i), run)) for i in data_ids]


def _curate(repository, collection: str, name: str, storage_class: str, data_ids: list[dict]) -> None:
    """Write and certify a calibration for each data id."""
    with_instrument = [{"instrument": "DECam"} | data_id for data_id in data_ids]
    made = _put(repository, f"{collection}/{name}", name, storage_class, with_instrument, calibration=True)
    butler = repository.butler(writeable=True)
    butler.collections.register(collection, CollectionType.CALIBRATION)
    butler.registry.certify(collection, made, Timespan(None, None))


def _add_raws(repository, proc_type: str, kind: str, exposures) -> None:
    butler = repository.butler(writeable=True)
    raw = DatasetType(datasets.RAW, ("instrument", "exposure", "detector"), "Exposure", universe=butler.dimensions)
    butler.registry.registerDatasetType(raw)
    butler.collections.register(RAW_ALL, CollectionType.RUN)
    made = []
    for number in exposures:
        butler.registry.insertDimensionData("group", {"instrument": "DECam", "name": str(number)})
        butler.registry.insertDimensionData(
            "exposure",
            {
                "instrument": "DECam", "id": number, "day_obs": int(NIGHT), "group": str(number), "obs_id": str(number),
                "physical_filter": FILTER, "observation_type": kind, "exposure_time": 1.0, "dark_time": 1.0,
                "seq_num": number, "seq_start": number, "seq_end": number, "has_simulated": False,
                "can_see_sky": False, "timespan": _seconds_after_noon(number),
            },
        )  # fmt: skip
        for detector in DETECTORS:
            data_id = butler.registry.expandDataId(instrument="DECam", exposure=number, detector=detector)
            made.append(butler.put(Frame(), DatasetRef(raw, data_id, run=RAW_ALL)))
    tag = raw_collection(NIGHT, proc_type)
    butler.collections.register(tag, CollectionType.TAGGED)
    butler.registry.associate(tag, made)


def _seconds_after_noon(seconds: int) -> Timespan:
    begin = Time("2019-04-01T12:00:00", scale="tai") + TimeDelta(60 * seconds, format="sec")
    return Timespan(begin, begin + TimeDelta(30, format="sec"))


def main(root: Path) -> dict:
    """Run bias, flat, flat once more, drp, coadd and differences; return counts, failures and what was found."""
    repository = make_repository(root)
    with WorkerPool(1) as pool:
        reports = [
            run_pipeline(repository, proc_type, NIGHT, pool=pool) for proc_type in ("bias", "flat", "flat", "drp")
        ]
        reports.append(run_coadd(repository, NIGHT, "2019", "meanclip", pool=pool))
        subset = {"coadd_subset": "2019", "template_type": "meanclip", "pool": pool}
        reports += [run_pipeline(repository, "diff_drp", NIGHT, science=s, **subset) for s in ("clean", "injected")]
    butler = repository.butler()
    frame = butler.get("cpFlatIsrExp", instrument="DECam", exposure=201, detector=25, collections=f"{NIGHT}/flat")
    certified = butler.query_datasets(datasets.FLAT, collections=f"{NIGHT}/calib/flat", find_first=False)
    return {
        "failures": [str(f) for report in reports for step in report.steps for f in step.failures],
        "succeeded": [{k: n.succeeded for step in r.steps for k, n in step.tasks.items()} for r in reports],
        "read": frame["read"],
        "certified": sorted(ref.dataId["detector"] for ref in certified),
        "planes": {
            name: butler.get(name, instrument="DECam", visit=301, detector=25, collections=chain)["planes"]
            for name, chain in ((datasets.CALEXP, f"{NIGHT}/drp"), (datasets.INJECTED_CALEXP, f"{NIGHT}/drp"))
        },
    }


if __name__ == "__main__":
    from contract import night  # the classes of this module by the name that storage classes know them by

    print(json.dumps(night.main(Path(sys.argv[1]))))

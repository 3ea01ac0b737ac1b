"""A Butler repository knows the instrument, and keeps what our storage classes hold."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType, Timespan
from lsst.pipe.base import Instrument

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.instrument import DarkEnergyCamera
from proc_decam_dagster.instrument.storage import STORAGE_CLASSES, butler_seed_config
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.psf_model import PsfModel
from proc_decam_dagster.pixels.skymap import SkyMap

RUN = "test/run"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("repo"))
    Butler.makeRepo(root, config=butler_seed_config())
    butler = Butler.from_config(root, writeable=True)
    DarkEnergyCamera().register(butler.registry)
    butler.collections.register(RUN)
    insert = butler.registry.insertDimensionData
    insert("group", {"instrument": "DECam", "name": "845291"})
    insert("day_obs", {"instrument": "DECam", "id": 20190401, "timespan": Timespan(None, None)})
    insert(
        "exposure",
        {
            "instrument": "DECam", "id": 845291, "day_obs": 20190401, "group": "845291", "obs_id": "x", "seq_num": 1,
            "physical_filter": "VR DECam c0007 6300.0 2600.0", "timespan": Timespan(None, None),
        },
    )  # fmt: skip
    return root


@pytest.fixture
def butler(root):
    return Butler.from_config(root, run=RUN)


def register(butler, name, dimensions, storage_class, **kwargs):
    butler.registry.registerDatasetType(
        DatasetType(name, dimensions, storage_class, universe=butler.dimensions, **kwargs)
    )
    return name


def test_registered_records_are_those_of_obs_decam(butler):
    (instrument,) = butler.query_dimension_records("instrument")
    assert (instrument.name, instrument.detector_max, instrument.visit_max) == ("DECam", 100, 2**25)
    assert (instrument.exposure_max, instrument.visit_system) == (2**25, 0)
    assert instrument.class_name == "proc_decam_dagster.instrument.DarkEnergyCamera"
    assert len(instrument.class_name) <= 64
    detectors = {r.id: r for r in butler.query_dimension_records("detector")}
    assert sorted(detectors) == list(DETECTORS)
    first = detectors[1]
    assert (first.full_name, first.raft, first.name_in_raft, first.purpose) == ("S29", "S", "29", "SCIENCE")
    filters = {r.name: r.band for r in butler.query_dimension_records("physical_filter")}
    assert filters == {name: each.band for name, each in FILTERS.items()}
    assert filters["Y DECam c0005 10095.0 1130.0"] == "y" and filters["solid plate 0.0 0.0"] == "opaque"


def test_instrument_comes_back_from_the_repository_by_name(root, butler):
    writeable = Butler.from_config(root, writeable=True)
    DarkEnergyCamera().register(writeable.registry)  # again: nothing changes, nothing fails
    instrument = Instrument.fromName("DECam", butler.registry)
    assert isinstance(instrument, DarkEnergyCamera)
    assert instrument.makeDefaultRawIngestRunName() == "DECam/raw/all"
    assert instrument.engine == "proc_decam_dagster.instrument.engine.EmbeddedEngine"


def test_plain_butler_command_registers_the_instrument(tmp_path):
    Butler.makeRepo(str(tmp_path / "repo"), config=butler_seed_config())
    code = "import sys; from lsst.daf.butler.cli.butler import main; sys.exit(main())"
    command = [sys.executable, "-c", code]
    subprocess.run(
        [*command, "register-instrument", "repo", "proc_decam_dagster.instrument.DarkEnergyCamera"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    butler = Butler.from_config(str(tmp_path / "repo"))
    assert len(butler.query_dimension_records("detector")) == 62


def test_storage_classes_are_ours_and_none_of_the_stack_is_changed(tmp_path):
    from lsst.daf.butler import StorageClassFactory

    Butler.makeRepo(str(tmp_path), config=butler_seed_config())
    known = StorageClassFactory()
    assert all(name.startswith("Decam") for name in STORAGE_CLASSES)
    for name in STORAGE_CLASSES:
        assert known.getStorageClass(name).pytype.__module__.startswith(("proc_decam_dagster", "astropy"))


def test_image_whole_by_component_and_in_part(root, butler):
    writeable = Butler.from_config(root, writeable=True, run=RUN)
    name = register(writeable, "postISRCCD", ("instrument", "exposure", "detector"), "DecamImage")
    image = MaskedImage.blank((60, 40), psf=PsfModel(np.ones((1, 5, 5)), 0, (60, 40)), metadata={"sky": 120.5})
    image.image[:] = np.random.default_rng(0).normal(100, 5, (60, 40))
    image.mask[3, 4] = 5
    data_id = {"instrument": "DECam", "exposure": 845291, "detector": 10}
    writeable.put(image, name, data_id)
    back = butler.get(name, data_id)
    assert isinstance(back, MaskedImage)
    np.testing.assert_allclose(back.image, image.image, atol=0.2)
    np.testing.assert_array_equal(butler.get(f"{name}.mask", data_id), image.mask)
    assert butler.get(f"{name}.metadata", data_id) == {"sky": 120.5}
    assert butler.get(f"{name}.psf", data_id).size == 5
    part = butler.get(name, data_id, parameters={"bbox": (2, 1, 12, 9)})
    np.testing.assert_array_equal(part.mask, image.mask[1:9, 2:12])
    assert butler.get(f"{name}.image", data_id, parameters={"bbox": (2, 1, 12, 9)}).shape == (8, 10)


def test_defects_and_sky_map(root, butler):
    writeable = Butler.from_config(root, writeable=True, run=RUN)
    name = register(writeable, "defects", ("instrument", "detector"), "DecamDefects", isCalibration=True)
    table = Table({"x0": [1, 5], "y0": [2, 6], "width": [3, 1], "height": [4096, 1]})
    writeable.put(table, name, {"instrument": "DECam", "detector": 1})
    back = butler.get(name, {"instrument": "DECam", "detector": 1})
    assert back.colnames == table.colnames and back["height"].tolist() == [4096, 1]
    assert back["x0"].dtype.isnative and np.issubdtype(back["x0"].dtype, np.integer)

    skymap = SkyMap.discrete("small", [(149.4, 1.7)])
    sizes = {"tract_max": 1, "patch_nx_max": 20, "patch_ny_max": 20}
    writeable.registry.insertDimensionData("skymap", {"name": "small", "hash": bytes.fromhex(skymap.sha1), **sizes})
    name = register(writeable, "skyMap", ("skymap",), "DecamSkyMap")
    writeable.put(skymap, name, {"skymap": "small"})
    assert butler.get(name, {"skymap": "small"}) == skymap


def test_real_reference_catalogue_shard(root, butler, shared_data):
    from lsst.daf.butler import DatasetRef, FileDataset

    writeable = Butler.from_config(root, writeable=True, run=RUN)
    folder = shared_data / "refcats" / "ps1_pv3_3pi_20170110"
    path = min(folder.glob("[0-9]*.fits"))
    name = register(writeable, "ps1_pv3_3pi_20170110", ("htm7",), "DecamRefcat")
    data_id = writeable.registry.expandDataId(htm7=int(path.stem))
    dataset_type = writeable.get_dataset_type(name)
    writeable.ingest(FileDataset(str(path), [DatasetRef(dataset_type, data_id, RUN)]), transfer="direct")
    table = butler.get(name, htm7=int(path.stem))
    with fits.open(path) as hdus:
        header, rows = hdus[1].header, hdus[1].data
        flags = {header[key]: int(key[5:]) - 1 for key in header if key.startswith("TFLAG")}
        assert len(table) == len(rows) > 0
        np.testing.assert_array_equal(table["coord_ra"], rows["coord_ra"])
        for flag, bit in flags.items():
            assert table[flag].dtype == bool
            np.testing.assert_array_equal(table[flag], rows["flags"][:, bit])
    assert "flags" not in table.colnames and all(table[column].dtype.isnative for column in table.colnames)
    assert 2.5 < float(np.median(table["coord_ra"])) < 2.7, "radians, around RA 149.4"


def test_raw_formatter_gives_the_detector_of_the_data_id(root, butler, tmp_path):
    from lsst.daf.butler import DatasetRef, FileDataset

    writeable = Butler.from_config(root, writeable=True, run=RUN)
    hdus = [fits.PrimaryHDU(header=fits.Header({"EXPNUM": 845291}))]
    for ccd in (31, 7):
        hdus.append(fits.CompImageHDU(np.full((10, 12), ccd, np.uint16), fits.Header({"CCDNUM": ccd}), name=f"X{ccd}"))
    path = tmp_path / "raw.fits.fz"
    fits.HDUList(hdus).writeto(path)
    name, dimensions, storage_class = DarkEnergyCamera.raw_definition
    register(writeable, name, dimensions, storage_class)
    dataset_type = writeable.get_dataset_type(name)
    ids = [writeable.registry.expandDataId(instrument="DECam", exposure=845291, detector=ccd) for ccd in (7, 31)]
    refs = [DatasetRef(dataset_type, data_id, RUN) for data_id in ids]
    formatter = DarkEnergyCamera().getRawFormatter(refs[0].dataId)
    writeable.ingest(FileDataset(str(path), refs, formatter=formatter), transfer="direct")
    for ccd in (7, 31):
        raw = butler.get(name, instrument="DECam", exposure=845291, detector=ccd)
        assert raw.detector == ccd and (raw.data == ccd).all() and raw.primary["EXPNUM"] == 845291

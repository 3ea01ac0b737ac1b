"""A survey of tiny raw files with real header cards, and a repository of it."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from lsst.daf.butler import CollectionType, DatasetType

from proc_decam_dagster.repository import Repository, create_repository, define_visits, ingest_raws, tag_raws
from proc_decam_dagster.repository.certify import VALID_BEGIN, VALID_END, certify_refs

ZERO, FLAT, SCIENCE = "zero", "dome flat", "object"
DETECTORS = (1, 25)
FILTER = "VR DECam c0007 6300.0 2600.0"
RA, DEC = 149.4, 1.7


def raw_cards(expnum: int, obs_type: str, minute: int, ra: float = RA, dec: float = DEC) -> dict:
    """Return the cards of a DECam primary header that an exposure record needs; names and forms of a real one."""
    return {
        "OBSERVAT": "CTIO", "TELESCOP": "CTIO 4.0-m telescope", "INSTRUME": "DECam", "DETECTOR": "DECam",
        "OBSTYPE": obs_type, "PROCTYPE": "RAW", "PRODTYPE": "image", "EXPNUM": expnum, "PROPID": "2019A-0337",
        "OBJECT": "DEEP A0b", "FILTER": "solid plate 0.0 0.0" if obs_type == ZERO else FILTER,
        "EXPTIME": 0.0 if obs_type == ZERO else 120.0, "EXPREQ": 0.0 if obs_type == ZERO else 120.0, "DARKTIME": 120.7,
        "DATE-OBS": f"2019-04-02T05:{minute:02d}:18.382875", "MJD-OBS": 58575.2 + minute / 1440, "TIMESYS": "UTC",
        "RADESYS": "FK5", "EQUINOX": 2000.0, "RA": _sexagesimal(ra / 15), "DEC": _sexagesimal(dec),
        "TELRA": _sexagesimal(ra / 15), "TELDEC": _sexagesimal(dec), "HA": "-01:20:21.890", "ZD": 24.84, "AZ": 52.8675,
        "AIRMASS": 1.1, "OBS-LONG": 70.81489, "OBS-LAT": -30.16606, "OBS-ELEV": 2215.0, "OBSID": f"ct4m{expnum}",
    }  # fmt: skip


def _sexagesimal(value: float) -> str:
    sign, value = ("-" if value < 0 else ""), abs(value)
    minutes = (value % 1) * 60
    return f"{sign}{int(value):02d}:{int(minutes):02d}:{(minutes % 1) * 60:06.3f}"


def write_raw(path: Path, expnum: int, obs_type: str, minute: int, detectors=DETECTORS, **pointing) -> Path:
    """Write a raw file of tiny images, extensions in an order of their own, and a guide CCD."""
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(raw_cards(expnum, obs_type, minute, **pointing)))])
    for ccd in (*reversed(detectors), 63):
        hdus.append(fits.ImageHDU(np.full((4, 4), ccd, np.int16), fits.Header({"CCDNUM": ccd, "RADESYS": "FK5"})))
    hdus.writeto(path, overwrite=True)
    return path


def make_exposures(
    folder: Path, kinds: str = "zzffss", night: str = "20190401", first: int = 845001, **pointing
) -> Table:
    """Write raw files (z zero, f flat, s science) and return their exposure table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, kind in enumerate(kinds):
        obs_type = {"z": ZERO, "f": FLAT, "s": SCIENCE}[kind]
        expnum = first + number
        row = (
            obs_type, f"{night[:4]}-{night[4:6]}-{night[6:]}", f"{expnum:032x}", "raw",
            f"/net/archive/mtn/c4d_{expnum}_ori.fits.fz", expnum, int(night), "solid" if kind == "z" else "VR", RA, DEC,
        )  # fmt: skip
        write_raw(folder / f"{row[2]}_c4d_{expnum}_ori.fits.fz", expnum, obs_type, number, **pointing)
        rows.append(row)
    names = (
        "obs_type", "caldat", "md5sum", "proc_type", "archive_filename", "EXPNUM", "night", "band",
        "RA(deg)", "DEC(deg)",
    )  # fmt: skip
    return Table(rows=rows, names=names)


@pytest.fixture(scope="session")
def empty_template(tmp_path_factory) -> Path:
    """A created repository, to copy."""
    root = tmp_path_factory.mktemp("template") / "repo"
    create_repository(root).close()
    return root


@pytest.fixture
def repo(empty_template, tmp_path) -> Repository:
    """A fresh repository of its own for each test."""
    root = tmp_path / "repo"
    shutil.copytree(empty_template, root)
    repository = Repository(root)
    yield repository
    repository.close()


@pytest.fixture(scope="session")
def image_dir(tmp_path_factory) -> Path:
    """Folder of one night's raw files: two zeros, two flats, two science exposures."""
    folder = tmp_path_factory.mktemp("survey") / "images"
    make_exposures(folder)
    return folder


@pytest.fixture
def exposures(image_dir) -> Table:
    """The exposure table of `image_dir`."""
    return make_exposures(image_dir)


@pytest.fixture(scope="session")
def ingested_template(empty_template, tmp_path_factory, image_dir) -> Path:
    """A repository with the night ingested, tagged, its visits defined; to copy."""
    root = tmp_path_factory.mktemp("ingested") / "repo"
    shutil.copytree(empty_template, root)
    repository = Repository(root)
    ingest_raws(repository, make_exposures(image_dir), image_dir)
    for name in ("bias", "flat", "drp"):
        tag_raws(repository, "20190401", name)
    define_visits(repository, "20190401")
    repository.close()
    return root


@pytest.fixture
def night(ingested_template, tmp_path) -> Repository:
    """A repository of its own for each test, with the night 20190401 ingested."""
    root = tmp_path / "repo"
    shutil.copytree(ingested_template, root)
    repository = Repository(root)
    yield repository
    repository.close()


def put_dataset(repo, name, run, dimensions, is_calibration=False, **data_id):
    """Put a small dictionary as a dataset: a stand-in for what pipelines write."""
    butler = repo.butler(writeable=True)
    kind = DatasetType(name, dimensions, "StructuredDataDict", universe=butler.dimensions, isCalibration=is_calibration)
    butler.registry.registerDatasetType(kind)
    if "instrument" in kind.dimensions:
        data_id["instrument"] = "DECam"
    return butler.put({"value": 1}, kind, data_id, run=run)


def make_masters(repo, of, name="bias", detectors=(1, 25), filters=(FILTER,)):
    """Make and certify a night's own masters."""
    run = f"{of}/{name}/{name}/step2/20240101T000000Z"
    repo.butler(writeable=True).collections.register(run, CollectionType.RUN)
    dimensions = ("instrument", "detector") + (("physical_filter",) if name == "flat" else ())
    data_ids = [{"detector": d} for d in detectors]
    if name == "flat":
        data_ids = [d | {"physical_filter": f} for d in data_ids for f in filters]
    refs = [put_dataset(repo, name, run, dimensions, True, **d) for d in data_ids]
    certify_refs(repo.butler(writeable=True), f"{of}/calib/{name}", refs, VALID_BEGIN, VALID_END)


@pytest.fixture
def put():
    """The function `put_dataset`."""
    return put_dataset


@pytest.fixture
def masters(night):
    """A function that makes and certifies a night's own masters in the repository of `night`."""
    return partial(make_masters, night)

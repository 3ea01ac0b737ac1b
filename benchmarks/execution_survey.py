"""What the execution benchmark works on: tiny raw files of 62 detectors, and repositories that hold nights of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack

from proc_decam_dagster.camera.detectors import DETECTORS

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

OBS_TYPE, PROC_TYPE = "zero", "bias"
FIRST = 845001
NAMES = (
    "obs_type", "caldat", "md5sum", "proc_type", "archive_filename", "EXPNUM", "night", "band", "RA(deg)", "DEC(deg)",
)  # fmt: skip


def tiny_raw(expnum: int, path: Path) -> Path:
    """Write a raw file with the header cards of a real zero exposure, and images of a few pixels."""
    cards = {
        "OBSERVAT": "CTIO", "TELESCOP": "CTIO 4.0-m telescope", "INSTRUME": "DECam", "DETECTOR": "DECam",
        "OBSTYPE": OBS_TYPE, "PROCTYPE": "RAW", "PRODTYPE": "image", "EXPNUM": expnum, "PROPID": "2019A-0337",
        "OBJECT": "zero", "FILTER": "solid plate 0.0 0.0", "EXPTIME": 0.0, "EXPREQ": 0.0, "DARKTIME": 0.7,
        "DATE-OBS": "2019-04-02T00:00:00.000000", "MJD-OBS": 58575.0, "TIMESYS": "UTC", "RADESYS": "FK5",
        "EQUINOX": 2000.0, "RA": "09:57:36.000", "DEC": "01:42:00.000", "TELRA": "09:57:36.000",
        "TELDEC": "01:42:00.000", "HA": "-01:20:21.890", "ZD": 24.84, "AZ": 52.8675, "AIRMASS": 1.1,
        "OBS-LONG": 70.81489, "OBS-LAT": -30.16606, "OBS-ELEV": 2215.0, "OBSID": f"ct4m{expnum}",
    }  # fmt: skip
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header(cards))])
    for ccd in sorted(DETECTORS):
        hdus.append(fits.ImageHDU(np.full((2, 2), ccd, np.int16), fits.Header({"CCDNUM": ccd, "RADESYS": "FK5"})))
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus.writeto(path, overwrite=True)
    return path


def tiny_night(folder: Path, night: str, exposures: int, first: int = FIRST) -> Table:
    """Write a night of raw files, which differ in number and time of the exposure alone; return its exposure table."""
    day = f"{night[:4]}-{night[4:6]}-{night[6:]}"
    template = tiny_raw(first, folder / "template.fits").read_bytes()
    (folder / "template.fits").unlink()
    rows = []
    for number in range(exposures):
        expnum = first + number
        row = (OBS_TYPE, day, f"{expnum:032x}", "raw", f"c4d_{expnum}_ori.fits.fz", expnum, int(night), "solid", 0.0,
               0.0)  # fmt: skip
        stamp = f"{day}T{20 + number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}"
        content = template.replace(b"%d" % first, b"%d" % expnum).replace(b"2019-04-02T00:00:00", stamp.encode())
        (folder / f"{row[2]}_{row[4]}").write_bytes(content)
        rows.append(row)
    return Table(rows=rows, names=NAMES)


def make_survey(root: Path, folder: Path, nights: Mapping[str, int]) -> "Repository":
    """Make a repository with nights of so many exposures each, tagged, their chains made."""
    from proc_decam_dagster.repository import create_repository, ingest_raws, tag_raws, update_chain

    numbers = np.cumsum([0, *nights.values()])
    table = vstack([tiny_night(folder, n, nights[n], FIRST + int(first)) for n, first in zip(nights, numbers)])
    repository = create_repository(root)
    ingest_raws(repository, table, folder).raise_on_failure()
    for night in nights:
        tag_raws(repository, night, PROC_TYPE)
        update_chain(repository, PROC_TYPE, night)
    return repository

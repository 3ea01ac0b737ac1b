"""The client against the simulation's archive server, which was written from the same facts by other hands."""

import hashlib

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.archive import Archive, download, query_exposures
from proc_decam_dagster.archive.errors import AuthFailed, QueryRefused
from proc_decam_dagster.archive.outcomes import Outcome
from proc_decam_dagster.simulation.server import USER, ArchiveServer
from proc_decam_dagster.simulation.survey import FILES
from proc_decam_dagster.survey.exposures import read_exposures


@pytest.fixture
def folder(tmp_path, shared_data):
    """Six files of two nights under real rows, in the layout of a simulated survey."""
    table = read_exposures(shared_data / "archive" / "exposures_object_raw.ecsv")
    table = table[np.isin(table["night"], np.unique(table["night"])[:2])]
    table = table[np.sort(np.unique(table["night"], return_index=True)[1][:, None] + np.arange(3), axis=None)]
    (tmp_path / "archive").mkdir()
    for i, row in enumerate(table):
        body = b"%d" % i * 40_000
        table["md5sum"][i] = hashlib.md5(body).hexdigest()
        (tmp_path / "archive" / str(row["archive_filename"]).split("/")[-1]).write_bytes(body)
    table.write(tmp_path / FILES)
    return tmp_path


@pytest.mark.parametrize("prefixed", [False, True])
def test_the_real_table_through_the_simulated_archive(shared_data, prefixed):
    file = shared_data / "archive" / "exposures_object_raw.ecsv"
    real = read_exposures(file)
    with ArchiveServer(file, prefixed=prefixed) as server:
        ours, missing = query_exposures(Archive(server.url), "2019A-0337", dates=("20190401", "20190430"))
    real = real[(real["night"] >= 20190401) & (real["night"] <= 20190430)]
    assert len(ours) == len(real) > 100 and ours.colnames == real.colnames and len(missing) > 3
    real.sort("md5sum")
    ours.sort("md5sum")
    for name in ("EXPNUM", "night", "band", "archive_filename", "caldat", "exposure", "AIRMASS"):
        assert ours[name].tolist() == real[name].tolist(), name
    np.testing.assert_allclose(ours["RA(deg)"], real["RA(deg)"])
    np.testing.assert_allclose(ours["mjd"], real["mjd"], rtol=0, atol=1e-8)  # its rows carry milliseconds


def test_downloads_from_the_simulated_archive(folder, tmp_path):
    with ArchiveServer(folder) as server:
        archive = Archive(server.url, "", "", backoff=0.001)
        with pytest.raises(QueryRefused, match="BADFIELD"):
            archive.find([["instrument", "decam"], ["moon", "full"]], ["md5sum"])
        table, _ = query_exposures(archive, "2019A-0337")
        assert len(table) == 6
        md5s = table["md5sum"].tolist()
        server.faults.errors["/api/retrieve"] = 2
        server.faults.truncated[md5s[0]] = 1
        server.faults.corrupted[md5s[1]] = 1
        server.faults.corrupted[md5s[2]] = 99
        report = download(archive, table, tmp_path / "images")
        assert report.counts == {Outcome.VERIFIED: 5, Outcome.MD5_MISMATCH: 1}
        server.faults.corrupted.clear()
        report = download(archive, table, tmp_path / "images")
        assert report.ok and report.fetched == 1


def test_proprietary_nights_of_the_simulated_archive(folder, tmp_path):
    nights = sorted(set(Table.read(folder / FILES)["night"].tolist()))
    with ArchiveServer(folder, proprietary=[str(nights[0])]) as server:
        with pytest.raises(AuthFailed, match="No active account"):
            Archive(server.url, "somebody", "wrong").token()
        table, _ = query_exposures(Archive(server.url, "", ""), "2019A-0337")
        report = download(Archive(server.url, "", ""), table, tmp_path / "images")
        assert report.counts == {Outcome.VERIFIED: 3, Outcome.PROPRIETARY: 3}
        assert "until 2096-08-12" in report.failures[0][1]
        assert download(Archive(server.url, *USER), table, tmp_path / "images").fetched == 3

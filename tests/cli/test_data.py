"""The commands from the archive to a repository with raws, on a tiny survey: real HTTP, files and Butler."""

import hashlib

import numpy as np
from astropy.io import fits
from astropy.table import Table

from proc_decam_dagster.survey.exposures import read_exposures

from .conftest import NIGHTS, proc_decam


def test_exposures_and_download_as_typed(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"PROC_DECAM_ARCHIVE_URL": served.url}
    result = proc_decam("exposures ./data --proposal-id 2019A-0337", **environment)
    assert "wrote 9 files of 2 nights" in result.stdout and "flat VR" in result.stdout
    table = read_exposures("data/exposures.ecsv")
    assert len(table) == 9 and Table.read("data/missing_data.ecsv")["caldat"].tolist() == ["2019-04-02"]
    result = proc_decam("download ./data/exposures.ecsv --download-dir ./data/images", **environment)
    assert "9 files fetched" in result.stdout
    for path in (tmp_path / "data" / "images").glob("*.fz"):
        assert hashlib.md5(path.read_bytes()).hexdigest() == path.name.split("_")[0]
    assert (tmp_path / "data" / "downloaded_exposures.ecsv").is_file()
    again = proc_decam("download ./data/exposures.ecsv --download-dir ./data/images", **environment)
    assert "0 files fetched" in again.stdout and "9 there before" in again.stdout
    dated = proc_decam("exposures ./two --dates 20190402 20190402", **environment)
    assert "3 files of 1 nights" in dated.stdout
    assert proc_decam("nights ./data/exposures.ecsv").stdout.count("2019040") == 2


def test_download_fails_by_name(served, tmp_path):
    table = Table({"md5sum": ["0" * 32], "archive_filename": ["gone.fits.fz"], "proc_type": ["raw"], "night": [1]})
    table.write(tmp_path / "e.ecsv")
    line = f"download {tmp_path}/e.ecsv --download-dir {tmp_path} --archive-url {served.url}"
    result = proc_decam(line, 1)
    assert "not found" in result.stdout and result.stderr.splitlines()[-1].startswith("error: 1 of 1 files")
    assert "no row satisfies night=2020" in proc_decam(f"{line} --select night=2020", 1).stderr
    assert "cannot be applied" in proc_decam(f"{line} --select moon=full", 1).stderr
    table["proc_type"] = ["instcal"]
    table.write(tmp_path / "e.ecsv", overwrite=True)
    assert "holds no raw files" in proc_decam(line, 1).stderr


def test_dry_run_nights_verify_and_adopt_as_typed(survey, served, tmp_path, monkeypatch):
    environment = {"PROC_DECAM_ARCHIVE_URL": served.url}
    line = "download ./data/exposures.ecsv --download-dir ./elsewhere"
    told = proc_decam(f"{line} --nights 20190402 --dry-run", **environment).stdout
    assert "0 files to fetch, 3 there and verified" in told  # where the first download put them
    images = sorted((survey / "data" / "images").glob("*.fz"))
    for ledger in (survey / "data").glob("*.ledger.sqlite*"):
        ledger.unlink()
    (survey / "data" / "downloaded_exposures.ecsv").unlink()
    told = proc_decam(f"{line} --dry-run", **environment).stdout
    assert "9 files to fetch, 0 there" in told and "unknown" in told and not (survey / "elsewhere").exists()
    images[0].write_bytes(b"half")
    adopted = proc_decam("adopt ./data/images", 1)
    assert "8 of 9 files are verified" in adopted.stdout and "left where it is" in adopted.stdout
    assert adopted.stderr.splitlines()[-1].startswith("error: 1 files are spoilt")
    into = "download ./data/exposures.ecsv --download-dir ./data/images"
    assert "1 files to fetch, 8 there and verified" in proc_decam(f"{into} --dry-run", **environment).stdout
    assert "1 files fetched" in proc_decam(into, **environment).stdout
    assert "MB/s of past downloads" not in proc_decam(f"{into} --dry-run", **environment).stdout  # nothing to fetch
    assert "9 files read and verified" in proc_decam(f"{into} --verify", **environment).stdout
    images[1].write_bytes(b"rotten")
    told = proc_decam(f"{into} --verify -j 2", 1, **environment)
    assert "spoilt on disk" in told.stdout and images[1].with_name(images[1].name + ".spoilt").exists()
    assert "1 files fetched" in proc_decam(f"{into} --nights '2019.*'", **environment).stdout
    assert "no night matches" in proc_decam(f"{into} --nights 2031", 1, **environment).stderr
    assert "there is no exposures.ecsv" in proc_decam("adopt ./elsewhere", 1).stderr


def test_from_raws_to_chains(survey):
    result = proc_decam("ingest ./data/exposures.ecsv -b ./repo --select night=20190401 obs_type='zero'")
    assert "2 ingested, 0 there before, 0 failed" in result.stdout
    result = proc_decam("ingest ./data/exposures.ecsv -b ./repo --image-dir ./data/images -J 1")
    assert "7 ingested, 2 there before, 0 failed" in result.stdout
    assert proc_decam("raw ./repo bias 20190401").stdout == "20190401/bias/raw: 4 raws\n"  # 2 frames, 2 detectors
    assert "20190401/drp/raw: 4 raws" in proc_decam("raw ./repo science 20190401").stdout
    assert proc_decam("collection ./repo bias 20190401").stdout.split() == [
        "20190401/bias", "DECam/calib", "20190401/bias/raw",
    ]  # fmt: skip
    visits = proc_decam("define-visits ./repo 20190401 20190402").stdout.split()
    assert visits[-4:] == ["20190401", "2", "20190402", "2"]
    assert set(proc_decam("nights ./repo").stdout.split()) >= set(NIGHTS)
    tagged = proc_decam("associate ./repo mine -d raw --collections DECam/raw/all --where 'exposure > 845003'").stdout
    assert tagged == "mine: 12 datasets\n"
    assert "is unknown" in proc_decam("raw ./repo dark 20190401", 1).stderr
    assert "has no zero frames on night 20300101" in proc_decam("raw ./repo bias 20300101", 1).stderr
    assert "a TAGGED" in proc_decam("decertify ./repo mine raw", 1).stderr
    wrong = proc_decam("associate ./repo mine -d raw --collections DECam/raw/all --where 'nonsense = 1'", 1)
    assert wrong.stderr.startswith("error: ")


def test_a_truncated_raw_is_named_and_the_others_go_on(survey):
    path = sorted((survey / "data" / "images").glob("*.fz"))[0]
    path.write_bytes(path.read_bytes()[:1000])
    result = proc_decam("ingest ./data/exposures.ecsv -b ./repo", 1)
    assert "8 ingested" in result.stdout and path.name in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: 1 raw files were not ingested")


def test_ingest_into_runs_named_by_columns(survey):
    result = proc_decam("ingest ./data/exposures.ecsv -b ./repo --collection {keys} --collection-keys night obs_type")
    assert result.stdout.count("raws:") == 5
    from proc_decam_dagster.repository import open_repository

    assert "20190401/dome_flat" in open_repository("repo").butler().collections.query("2019*")


def test_fakes_defects_and_refcats(survey, served, shared_data):
    fakes = Table({"RA": [149.4], "DEC": [1.7], "MAG": [22.0], "BAND": ["VR"], "EXPNUM": [845005]})
    fakes.write("fakes.fits")
    assert proc_decam("fakes ./repo fakes.fits").stdout.split()[-2:] == ["VR", "1"]
    fakes.remove_column("EXPNUM")
    fakes.write("worse.fits")
    assert "EXPNUM" in proc_decam("fakes ./repo worse.fits", 1).stderr
    given = f"--shards {shared_data}/refcats --catalogues ps1 gaia_dr2"
    result = proc_decam(f"refcats ./repo ./data/exposures.ecsv {given}")
    assert "ps1_pv3_3pi_20170110" in result.stdout
    _serve_reference_data(served, shared_data)
    sites = {"PROC_DECAM_REFCAT_URL": f"{served.site}/lsst_refcats", "PROC_DECAM_BPM_URL": f"{served.site}/decam_bpm"}
    result = proc_decam("refcats ./repo ./data/exposures.ecsv", **sites)
    assert len(list((survey / "data" / "refcats" / "ps1_pv3_3pi_20170110").iterdir())) == 2
    result = proc_decam("defects ./repo ./data/bpm --detectors 1", **sites)
    assert "certified into DECam/calib_bpm" in result.stdout and (survey / "data" / "bpm" / "des").is_dir()
    lacking = proc_decam("defects ./repo ./data/bpm --detectors 2", 1, **sites).stderr.splitlines()[-1]
    assert lacking.startswith("error: data/bpm lacks 2 masks")
    assert "no defects is certified now" in proc_decam("decertify ./repo DECam/calib_bpm defects").stdout


def test_refcats_made_from_a_tap_service(survey):
    from archive.tap_server import LocalTap
    from archive.test_shard_maker import around, gaia_rows

    with LocalTap(gaia_dr3__gaia_source=gaia_rows(*around(149.4, 1.7, 1.6, 1500))) as tap:
        tap.row_limit = 400
        line = f"refcats ./repo ./data/exposures.ecsv --source tap --catalogues gaia_dr3 --tap-url gaia_dr3={tap.url}"
        shown = proc_decam(line).stdout
        assert shown.splitlines()[1].startswith("gaia_dr3_20230707") and "refcats_coverage.png" in shown
        assert (survey / "data" / "refcats_coverage.png").read_bytes()[:4] == b"\x89PNG"
        again = proc_decam(line.replace("gaia_dr3=", "")).stdout.splitlines()[1].split()
        assert again[3:] == ["0", "0"] and again[1] == again[2]  # none missing, none new
        tap.tables.clear()
        refused = proc_decam(line.replace("refcats ./repo", "refcats ./repo --directory more"), 1).stderr
        assert "unknown table" in refused
    assert "go with --source tap" in proc_decam(line.replace("--source tap", ""), 2).stderr
    assert "is none of ps1" in proc_decam(line.replace("gaia_dr3=http", "tycho=http"), 2).stderr


def test_exposures_again_names_what_changed(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"PROC_DECAM_ARCHIVE_URL": served.url}
    proc_decam("exposures ./data --dates 20190401 20190401", **environment)
    assert (tmp_path / "data" / "exposures_sky.png").read_bytes()[:4] == b"\x89PNG"
    result = proc_decam("exposures ./data", **environment)
    assert "since the last search: 3 new" in result.stdout and "exposures_changes.ecsv" in result.stdout
    missing = Table.read("data/missing_data.ecsv")
    assert missing["nearest_night"].tolist() == ["20190401"] and missing["days_away"].tolist() == [-1]
    assert "is as it was, 9 files" in proc_decam("exposures ./data", **environment).stdout
    gone = served.rows.pop(5)
    try:
        result = proc_decam("exposures ./data", **environment)
        assert f"vanished: object {gone['EXPNUM']}" in result.stdout and "stay in the table" in result.stdout
    finally:
        served.rows.insert(5, gone)
    assert "1 returned" in proc_decam("exposures ./data", **environment).stdout
    some = proc_decam("exposures ./zeros --obs-types object zero --instcal", **environment).stdout
    assert "wrote 7 files of 2 nights" in some


def _serve_reference_data(served, shared_data) -> None:
    """Serve two real shards, and one pair of masks, as the real sites do."""
    shards = sorted((shared_data / "refcats" / "ps1_pv3_3pi_20170110").glob("*.fits"))[:2]
    folder = "/lsst_refcats/ps1/ps1_pv3_3pi_20170110"
    served.files[f"{folder}/index.dat"] = "\n".join(p.name for p in shards).encode()
    served.files |= {f"{folder}/{p.name}": p.read_bytes() for p in shards}
    for family, name in (
        ("cp", "DECam_Master_20140209v2_cd_01.fits"), ("des", "D_n20150105t0115_c01_r2134p01_bpm.fits"),
    ):  # fmt: skip
        mask = np.zeros((4096, 2048), np.int32)
        mask[10:20, 30] = 1
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(mask, compression_type="RICE_1")])
        path = shared_data.__class__(f"{family}.fits")
        hdus.writeto(path, overwrite=True)
        served.files[f"/decam_bpm/{family}/index.dat"] = name.encode()
        served.files[f"/decam_bpm/{family}/{name}"] = path.read_bytes()


def test_repositories(survey):
    assert "is a Butler repository already" in proc_decam("create ./repo", 1).stderr
    assert "is no Butler repository" in proc_decam("raw ./data bias 20190401", 1).stderr
    assert "skymap" in proc_decam("skymap ./repo ./data/exposures.ecsv").stdout
    assert "has no column" in _without_column(survey, "EXPNUM")
    result = proc_decam("create ./other --exposures ./absent.ecsv", 1)
    assert "does not exist" in result.stderr and not (survey / "other").exists()


def _without_column(survey, column: str) -> str:
    table = read_exposures("data/exposures.ecsv")
    table.remove_column(column)
    table.write("less.ecsv")
    return proc_decam("ingest less.ecsv -b ./repo --image-dir ./data/images", 1).stderr


def test_qgraph_and_retries(survey):
    proc_decam("ingest ./data/exposures.ecsv -b ./repo")
    proc_decam("raw ./repo bias 20190401")
    proc_decam("collection ./repo bias 20190401")
    graph = "qgraph -b ./repo -p pipelines/bias.yaml#step1 -i 20190401/bias"
    result = proc_decam(f'{graph} --output-run u/me/try -d "detector=1" --save-qgraph graphs/one.qg --skip-failures')
    assert "cpBiasIsr" in result.stdout and (survey / "graphs" / "one.qg").is_file()
    empty = proc_decam(f'{graph} -d "detector=62"', 1)
    assert empty.stderr.startswith("error: ")
    assert "nonsense" in proc_decam(f'{graph} -d "nonsense=62"', 1).stderr
    assert "absent.yaml" in proc_decam(graph.replace("bias.yaml", "absent.yaml"), 1).stderr
    assert "has no step step9" in proc_decam(graph.replace("#step1", "#step9"), 1).stderr
    assert "collection none does not exist" in proc_decam(graph.replace("-i 20190401/bias", "-i none"), 1).stderr
    assert "does not exist" in proc_decam("retries ./repo 20190401/bias/bias/step1/20190402T010203Z", 1).stderr

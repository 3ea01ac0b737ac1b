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
    fakes.remove_column("BAND")
    fakes.write("worse.fits")
    assert "BAND" in proc_decam("fakes ./repo worse.fits", 1).stderr
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

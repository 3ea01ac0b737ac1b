"""Bad input at the terminal: one line that says what was found, what was expected and what to do; nothing half-written.

Real Butler repositories and real HTTP on loopback, with raw files of a few pixels.
"""

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from lsst.sphgeom import HtmPixelization

from proc_decam_dagster.archive import shards_for
from proc_decam_dagster.repository import open_repository
from proc_decam_dagster.survey.exposures import read_exposures, write_exposures
from tests.cli.conftest import TESTS

from .refusals import FIRST, NIGHT, NOBODY, STATE, TABLE, ZEROS, error_of, raw_of, refused, run
from .slow_task import PIPELINE

# ------------------------------------------------------------------ the list


@pytest.mark.parametrize("size", [0, 100, 2880 * 3 + 10])
def test_truncated_raw(survey, size):
    shutil.rmtree("repo")
    run(f"create ./repo --exposures {TABLE}")
    path = raw_of(FIRST)
    path.write_bytes(path.read_bytes()[:size])
    told = refused(f"ingest {TABLE} -b ./repo --select EXPNUM={FIRST}", path.name, but=("proc_decam/exposures.ecsv",))
    assert "proc-decam download" in told and "expected" in told
    assert not open_repository("repo").butler().collections.query("DECam/raw/*")
    told = refused(f"night ./repo {TABLE} --proc-types bias --where exposure={FIRST}", "did not succeed", but=("repo",))


def test_truncated_mask_shard_and_fakes(survey):
    for folder, name in (
        ("cp", "DECam_Master_20140209v2_cd_01.fits"), ("des", "D_n20150105t0115_c01_r2134p01_bpm.fits"),
    ):  # fmt: skip
        (survey / "bpm" / folder).mkdir(parents=True)
        (survey / "bpm" / folder / name).write_bytes(raw_of(FIRST).read_bytes()[:3000])
    refused("defects ./repo ./bpm --detectors 1", "_cd_01.fits", "expected", "delete it")
    Path("fakes.fits").write_bytes(Path("fakes.fits").read_bytes()[:3000])
    refused("fakes ./repo fakes.fits", "fakes.fits cannot be read", "expected a table that astropy reads")
    shard = shards_for(read_exposures(TABLE))[0]
    (survey / "shards" / "ps1_pv3_3pi_20170110").mkdir(parents=True)
    (survey / "shards" / "ps1_pv3_3pi_20170110" / f"{shard}.fits").write_bytes(b"SIMPLE  =" + b" " * 500)
    refused(f"refcats ./repo {TABLE} --shards ./shards", f"{shard}.fits cannot be read", "expected", "delete it")


def test_wrong_md5(survey, archive):
    row = next(r for r in archive.rows if r["EXPNUM"] == FIRST)
    raw_of(FIRST).unlink()
    good = archive.files[row["md5sum"]]
    archive.files[row["md5sum"]] = good[:-1] + b"?"
    line = f"download {TABLE} --download-dir ./data/images --archive-url {archive.url}"
    try:
        told = refused(
            line, "1 of 9 files are not on disk", "md5 mismatch", "expected", row["md5sum"], but=(*STATE, ".bad")
        )
        assert "run the download again" in told
    finally:
        archive.files[row["md5sum"]] = good
    assert not list(Path("data/images").glob(f"{row['md5sum']}*.fz"))
    assert run(line).exit_code == 0 and raw_of(FIRST).read_bytes() == good


def test_wrong_md5_on_disk_is_fetched_again(survey, archive):
    path = raw_of(FIRST)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    result = run(f"download {TABLE} --download-dir ./data/images --archive-url {archive.url} --check")
    assert result.exit_code == 0 and path.read_bytes() == good


def spoilt(column: str, values=None) -> None:
    table = read_exposures(TABLE)
    if values is None:
        table.remove_column(column)
    else:
        table[column] = [values] * len(table)
    write_exposures(table, Path("spoilt.ecsv"))


TAKE_A_TABLE = (
    "ingest spoilt.ecsv -b ./repo --image-dir ./data/images",
    "night ./repo spoilt.ecsv --image-dir ./data/images",
    "skymap ./repo spoilt.ecsv --name other",
    "refcats ./repo spoilt.ecsv",
    "create ./other --exposures spoilt.ecsv",
    "nights spoilt.ecsv",
)


@pytest.mark.parametrize("line", TAKE_A_TABLE)
def test_exposure_table_without_a_column_or_unreadable(survey, line):
    for column in ("EXPNUM", "night", "obs_type"):
        spoilt(column)
        refused(line, f"has no column {column}", "expected the columns", "proc-decam exposures")
    for column in ("EXPNUM", "night"):
        spoilt(column, "abc")
        refused(line, f"{column} is 'abc' in row 1", "expected", "proc-decam exposures")
    for content in (b"", bytes(range(256)), b"not a table\n"):
        Path("spoilt.ecsv").write_bytes(content)
        refused(line, "spoilt.ecsv cannot be read as ECSV", "expected a table", "proc-decam exposures")
    if not line.startswith("nights"):
        write_exposures(read_exposures(TABLE)[:0], Path("spoilt.ecsv"))
        refused(line)
    Path("spoilt.ecsv").unlink()
    refused(line, "spoilt.ecsv does not exist", "proc-decam exposures")


def test_downloads_table_without_a_column(survey):
    spoilt("md5sum")
    refused(f"download spoilt.ecsv --archive-url {NOBODY}", "has no column md5sum", "expected")


@pytest.mark.parametrize(
    "line",
    [
        f"night ./repo {TABLE} --nights 20300101",
        "night ./repo 20300101",
        "raw ./repo bias 20300101",
        "define-visits ./repo 20300101",
        "collection ./repo bias 20300101",
        "pipeline ./repo bias 20300101",
        "execute ./repo 20300101/bias",
        "coadd ./repo 20300101 --coadd-subset 2030 --template-type mean",
        f"ingest {TABLE} -b ./repo --select night=20300101",
    ],
)
def test_unknown_night(survey, line):
    told = refused(line)
    assert "20300101" in told or "no processed night" in told
    assert "proc-decam" in told or "correct" in told


NEED_AN_ENGINE = (
    f"skymap ./repo {TABLE} --name other", f"pipeline ./repo bias {NIGHT}", f"execute ./repo {NIGHT}/bias",
    "fakes ./repo fakes.fits",
)  # fmt: skip


def of_instrument(class_name: str) -> None:
    with sqlite3.connect("repo/gen3.sqlite3") as database:
        database.execute("update instrument set class_name=?", (class_name,))


def test_repository_of_an_unknown_engine(survey):
    of_instrument("lsst.obs.subaru.HyperSuprimeCam")
    for line in (
        *NEED_AN_ENGINE, f"ingest {TABLE} -b ./repo", f"raw ./repo bias {NIGHT}", f"night ./repo {TABLE}",
        "coadd ./repo 2019* --coadd-subset 2019 --template-type mean",
    ):  # fmt: skip
        refused(line, "made by an engine that is unknown here", "expected one of")


def test_repository_of_the_stack_without_the_stack(survey):
    """It can be read and listed; whatever makes something says what is missing."""
    of_instrument("lsst.obs.decam.DarkEnergyCamera")
    for line in NEED_AN_ENGINE:
        refused(line, "needs the LSST Science Pipelines, which are not set up", "loadLSST.sh")
    for line in ("status ./repo", "nights ./repo", "failures ./repo"):
        assert run(line).exit_code == 0


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("EXPNUM", None, ("has no column EXPNUM", "expected the columns", "add it")),
        ("BAND", "Q", ("band Q is unknown", "expected one of")),
        ("MAG", "faint", ("MAG is not a number", "expected")),
        ("EXPNUM", 1.5, ("EXPNUM is not whole", "expected")),
        ("DEC", 91.0, ("positions lie off the sky", "expected")),
    ],
)
def test_fakes_that_have_no_meaning(survey, column, value, words):
    fakes = Table.read("fakes.fits")
    if value is None:
        fakes.remove_column(column)
    else:
        fakes[column] = [value]
    fakes.write("worse.fits")
    refused("fakes ./repo worse.fits", "worse.fits", *words)


def test_shard_that_is_not_its_id(survey):
    here, other = shards_for(read_exposures(TABLE))[:2]
    center = HtmPixelization(7).triangle(here).getCentroid()
    ra, dec = (np.arctan2(center.y(), center.x()) % (2 * np.pi), np.arcsin(center.z()))
    shard = Table({"coord_ra": [ra], "coord_dec": [dec], "id": [1]})
    folder = survey / "shards" / "ps1_pv3_3pi_20170110"
    folder.mkdir(parents=True)
    shard.write(folder / f"{here}.fits")
    assert run(f"refcats ./repo {TABLE} --shards ./shards").exit_code == 0
    shard.write(folder / f"{other}.fits")
    refused(f"refcats ./repo {TABLE} --shards ./shards", f"{other}.fits holds sources of htm7 {here}", "expected")


# ------------------------------------------------------------------ everything else that is mistyped

SUBSET = "--coadd-subset 2019 --template-type mean"
WRONG = [
    ("raw ./data bias 20190401", "is no Butler repository", "proc-decam create"),
    ("raw ./none bias 20190401", "is no Butler repository", "proc-decam create"),
    (f"raw {TABLE} bias 20190401", "is no Butler repository", "expected a folder"),
    ("create ./repo", "is a Butler repository already", "expected"),
    (f"create {TABLE}", "is a file", "expected a folder"),
    ("create ./other --registry-db garbage", "cannot be made", "--registry-db"),
    ("create ./other --engine science-pipelines", "needs the LSST Science Pipelines", "expected release"),
    (f"ingest {TABLE} -b ./none", "is no Butler repository", "proc-decam create"),
    (f"ingest {TABLE} -b ./repo --image-dir ./none", "image folder none does not exist", "download"),
    (f"ingest {TABLE} -b ./repo --select moon=full", "cannot be applied", "expected COLUMN=VALUE"),
    ("raw ./repo dark 20190401", "proc type 'dark' is unknown", "expected one of"),
    ("night ./repo 20190401 --proc-types dark", "proc type 'dark' is unknown", "expected one of"),
    ("night ./repo 20190401 --proc-type diff_drp", "given no coadd_subset, template_type", "--coadd-subset"),
    (f"night ./repo 20190401 --proc-type diff_drp {SUBSET}", "needs the collection 2019/mean", "proc-decam coadd"),
    (f"night ./repo 20190401 --proc-type diff_drp {SUBSET.replace('mean', 'sum')}", "'sum' is unknown", "one of mean"),
    ("night ./repo 20190401 --proc-type flat", "no certified bias", "proc-decam night"),
    ("night ./repo 20190401 --proc-type drp", "no certified", "proc-decam night"),
    ("pipeline ./repo flat 20190401", "needs the collection 20190401/flat/raw", "proc-decam raw"),
    ("pipeline ./repo drp 20190401", "needs the collection 20190401/drp/raw", "proc-decam raw"),
    ("pipeline ./repo bias 20190401 --steps 9", "bias has no step9", "expected some of step1"),
    ("pipeline ./repo coadd 2019", "given no template_type", "--template-type"),
    (f"pipeline ./repo diff_drp 20190401 {SUBSET}", "needs the collection 2019/mean/coadd", "proc-decam coadd"),
    ("execute ./repo nonsense", "is not the name of a chain", "expected"),
    ("execute ./repo 20190401/bias --pipeline none.yaml", "none.yaml does not exist", "expected one of"),
    ("execute ./repo 20190401/bias --pipeline pipelines/bias.yaml#step9", "has no step step9", "expected one of"),
    ("execute ./repo 20190401/bias --pipeline ./fakes.fits#step1", "fakes.fits cannot be read", "expected a pipeline"),
    ("coadd ./repo 2019* --coadd-subset 2019", "given no template_type", "--template-type"),
    ("coadd ./repo 2019* --template-type mean", "given no coadd_subset", "--coadd-subset"),
    (f"coadd ./repo 2019* {SUBSET}", "holds no processed night", "proc-decam night"),
    ("associate ./repo mine -d raw --collections none", "collection none does not exist", "query-collections"),
    ("associate ./repo mine -d raw --collections DECam/raw/all --where detector=62", "no raw in", "expected"),
    ("decertify ./repo none bias", "collection none does not exist", "query-collections"),
    ("retries ./repo none", "RUN none does not exist", "expected"),
    ("qgraph -b ./repo -p pipelines/bias.yaml#step1 -i none", "collection none does not exist", "makes chains"),
    ("refcats ./repo ./data/exposures.ecsv --shards ./none", "holds no reference-catalogue shards", "expected"),
    ("fakes ./repo none.fits", "none.fits does not exist", "expected"),
    ("fakes ./repo fakes.fits --collection DECam/raw/all", "is a RUN", "another --collection"),
    ("defects ./repo ./none --detectors 99", "detectors [99] do not exist", "expected 1 to 62"),
    (f"skymap ./repo {TABLE} --name another", "registered under another name", "keep that name"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "found", "remedy"), WRONG, ids=[w[0][:60] for w in WRONG])
def test_what_is_mistyped(survey, line, found, remedy):
    refused(line, found, remedy)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("nonsense = 1", "is not understood: Unrecognized identifier"),
        ("detector = (", "is not understood"),
        ("detector = 'a'", "is not understood"),
        ("detector = 62", "nothing to run on"),  # not in the raws
        ("exposure = 1", "nothing to run on"),
    ],
)
def test_where_that_is_wrong_or_selects_nothing(survey, where, told):
    """The night's chain is there afterwards, as `collection` makes it; no RUN and no file is."""
    assert run(f"collection ./repo bias {NIGHT}").exit_code == 0
    for line in (f"pipeline ./repo bias {NIGHT}", f"execute ./repo {NIGHT}/bias --pipeline bias.yaml#step1"):
        line = refused(f'{line} --where "{where}"', told, "expected")
        assert where in line and "--where" in line


@pytest.mark.parametrize("jobs", ["many", "0", "-1", "1.5", "²"])
def test_J_that_is_no_number_of_cores(survey, jobs):
    for line in (f"pipeline ./repo bias {NIGHT}", f"night ./repo {NIGHT}", f"execute ./repo {NIGHT}/bias"):
        refused(line, f"J={jobs} in the environment", "expected 1 or more", code=2, J=jobs)


@pytest.mark.parametrize(
    "line",
    [
        f"night ./repo {TABLE} -J 0", f"night ./repo {TABLE} -J x", f"ingest {TABLE} -b ./repo -J 0",
        f"download {TABLE} -j 0", "night ./repo", "nonsense", "night ./repo 20190401 --nonsense",
        f"ingest {TABLE} -b ./repo --transfer teleport", "coadd ./repo 2019* --provider cloud"
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_too(survey, line):
    refused(line, "--help", code=2)


def test_files_that_are_missing(survey):
    raw_of(FIRST).unlink()
    shutil.rmtree("repo")
    run(f"create ./repo --exposures {TABLE}")
    result = run(f"ingest {TABLE} -b ./repo")
    told = error_of(result.stderr)
    assert result.exit_code == 1 and "1 raw files were not ingested" in told and "does not exist" in told
    assert "8 ingested" in result.stdout and "proc-decam download" in told


def test_archive_that_is_not_reachable_or_knows_nothing(survey, archive):
    refused(f"exposures ./other --archive-url {NOBODY}", "does not answer (", "Connection refused", "check the network")
    assert not Path("other").exists()
    raw_of(FIRST).unlink()
    line = f"download {TABLE} --download-dir ./data/images --archive-url {NOBODY}"
    told = refused(line, "1 of 9 files are not on disk", "Connection refused", but=STATE)
    assert "run the download again" in told
    told = refused(f"exposures ./other -p 2030A-0001 --archive-url {archive.url}", "2030A-0001", "expected", "check")
    assert not Path("other").exists()
    refused("exposures ./other --dates 20190401 soon", "caldat 'soon' is no date", "expected YYYY-MM-DD")
    refused(f"refcats ./repo {TABLE} --refcat-url {NOBODY}", "does not answer", "check the network")


@pytest.mark.parametrize("spoil", ["butler.yaml", "gen3.sqlite3"])
def test_repository_that_is_damaged(survey, spoil):
    (survey / "repo" / spoil).write_text("{{{" * 500)
    refused(f"raw ./repo bias {NIGHT}", "cannot be opened", "expected a readable butler.yaml", "proc-decam create")


def test_failed_create_leaves_what_was_there(survey):
    (survey / "mine").mkdir()
    (survey / "mine" / "notes.txt").write_text("mine")
    refused("create ./mine --registry-db sqlite:////nowhere/at/all.sqlite3", "cannot be made", "--registry-db")
    table = read_exposures(TABLE)
    write_exposures(table[np.asarray(table["obs_type"]) == "zero"], Path("zeros.ecsv"))
    refused("create ./mine --exposures zeros.ecsv", "no science exposures", "expected")


# ------------------------------------------------------------------ Ctrl-C


def start(line: str, **environment: str) -> subprocess.Popen:
    path = os.pathsep.join([str(TESTS.parent), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-m", "proc_decam_dagster.cli.main", *shlex.split(line)],
        env=os.environ | {"PYTHONPATH": path, "J": "1"} | environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_download_leaves_nothing_half_there(survey, archive, number, code):
    """The server has sent a part of the body and is silent: the command ends at once all the same."""
    first = next(r for r in archive.rows if r["EXPNUM"] == FIRST)["md5sum"]
    shutil.rmtree("data/images")
    answer, silent = archive.retrieve, []

    def stall(handler, md5):
        if md5 != first:
            return answer(handler, md5)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(archive.files[md5])))
        handler.end_headers()
        handler.wfile.write(archive.files[md5][:3000])
        handler.wfile.flush()
        silent.append(handler)
        handler.rfile.read(1)  # until the client hangs up

    archive.retrieve = stall
    line = f"download {TABLE} --download-dir ./data/images --archive-url {archive.url}"
    try:
        process = start(line)
        until = time.monotonic() + 20
        while (not silent or len(list(Path("data/images").glob("*.fz"))) < 8) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(number)
        begun = time.monotonic()
        _, stderr = process.communicate(timeout=30)
    finally:
        archive.retrieve = answer
    assert time.monotonic() - begun < 15  # the archive would be silent for longer
    assert process.returncode == code and "interrupted" in error_of(stderr)
    assert not list(Path("data/images").glob("*.part")) and len(list(Path("data/images").glob("*.f*"))) == 8
    again = run(line)
    assert again.exit_code == 0 and "1 files fetched" in again.stdout, again.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_step_keeps_what_finished(survey, number, code):
    Path("slow.yaml").write_text(PIPELINE)
    line = f"execute ./repo {NIGHT}/bias --pipeline ./slow.yaml#step1"
    process = start(line)
    told = next(iter(process.stderr))
    assert "1/10" in told, told + process.stderr.read()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code and "interrupted" in error_of(stderr)
    done = slow_datasets()
    assert 1 <= len(done) < 10
    files = [p for p in Path("repo", NIGHT, "bias").rglob("*") if p.is_file() and p.parent.name.isdigit()]
    assert not [p for p in files if p.name.startswith("slow_") and not p.name.startswith(("slow_log", "slow_metadata"))
                and str(p.resolve()) not in done]  # fmt: skip
    again = start(line)
    stdout, stderr = again.communicate(timeout=60)
    assert again.returncode == 0, stderr
    assert len(slow_datasets()) == 2 * ZEROS


def slow_datasets() -> set[str]:
    butler = open_repository("repo").butler()
    refs = butler.query_datasets("slow", f"{NIGHT}/bias", limit=None, explain=False)
    return {butler.getURI(ref).ospath for ref in refs}

"""A server that breaks a seeded third of the requests, and a process that is killed: nothing wrong, nothing twice."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from astropy.table import Table

from proc_decam_dagster.archive import Archive, Ledger, Outcome, download, ledger_file_of, state_file_of
from proc_decam_dagster.archive.state import read_state
from proc_decam_dagster.simulation.holdings import FAULTS, SeededFaults
from proc_decam_dagster.simulation.server import ArchiveServer
from proc_decam_dagster.simulation.survey import FILES

MEANING = {
    "reset": Outcome.BROKE_OFF, "truncate": Outcome.BROKE_OFF, "stall": Outcome.BROKE_OFF,
    "longer": Outcome.BROKE_OFF, "corrupt": Outcome.MD5_MISMATCH, "shorter": Outcome.MD5_MISMATCH,
    "500": Outcome.UNAVAILABLE, "503": Outcome.UNAVAILABLE, "403": Outcome.AUTH_FAILED, "404": Outcome.NOT_FOUND,
    "proprietary": Outcome.PROPRIETARY,
}  # fmt: skip
"""What a file is that meets nothing but this fault."""
HOW = {"retries": 2, "backoff": 0.01, "timeout": (5, 0.5)}
CHILD = """
import json, sys
from astropy.table import Table
from proc_decam_dagster.archive import Archive, download, state_file_of
url, table, images, how = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
archive, rows = Archive(url, "", "", **(how | {"timeout": tuple(how["timeout"])})), Table.read(table)
print("begins", flush=True)
download(archive, rows, images, jobs=4, state_file=state_file_of(table))
"""


class Survey:
    """Files on a server that breaks, and a folder to fetch them into."""

    def __init__(self, root: Path, number: int, seed: int) -> None:
        self.chance = random.Random(seed)
        (root / "archive").mkdir(parents=True)
        rows = []
        for i in range(number):
            # Some above the size from which bytes are read straight from the socket, some below.
            body = self.chance.randbytes(self.chance.choice((3_000, 200_000, 1_400_000)))
            name = f"c4d_190402_{i:06d}_ori.fits.fz"
            (root / "archive" / name).write_bytes(body)
            rows.append(
                (hashlib.md5(body).hexdigest(), f"/net/archive/{name}", "2019-04-01", "raw", "object", 1000 + i)
            )
        names = ("md5sum", "archive_filename", "caldat", "proc_type", "obs_type", "EXPNUM")
        self.table = Table(rows=rows, names=names)
        self.table.write(root / FILES, overwrite=True)
        self.exposures, self.images = root / "data" / "exposures.ecsv", root / "data" / "images"
        self.exposures.parent.mkdir()
        self.table.write(self.exposures)
        self.always = dict(zip(self.table["md5sum"].tolist(), FAULTS))
        self.server = ArchiveServer(root)
        self.faults = self.server.faults.seeded = SeededFaults(seed, always=self.always)

    def fetch(self):
        """Download once in this process; check what can be said after any run."""
        archive = Archive(self.server.url, "", "", **HOW)
        report = download(archive, self.table, self.images, jobs=4, state_file=state_file_of(self.exposures))
        self.check()
        for result in report.results:
            if result.outcome is not Outcome.VERIFIED and result.outcome is not Outcome.NOT_TRIED:
                reasons = {MEANING[kind] for kind in self.faults.given[result.md5sum] if kind != "ok"}
                assert result.outcome in reasons, (result, self.faults.given[result.md5sum])
        return report

    def check(self) -> None:
        """Whatever has a final name has its content, is in the ledger at most once, and none is in it wrongly."""
        for path in self.images.glob("*.fz"):
            assert hashlib.md5(path.read_bytes()).hexdigest() == path.name.partition("_")[0]
        if not ledger_file_of(self.exposures).is_file():
            return
        with Ledger(ledger_file_of(self.exposures)) as ledger:
            entries = ledger.entries()
        assert set(entries) <= set(self.table["md5sum"].tolist())
        for entry in entries.values():
            if entry.verified:
                assert os.stat(entry.path).st_size == entry.bytes

    def finish(self):
        """Download until nothing but the files that are always broken is missing."""
        for _ in range(20):
            report = self.fetch()
            missing = {r.md5sum for r in report.results if r.outcome is not Outcome.VERIFIED}
            if missing == set(self.always):
                return report
        raise AssertionError(f"still missing: {missing - set(self.always)}")

    def check_end(self, report) -> None:
        """Every file is verified, or listed with its true reason; none was fetched again after it came."""
        for result in report.results:
            kind = self.always.get(result.md5sum)
            assert result.outcome is (MEANING[kind] if kind else Outcome.VERIFIED)
            assert kind != "proprietary" or (result.until == "2096-08-12" and "2096-08-12" in result.detail)
        with Ledger(ledger_file_of(self.exposures)) as ledger:
            entries = ledger.entries()
        assert {m: e.outcome for m, e in entries.items()} == {r.md5sum: str(r.outcome) for r in report.results}
        assert all(entries[md5].last_error for md5 in self.always)
        state = read_state(state_file_of(self.exposures))
        assert set(state["md5sum"][~state["valid_on_disk"]].tolist()) == set(self.always)
        assert len(state) == len(set(state["md5sum"])) == len(self.table)
        assert not list(self.images.glob("*.part"))
        kept = {re.sub("_.*", "", p.name) for p in self.images.glob("*.bad")}
        assert kept == {m for m, kind in self.always.items() if MEANING[kind] is Outcome.MD5_MISMATCH}


def run(tmp_path: Path, number: int, seed: int, kills: int) -> dict:
    """Download under faults, with some processes killed on the way; return what happened."""
    survey = Survey(tmp_path, number, seed)
    in_flight = 0
    with survey.server:
        for _ in range(kills):
            arguments = [survey.server.url, str(survey.exposures), str(survey.images), json.dumps(HOW)]
            child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)
            assert child.stdout.readline() == "begins\n"
            time.sleep(survey.chance.uniform(0.02, 0.8))
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
            in_flight += len(list(survey.images.glob("*.part")))
            survey.check()
        report = survey.finish()
        survey.check_end(report)
        again = survey.fetch()
        assert again.fetched == 0
        counts = {kind: sum(g.count(kind) for g in survey.faults.given.values()) for kind in (*FAULTS, "ok")}
        # A file comes whole once; again only if it was in flight, or just not yet known, when a process was killed.
        twice = sum(max(g.count("ok") - 1, 0) for g in survey.faults.given.values())
        assert twice <= 4 * kills
        counts |= {"requests": sum(map(len, survey.faults.given.values())), "in flight": in_flight, "twice": twice}
    print(json.dumps({"files": number, "seed": seed, "kills": kills} | counts))
    return counts


def test_a_server_that_breaks_a_third_of_the_requests(tmp_path):
    counts = run(tmp_path, 45, seed=3, kills=0)
    assert counts["twice"] == 0 and all(counts[kind] for kind in FAULTS)


def test_a_process_that_is_killed_three_times(tmp_path):
    run(tmp_path, 60, seed=4, kills=3)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(10, 15))
def test_more_files_and_seeds(tmp_path, seed):
    counts = run(tmp_path, 200, seed=seed, kills=0)
    assert counts["twice"] == 0 and all(counts[kind] for kind in FAULTS)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20, 23))
def test_a_process_that_is_killed_twenty_times(tmp_path, seed):
    run(tmp_path, 300, seed=seed, kills=20)

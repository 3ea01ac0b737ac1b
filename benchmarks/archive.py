"""The archive benchmark: downloads against curl and against the reference's way, the ledger, a real table's query.

The server is a process of its own on loopback and serves from memory, so that what is measured is the client and the
disk. Each way of downloading ends in `sync`; they take turns, and the median is told.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES, GIGABYTES, CONNECTIONS, REPEATS = 400, 8.0, 8, 3
LEDGER_ROWS = 20_000
TABLE = HERE.parents[1] / "shared" / "data" / "archive" / "exposures_object_raw.ecsv"
REFERENCE = """
import hashlib, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import requests
def fetch(job):
    url, path, md5 = job
    with requests.get(url, stream=True) as response, open(path, "wb") as out:
        for chunk in response.iter_content(1024 * 1024):
            out.write(chunk)
    def verify():
        with open(path, "rb") as file:
            return hashlib.md5(file.read()).hexdigest() == md5
    return verify() and verify()
if __name__ == "__main__":
    jobs = [line.split() for line in open(sys.argv[1])]
    renewed = {"max_tasks_per_child": 1} if sys.argv[3] == "each" else {}
    with ProcessPoolExecutor(int(sys.argv[2]), multiprocessing.get_context("spawn"), **renewed) as pool:
        assert all(pool.map(fetch, jobs))
"""
"""The reference's way: each file fetched by a process, and read whole for its md5, twice. Its source keeps the
processes of a pool (``pool``); a process a file (``each``) is what the target was set against."""

FLOOR = """
import hashlib, os, queue, socket, sys, threading
from proc_decam_dagster.archive.big_file import BigFile, aligned_buffer
port, images, connections, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
todo = queue.SimpleQueue()
for md5 in sys.stdin.read().split():
    todo.put(md5)
def fetch():
    connection, block = socket.create_connection(("127.0.0.1", port)), aligned_buffer(1 << 20)
    while not todo.empty():
        try:
            md5 = todo.get_nowait()
        except queue.Empty:
            return
        connection.sendall(f"GET /api/retrieve/{md5}/ HTTP/1.1\\r\\n\\r\\n".encode())
        head, left, digest = b"", size, hashlib.md5(usedforsecurity=False)
        while not head.endswith(b"\\r\\n\\r\\n"):
            head += connection.recv(1)
        with BigFile(f"{images}/{md5}") as out:
            while left:
                count = connection.recv_into(block[:left], 0, socket.MSG_WAITALL)
                digest.update(block[:count])
                out.write(block[:count])
                left -= count
            out.sync()
        assert digest.hexdigest() == md5
threads = [threading.Thread(target=fetch) for _ in range(connections)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
"""The least that a client can do which verifies: receive, hash, write; no HTTP library, no ledger, no progress."""


def figure(
    name: str, value: float, unit: str, target: float | None = None, met: bool | None = None, peer: str | None = None,
    peer_value: float | None = None, ratio: float | None = None,
) -> dict:  # fmt: skip
    """Return one of `benchmarks.Figure`, as its arguments."""
    return {"figure": name, "value": value, "unit": unit, "target": target, "met": met, "peer": peer,
            "peer_value": peer_value, "ratio": ratio}  # fmt: skip


class Contents:
    """Files of one length that share all but their last bytes: any number of them is held as one.

    Parameters
    ----------
    number, size : `int`
        How many, and bytes of each.
    """

    SUFFIX = 32

    def __init__(self, number: int, size: int) -> None:
        self.size = size
        block, left = os.urandom(min(size, 16 << 20)), size - self.SUFFIX
        self.memory = os.memfd_create("contents")
        digest = hashlib.md5()
        while left > 0:
            piece = block[:left]
            os.write(self.memory, piece)
            digest.update(piece)
            left -= len(piece)
        self.suffixes: dict[str, bytes] = {}
        for i in range(number):
            suffix = f"{i:0{self.SUFFIX}d}".encode()
            full = digest.copy()
            full.update(suffix)
            self.suffixes[full.hexdigest()] = suffix

    def send(self, connection: socket.socket, md5: str) -> None:
        """Write a file to a socket without a copy in this process."""
        offset, body = 0, self.size - self.SUFFIX
        while offset < body:
            offset += os.sendfile(connection.fileno(), self.memory, offset, body - offset)
        connection.sendall(self.suffixes[md5])


def serve(number: int, size: int) -> None:
    """Serve files as the archive does until killed; prints its port and the md5s first."""
    contents = Contents(number, size)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            reader = connection.makefile("rb")
            while line := reader.readline():
                while reader.readline().strip():
                    pass
                md5 = line.split()[1].decode().strip("/").rpartition("/")[2]
                found = md5 in contents.suffixes
                head = "200 OK" if found else "404 Not Found"
                length = contents.size if found else 0
                connection.sendall(f"HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n".encode())
                if found:
                    contents.send(connection, md5)

    print(json.dumps({"port": listener.getsockname()[1], "md5s": list(contents.suffixes)}), flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


@contextlib.contextmanager
def served(number: int, size: int) -> Iterator[tuple[str, list[str]]]:
    """Run `serve` in a process; the address of its API, and the files' md5s."""
    command = [sys.executable, __file__, "serve", str(number), str(size)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        yield f"http://127.0.0.1:{told['port']}/api", told["md5s"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()


class Race:
    """The same files, fetched in several ways into a folder that is emptied each time."""

    def __init__(self, folder: Path, url: str, md5s: list[str]) -> None:
        self.folder, self.url, self.md5s = folder, url, md5s
        self.images, self.peak_mb, self.processor = folder / "images", 0.0, 0.0

    def _run(self, command: list[str], words: Path | None = None) -> float:
        """Return the seconds of a command and the `sync` after it; keeps the memory that it had at most.

        ``words`` is a file that it reads on its standard input.
        """
        os.sync()
        start = time.monotonic()
        with open(words or os.devnull) as given:
            process = subprocess.Popen(
                command, stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        subprocess.run(["sync"], check=True)
        seconds = time.monotonic() - start
        if process.returncode:
            raise SystemExit(f"error: {' '.join(command)[:200]} failed: {errors[-2000:]}")
        self.peak_mb, self.processor = usage.ru_maxrss / 1e3, usage.ru_utime + usage.ru_stime
        there = sum(p.stat().st_size for p in self.images.iterdir() if not p.name.startswith("."))
        print(f"archive: {command[0].rpartition('/')[2]} {seconds:.2f} s, {there / seconds / 1e6:.0f} MB/s, "
              f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)  # fmt: skip
        return seconds

    def _empty(self) -> None:
        shutil.rmtree(self.images, ignore_errors=True)
        self.images.mkdir(parents=True)

    def curl(self) -> float:
        """Fetch with curl, which verifies nothing."""
        self._empty()
        config = self.folder / "curl.txt"
        lines = (f'url = "{self.url}/retrieve/{m}/"\noutput = "{self.images}/{m}"\n' for m in self.md5s)
        config.write_text("".join(lines))
        options = ["--silent", "--show-error", "--fail", "--parallel", "--parallel-immediate"]
        return self._run(["curl", *options, "--parallel-max", str(CONNECTIONS), "--config", str(config)])

    def ours(self) -> float:
        """Fetch with the command as a user types it: its start, its ledger and its verification are counted."""
        from astropy.table import Table

        self._empty()
        for path in self.folder.glob("*exposures*"):
            path.unlink()
        names = [f"c4d_{i:06d}_ori.fits.fz" for i in range(len(self.md5s))]
        table = self.folder / "exposures.ecsv"
        Table({"md5sum": self.md5s, "archive_filename": names}).write(table)
        command = [str(Path(sys.executable).with_name("proc-decam")), "download", str(table)]
        options = ["--download-dir", str(self.images), "-j", str(CONNECTIONS), "--archive-url", self.url]
        return self._run([*command, *options])

    def reference(self, processes: str) -> float:
        """Fetch as proc-decam does, with the processes of a ``pool`` or with one for ``each`` file."""
        self._empty()
        jobs, script = self.folder / "jobs.txt", self.folder / "reference.py"
        jobs.write_text("".join(f"{self.url}/retrieve/{m}/ {self.images}/{m} {m}\n" for m in self.md5s))
        script.write_text(REFERENCE)
        return self._run([sys.executable, str(script), str(jobs), str(CONNECTIONS), processes])

    def floor(self, size: int) -> float:
        """Fetch with as little as can be."""
        self._empty()
        words, port = self.folder / "md5s.txt", self.url.rpartition(":")[2].partition("/")[0]
        words.write_text("\n".join(self.md5s))
        return self._run([sys.executable, "-c", FLOOR, port, str(self.images), str(CONNECTIONS), str(size)], words)

    def disk(self, size: int) -> float:
        """Write as many bytes from memory and do nothing else: what the disk lets anybody have."""
        self._empty()
        code = (
            "import os, sys; block = os.urandom(1 << 20); folder, number, size = sys.argv[1], *map(int, sys.argv[2:])\n"
            "for i in range(number):\n"
            "    with open(f'{folder}/{i}', 'wb', buffering=0) as file:\n"
            "        for start in range(0, size, 1 << 20): file.write(block[: min(1 << 20, size - start)])\n"
        )
        return self._run([sys.executable, "-c", code, str(self.images), str(len(self.md5s)), str(size)])


def bench_archive(folder: Path) -> Iterator:
    """Downloads, the ledger, and the query of a real table."""
    yield from download_figures(folder / "download")
    yield from memory_figures(folder / "memory")
    yield from ledger_figures(folder / "ledger")
    yield from table_figures(folder / "table")


def download_figures(folder: Path) -> Iterator:
    """Throughput against curl and against the reference's way."""

    folder.mkdir(parents=True)
    wanted = float(os.environ.get("PROC_DECAM_BENCH_GB") or GIGABYTES)
    total = min(wanted, shutil.disk_usage(folder).free / 3e9)
    size = int(total * 1e9 / FILES)
    with served(FILES, size) as (url, md5s):
        race = Race(folder, url, md5s)
        ways = {
            "curl": race.curl,
            "ours": race.ours,
            "each": lambda: race.reference("each"),
            "pool": lambda: race.reference("pool"),
            "floor": lambda: race.floor(size),
            "disk": lambda: race.disk(size),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        processor: dict[str, list[float]] = {name: [] for name in ways}
        peak = 0.0
        for _ in range(REPEATS):
            for name, way in ways.items():
                seconds[name].append(way())
                processor[name].append(race.processor / total)
                peak = max(peak, race.peak_mb) if name == "ours" else peak
        race._empty()
    rate = {name: size * FILES / statistics.median(s) / 1e6 for name, s in seconds.items()}
    what = f"download and verify {FILES} files, {size * FILES / 1e9:.1f} GB"
    ours = round(rate["ours"], 1)
    for peer, label, target in (
        ("curl", f"curl --parallel-max {CONNECTIONS}, no md5", 0.9),
        ("each", "the reference's way: a process a file, md5 of the whole file twice", 3.0),
        ("pool", "the same in a pool of processes", None),
        ("floor", "the floor: receive, md5, write, and nothing else", None),
        ("disk", "writing the same bytes from memory: the limit", None),
    ):
        ratio, peer_rate = rate["ours"] / rate[peer], round(rate[peer], 1)
        bound, met = (round(target * rate[peer], 1), ratio >= target) if target else (None, None)
        yield figure(what, ours, "MB/s", bound, met, label, peer_rate, round(ratio, 3))
    # What a busy machine does not change: the work itself.
    work = {name: statistics.median(s) for name, s in processor.items()}
    for peer, label in (
        ("curl", "curl, no md5"), ("each", "a process a file"), ("pool", "a pool of processes"),
        ("floor", "receive, md5, write, and nothing else"),
    ):  # fmt: skip
        ratio = work["ours"] / work[peer]
        yield figure(
            "processor seconds a GB",
            round(work["ours"], 2),
            "s",
            None,
            None,
            label,
            round(work[peer], 2),
            round(ratio, 3),
        )
    yield figure("processor seconds a GB, md5 alone", round(_md5_seconds(), 2), "s")
    yield figure(f"memory, {FILES} files of {size / 1e6:.0f} MB", round(peak, 1), "MB", 200, peak < 200)


def _md5_seconds() -> float:
    """Return the processor seconds that the md5 of a GB takes: nobody who verifies needs less."""
    block, digest, start = os.urandom(1 << 18), hashlib.md5(usedforsecurity=False), time.process_time()
    for _ in range(2000):
        digest.update(block)
    return (time.process_time() - start) / (2000 * len(block)) * 1e9


def memory_figures(folder: Path) -> Iterator:
    """Memory of our process when files are big."""

    folder.mkdir(parents=True)
    size = int(min(1e9, shutil.disk_usage(folder).free / 20))
    with served(CONNECTIONS, size) as (url, md5s):
        race = Race(folder, url, md5s[: max(CONNECTIONS // 4, 1)])
        race.ours()
        race._empty()
    peak = race.peak_mb
    yield figure(f"memory, files of {size / 1e9:.1f} GB", round(peak, 1), "MB", 200, peak < 200)


def ledger_figures(folder: Path) -> Iterator:
    """Each operation on a ledger of many rows."""
    from proc_decam_dagster.archive.ledger import Ledger
    from proc_decam_dagster.archive.outcomes import FileResult, Outcome

    folder.mkdir(parents=True)
    md5s = [hashlib.md5(b"%d" % i).hexdigest() for i in range(LEDGER_ROWS)]
    results = [
        FileResult(folder / f"{m}_{i}.fits.fz", m, Outcome.VERIFIED, fetched=True, bytes=i + 1, attempts=1)
        for i, m in enumerate(md5s)
    ]

    def one_by_one(ledger: Ledger) -> None:
        for result in results:
            ledger.record([result])

    def imported(_: Ledger) -> None:
        Ledger(folder / "other.ledger.sqlite", ledger.state_file).close()
        (folder / "other.ledger.sqlite").unlink()

    with Ledger(folder / "exposures.ledger.sqlite") as ledger:
        for name, operation in (
            ("enter", lambda led: led.want((m, f"{m}.fz", folder / m, "object") for m in md5s)),
            ("write outcomes", lambda led: led.record(results)),
            ("read", lambda led: led.entries()),
            ("write downloaded_exposures.ecsv", lambda led: led.export_state()),
            ("take over downloaded_exposures.ecsv", imported),
        ):
            seconds = _median_seconds(lambda f=operation: f(ledger))
            yield figure(f"ledger, {LEDGER_ROWS} rows: {name}", round(seconds, 3), "s", 1.0, seconds < 1)
        start = time.perf_counter()
        one_by_one(ledger)
        each = (time.perf_counter() - start) / LEDGER_ROWS * 1e3
        yield figure("ledger: one outcome in a transaction of its own", round(each, 3), "ms")


def _median_seconds(function) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table_figures(folder: Path) -> Iterator:
    """The real table of 8,915 exposures: asked for, and merged into the table that is there."""
    from proc_decam_dagster.archive import Archive, update_exposures

    if not TABLE.is_file():
        return
    folder.mkdir(parents=True)
    code = (
        "import sys; from proc_decam_dagster.simulation.server import serve_table; s = serve_table(sys.argv[1]);"
        "s.holdings.rows(); print(s.url, flush=True); s.serve_forever()"
    )
    server = subprocess.Popen([sys.executable, "-c", code, str(TABLE)], stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        seconds = []
        for _ in range(REPEATS + 1):  # the first one writes the table, each later one merges into it
            start = time.perf_counter()
            update = update_exposures(Archive(url, "", ""), folder, ["2019A-0337"])
            seconds.append(time.perf_counter() - start)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    value, number = statistics.median(seconds[1:]), len(update.table)
    yield figure(f"query {number} rows and merge", round(value, 2), "s", 5.0, value < 5)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))

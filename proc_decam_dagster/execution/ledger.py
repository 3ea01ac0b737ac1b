"""The ledger: every attempt of every quantum, in the registry's Postgres where there is one, else in SQLite."""

import fcntl
import json
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from lsst.daf.butler.registry.connectionString import ConnectionStringFactory
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from proc_decam_dagster.execution.attempts import (
    FAILED,
    LOST,
    SUCCEEDED,
    Attempt,
    FailedQuantum,
    QuantumName,
    still_failed,
)
from proc_decam_dagster.execution.journal import Journal, Left, journals, living, read_journal
from proc_decam_dagster.execution.patience import PATIENCE_SECONDS, patiently
from proc_decam_dagster.repository.configuration import registry_configuration

log = logging.getLogger(__name__)

FILE_NAME = "ledger.sqlite"
JOURNALS = "attempts"
"""Folder of the journals, beside the other records of a repository."""
_COLUMNS = tuple(Attempt.__dataclass_fields__)
_BATCH = 500


def _tables(schema: str | None) -> tuple[sa.Table, sa.Table]:
    """Return the tables of attempts and of finished steps; their names tell them from the registry's own."""
    metadata = sa.MetaData(schema=schema)
    text, number = sa.Text, sa.Double
    attempt = sa.Table(
        "proc_decam_attempt", metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key", text, nullable=False, unique=True),
        *(sa.Column(n, text, nullable=False) for n in ("chain", "run", "step", "task", "data_id", "backend", "host")),
        *(
            sa.Column(n, number, nullable=False)
            for n in ("started", "seconds", "cpu_seconds", "peak_memory_mb", "memory_requested_mb")
        ),
        *(sa.Column(n, text, nullable=False) for n in ("outcome", "exception", "message")),
        sa.Column("transient", sa.Boolean, nullable=False),
        sa.Index("proc_decam_attempt_of_quantum", "chain", "task", "data_id"),
        sa.Index("proc_decam_attempt_by_outcome", "chain", "outcome"),
    )  # fmt: skip
    step = sa.Table(
        "proc_decam_step", metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        *(sa.Column(n, text, nullable=False) for n in ("chain", "step", "run")),
        *(sa.Column(n, number, nullable=False) for n in ("ended", "seconds")),
        sa.Column("standing", text, nullable=False),
        sa.Index("proc_decam_step_of_chain", "chain"),
    )  # fmt: skip
    return attempt, step


class Ledger:
    """The attempts of a repository; threads, processes and machines may share it.

    Parameters
    ----------
    url : `str`, `~pathlib.Path` or `sqlalchemy.URL`
        The database; a path means an SQLite file, which is made with the first record.
    folder : `~pathlib.Path`
        Folder of the journals.
    schema : `str`, optional
        Schema of the tables (Postgres).
    """

    def __init__(self, url: str | Path | sa.URL, folder: Path, schema: str | None = None) -> None:
        self.file = url if isinstance(url, Path) else None
        options = {"connect_args": {"timeout": 60}} if self.file else {}
        self._engine = sa.create_engine(
            f"sqlite:///{url}" if self.file else url, poolclass=sa.NullPool, **options
        )  # fmt: skip
        self.folder = folder
        self._attempt, self._step = _tables(schema)
        self._made = False

    @classmethod
    def of(cls, repository: Any) -> "Ledger":
        """Return a repository's ledger.

        It stands in the registry's own schema, so that whoever may write, read or back up the registry may do so here.
        """
        state = Path(repository.state_dir)
        config = registry_configuration(repository.root)
        if config["db"].startswith("postgresql"):
            return cls(ConnectionStringFactory.fromConfig(config), state / JOURNALS, config.get("namespace"))
        return cls(state / FILE_NAME, state / JOURNALS)

    @property
    def place(self) -> str:
        """Where the ledger is, for messages; no password."""
        return str(self.file) if self.file else self._engine.url.render_as_string(hide_password=True)

    def record(self, attempts: Iterable[Attempt], *, seconds: float = PATIENCE_SECONDS) -> None:
        """Write attempts, all or none; one whose key the ledger has already is left as it stands.

        Parameters
        ----------
        attempts : `~collections.abc.Iterable` [`Attempt`]
            In any order: time is told by `Attempt.started`.
        seconds : `float`, optional
            How long to wait for a database that is away.
        """
        host = socket.gethostname()
        rows = [vars(replace(a, key=a.key or uuid4().hex, host=a.host or host)) for a in attempts]
        if rows:
            patiently(lambda: self._insert(rows), seconds=seconds)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        self._make()
        dialect = sa.dialects.postgresql if self._engine.dialect.name == "postgresql" else sa.dialects.sqlite
        insert = dialect.insert(self._attempt).on_conflict_do_nothing(index_elements=["key"])
        with self._engine.begin() as connection:
            for start in range(0, len(rows), _BATCH):
                connection.execute(insert, rows[start : start + _BATCH])

    def record_step(self, chain: str, step: str, run: str, ended: float, seconds: float, standing: dict) -> None:
        """Write how a step stood when it ended; see `execution.status` for what ``standing`` holds."""

        def insert() -> None:
            self._make()
            values = {"chain": chain, "step": step, "run": run, "ended": ended, "seconds": seconds}
            with self._engine.begin() as connection:
                connection.execute(self._step.insert(), values | {"standing": json.dumps(standing)})

        patiently(insert)

    def steps(self) -> list[dict[str, Any]]:
        """Return how the steps of all chains stood each time that one ended, the oldest first."""
        query = sa.select(self._step).order_by(self._step.c.ended, self._step.c.id)
        return [dict(row) | {"standing": json.loads(row["standing"])} for row in self._read(query)]

    def attempts(self, chain: str, task: str | None = None) -> list[Attempt]:
        """Return a chain's attempts, oldest first."""
        query = sa.select(self._attempt).where(self._attempt.c.chain == chain)
        if task is not None:
            query = query.where(self._attempt.c.task == task)
        return self._attempts(query)

    def failed(self, chain: str, tasks: Iterable[str]) -> dict[QuantumName, FailedQuantum]:
        """Return the quanta of a chain's tasks whose newest attempt failed; only failures since a success count."""
        return {f.name: f for f in self.failures([chain], tasks)}

    def failures(self, chains: Iterable[str] | None = None, tasks: Iterable[str] | None = None) -> list[FailedQuantum]:
        """Return the quanta whose newest attempt failed or was lost.

        Parameters
        ----------
        chains, tasks : `~collections.abc.Iterable` [`str`], optional
            Only of these.
        """
        table, bad = self._attempt, self._attempt.alias()
        wanted = [bad.c.outcome.in_([FAILED, LOST])]
        wanted += [] if chains is None else [bad.c.chain.in_(list(chains))]
        wanted += [] if tasks is None else [bad.c.task.in_(list(tasks))]
        names = sa.select(bad.c.chain, bad.c.task, bad.c.data_id).where(*wanted).distinct().subquery()
        same = [table.c[n] == names.c[n] for n in ("chain", "task", "data_id")]
        return still_failed(self._attempts(sa.select(table).join(names, sa.and_(*same))))

    def cpu_seconds(self) -> dict[str, float]:
        """Return the processor time of each chain's attempts that succeeded."""
        total = sa.func.sum(self._attempt.c.cpu_seconds).label("total")
        query = sa.select(self._attempt.c.chain, total).where(self._attempt.c.outcome == SUCCEEDED)
        return {row["chain"]: row["total"] for row in self._read(query.group_by(self._attempt.c.chain))}

    def runs(self, chain: str | None = None) -> set[str]:
        """Return the RUNs (of a chain) of which the ledger has any attempt."""
        query = sa.select(self._attempt.c.run).distinct()
        if chain is not None:
            query = query.where(self._attempt.c.chain == chain)
        return {row["run"] for row in self._read(query)}

    def left(self) -> list[Left]:
        """Return the journals that the ledger has not taken in, of drivers alive or dead."""
        found = []
        for path in journals(self.folder):
            with suppress(FileNotFoundError):
                found.append(read_journal(path))
        return found

    def journal(self, *, chain: str, run: str, step: str, backend: str) -> Journal:
        """Open the journal of a graph's run."""
        return Journal(self.folder, chain=chain, run=run, step=step, backend=backend)

    def running(self) -> list[Left]:
        """Return the journals of the drivers that are at work."""
        return living(self.folder)

    def take_in(self) -> list[Attempt]:
        """Take in what drivers that died left in their journals; return these attempts, the unfinished ones lost."""
        found: list[Attempt] = []
        for path in journals(self.folder):
            with suppress(FileNotFoundError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # its driver lives, or another command is taking it in
                    continue
                attempts = read_journal(path).attempts
                self.record(attempts)
                path.unlink()
                found += attempts
        if lost := sum(a.outcome == LOST for a in found):
            log.warning("%d quanta were lost with their driver; they count as tried", lost)
        return found

    def _attempts(self, query: sa.Select) -> list[Attempt]:
        order = sorted(self._read(query), key=lambda row: (row["started"], row["id"]))
        return [Attempt(**{c: row[c] for c in _COLUMNS}) for row in order]

    def _read(self, query: sa.Select) -> list[Any]:
        """Return the rows of a query; a ledger that is not there yet has none."""
        if self.file and not self.file.exists():
            return []

        def read() -> list[Any]:
            if not self._exists():
                return []
            with self._engine.connect() as connection:
                return list(connection.execute(query).mappings())

        return patiently(read)

    def _exists(self) -> bool:
        if not self._made:
            self._made = sa.inspect(self._engine).has_table(self._step.name, schema=self._step.schema)
        return self._made

    def _make(self) -> None:
        """Make the tables where they are not there; several may do so at once."""
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        if self._exists():
            return
        try:
            self._attempt.metadata.create_all(self._engine)
        except (IntegrityError, ProgrammingError, OperationalError):
            if not self._exists():  # not another's doing
                raise
        self._made = True

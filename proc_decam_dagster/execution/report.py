"""What a run came to: plain dataclasses that commands print and assets record."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where a step stands, given to the progress callback after every quantum.

    Attributes
    ----------
    step, task : `str`
        The step, and the label of the task whose quantum ended last.
    done, total : `int`
        Quanta of the graph that ended (blocked ones included), and all of them.
    failed, blocked : `int`
        Of those that ended: failed, and those that wait for a failed one in vain.
    seconds, eta_seconds : `float`
        Since the start, and left at the present pace.
    """

    step: str
    task: str
    done: int
    total: int
    failed: int
    blocked: int
    seconds: float
    eta_seconds: float

    def __str__(self) -> str:
        bad = "".join(f", {n} {w}" for n, w in ((self.failed, "failed"), (self.blocked, "blocked")) if n)
        left = f", {self.eta_seconds:.0f} s left" if self.done < self.total else ""
        return f"{self.step} {self.task} {self.done}/{self.total}{bad}{left}"


def throttled(write: Callable[[str], object], seconds: float = 10.0) -> Callable[[Progress], None]:
    """Return a progress callback that writes a line at a step's first and last quantum, and now and then between."""
    last = {"step": "", "time": 0.0}

    def progress(state: Progress) -> None:
        now = time.monotonic()
        if state.step != last["step"] or state.done == state.total or now - last["time"] > seconds:
            last.update(step=state.step, time=now)
            write(str(state))

    return progress


@dataclass(frozen=True)
class QuantumFailure:
    """A quantum that did not succeed, and what can be done.

    Attributes
    ----------
    task : `str`
        Task label.
    data_id : `dict`
        Required dimensions and values.
    exception, message : `str`
        Type of the exception (``Lost`` for a killed worker) and its text.
    transient : `bool`
        Whether the cause may be gone the next time: memory, input/output, a lost worker.
    attempts : `int`
        How often it was tried, earlier runs included.
    action : `str`
        The next command to type.
    earlier : `bool`
        It failed in an earlier run and was not tried again in this one.
    """

    task: str
    data_id: dict[str, Any]
    exception: str
    message: str
    transient: bool
    attempts: int
    action: str = ""
    earlier: bool = False

    def __str__(self) -> str:
        where = " ".join(f"{k}={v}" for k, v in self.data_id.items() if k != "instrument")
        return f"{self.task} {where}: {self.exception}: {self.message}"


@dataclass
class TaskCounts:
    """Quanta of one task by how they stand after the step; ``skipped`` had succeeded before."""

    succeeded: int = 0
    failed: int = 0
    blocked: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """All quanta of the task that the inputs ask for."""
        return self.succeeded + self.failed + self.blocked + self.skipped


@dataclass
class StepReport:
    """Outcome of one step.

    Attributes
    ----------
    step : `str`
        Subset of the pipeline.
    chain : `str`
        Name of the CHAINED collection that was run on.
    run : `str`
        Newest RUN written; empty if there was nothing to do.
    runs : `list` [`str`]
        All RUNs written, one a graph.
    tasks : `dict` [`str`, `TaskCounts`]
        Counts by task label, in the pipeline's order.
    failures : `list` [`QuantumFailure`]
        The quanta that did not succeed, those of earlier runs included.
    left_out : `dict` [`str`, `str`]
        Tasks that the step holds and the survey has no use for, and the optional dataset type that they lack.
    exclusions : `list` [`str`]
        Entries of the survey's list of exclusions that hold for the chain.
    quanta : `int`
        Quanta executed now, each counted once.
    attempts : `int`
        Executions of quanta, repeats included.
    seconds, graph_seconds, register_seconds : `float`
        Wall clock in all, and of it for building graphs and for registering outputs.
    peak_rss_gb : `float`
        Largest resident memory of one worker during a quantum (GB).
    """

    step: str
    chain: str
    run: str = ""
    runs: list[str] = field(default_factory=list)
    tasks: dict[str, TaskCounts] = field(default_factory=dict)
    failures: list[QuantumFailure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    exclusions: list[str] = field(default_factory=list)
    quanta: int = 0
    attempts: int = 0
    seconds: float = 0.0
    graph_seconds: float = 0.0
    register_seconds: float = 0.0
    peak_rss_gb: float = 0.0

    def _sum(self, name: str) -> int:
        return sum(getattr(counts, name) for counts in self.tasks.values())

    @property
    def succeeded(self) -> int:
        """Quanta that succeeded now."""
        return self._sum("succeeded")

    @property
    def failed(self) -> int:
        """Quanta that failed, now or for good before."""
        return self._sum("failed")

    @property
    def blocked(self) -> int:
        """Quanta not run because what they need failed."""
        return self._sum("blocked")

    @property
    def skipped(self) -> int:
        """Quanta not run because they had succeeded before."""
        return self._sum("skipped")

    @property
    def ok(self) -> bool:
        """Whether every quantum succeeded, now or before."""
        return not (self.failed or self.blocked or self.failures)

    @property
    def left_out_text(self) -> list[str]:
        """What was left out for want of an optional dataset type, one line for each."""
        by_type: dict[str, list[str]] = {}
        for task, dataset_type in self.left_out.items():
            by_type.setdefault(dataset_type, []).append(task)
        return [f"left out: {', '.join(tasks)}: there is no {name}" for name, tasks in by_type.items()]

    @property
    def nothing_to_do(self) -> bool:
        """Whether no quantum was executed."""
        return self.quanta == 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-friendly values."""
        return asdict(self) | {"ok": self.ok}

    def __str__(self) -> str:
        if self.nothing_to_do and self.left_out and not self.tasks:
            return f"{self.chain} {self.step}: {'; '.join(self.left_out_text)}"
        if self.nothing_to_do and self.ok:
            return f"{self.chain} {self.step}: nothing to do ({self.skipped} quanta done before)"
        parts = [f"{n} {w}" for w in ("succeeded", "failed", "blocked", "skipped") if (n := self._sum(w))]
        return f"{self.chain} {self.step}: {', '.join(parts) or 'no quanta'} in {self.seconds:.1f} s"


@dataclass
class PipelineReport:
    """Outcome of a proc type's steps, and of the certification that follows the last one.

    ``certified`` is what the repository's certification returned; `None` if nothing was to be certified.
    ``stopped`` says why later steps did not run; empty if all ran. ``calibrations`` says, by dataset type, whose
    masters were used: ``own``, or those of which night.
    """

    chain: str
    steps: list[StepReport] = field(default_factory=list)
    certified: Any = None
    stopped: str = ""
    calibrations: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every step ran, every quantum succeeded, and what was to be certified was."""
        return not self.stopped and all(s.ok for s in self.steps) and getattr(self.certified, "ok", True)

    @property
    def failures(self) -> list[QuantumFailure]:
        """All failures, in the steps' order."""
        return [f for s in self.steps for f in s.failures]

    @property
    def peak_rss_gb(self) -> float:
        """Largest resident memory of one worker during a quantum (GB)."""
        return max((s.peak_rss_gb for s in self.steps), default=0.0)

    @property
    def quanta(self) -> int:
        """Quanta executed."""
        return sum(s.quanta for s in self.steps)

    @property
    def exclusions(self) -> list[str]:
        """Entries of the survey's list of exclusions that held for its steps."""
        return list(dict.fromkeys(e for s in self.steps for e in s.exclusions))

    @property
    def calibrations_from(self) -> str:
        """Whose masters were used, in one line: ``bias 20190402 (1 day later), flat own``."""
        return ", ".join(f"{dataset} {source}" for dataset, source in self.calibrations.items())

    @property
    def why_not(self) -> str:
        """What kept it from being complete, in one line; empty if nothing did."""
        if self.stopped:
            return self.stopped
        counts = [f"{s.step}: {s.failed} failed, {s.blocked} blocked" for s in self.steps if not s.ok]
        if self.failures:
            counts.append(f"first: {self.failures[0]}")
        if not getattr(self.certified, "ok", True):
            counts.append(f"not certified: {self.certified.why_not}")
        return "; ".join(counts)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-friendly values, the certification as text."""
        return {
            "chain": self.chain, "ok": self.ok, "stopped": self.stopped, "seconds": self.seconds,
            "certified": None if self.certified is None else str(self.certified),
            "calibrations": self.calibrations,
            "steps": [s.to_dict() for s in self.steps],
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), *([self.stopped] if self.stopped else [])])


@dataclass
class NightReport:
    """Outcome of one night and proc type.

    ``error`` is the one-line reason if it could not run to the end; ``left_out`` why there is nothing to do, if the
    survey's list leaves out all of its raws.
    """

    night: str
    proc_type: str
    pipeline: PipelineReport | None = None
    ingested: Any = None
    error: str = ""
    left_out: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything went well."""
        return not self.error and (bool(self.left_out) or self.pipeline is not None and self.pipeline.ok)

    @property
    def why_not(self) -> str:
        """What kept it from being complete, in one line; empty if nothing did."""
        return self.error or ("" if self.pipeline is None else self.pipeline.why_not)

    def __str__(self) -> str:
        if self.error:
            return f"{self.night} {self.proc_type}: {self.error}"
        return f"{self.night} {self.proc_type}: {self.left_out}" if self.left_out else str(self.pipeline)

"""What is recorded of a graph that BPS runs, beside the repository and before anything is waited for."""

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.bps.submission import Submission, read_json, write_json

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)

FOLDER = "bps"
"""Folder of all workflows, in that of the repository's records."""
_STATE, CANCELLED = "workflow.json", "cancelled"
"""The file of what is known, which the driver writes, and one that is there if somebody asked for the end."""


class Workflow:
    """A graph that BPS runs: one folder, with a submit directory for each time that something was submitted.

    Parameters
    ----------
    folder : `pathlib.Path`
        The workflow's folder.
    values : `dict`
        What its file holds: ``chain``, ``step``, ``run``, and ``submissions``, a list.
    """

    def __init__(self, folder: Path, values: dict[str, Any]) -> None:
        self.folder, self.values = folder, values

    @classmethod
    def new(cls, state_dir: Path, *, chain: str, step: str, run: str) -> "Workflow":
        """Make the folder of a RUN's workflow."""
        folder = state_dir / FOLDER / run.replace("/", "__")
        folder.mkdir(parents=True)
        made = cls(folder, {"chain": chain, "step": step, "run": run, "submissions": []})
        made.save()
        return made

    @property
    def chain(self) -> str:
        """The chain that it runs on."""
        return self.values["chain"]

    @property
    def step(self) -> str:
        """The step that it runs."""
        return self.values["step"]

    @property
    def run(self) -> str:
        """The RUN that it writes."""
        return self.values["run"]

    @property
    def graph(self) -> Path:
        """File of its graph."""
        return self.folder / "graph.qg"

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled on request, by this program or another."""
        return (self.folder / CANCELLED).exists()

    @property
    def submissions(self) -> list[Submission]:
        """What was submitted, in the order of time."""
        return [Submission(self.folder / s["directory"], s["name"], s["batch"]) for s in self.values["submissions"]]

    @property
    def seems_alive(self) -> bool:
        """Whether it is under way, see `Submission.seems_alive`."""
        return bool(self.submissions) and self.submissions[-1].seems_alive()

    def save(self) -> None:
        """Write the file."""
        write_json(self.folder / _STATE, self.values)

    def add(self, batch: dict[str, str] | None) -> Submission:
        """Record another submission and make its directory; it is not started."""
        number = len(self.values["submissions"]) + 1
        directory = self.folder / f"submit_{number}"
        (directory / "records").mkdir(parents=True)
        name = f"{self.folder.name}__{number}"
        self.values["submissions"].append({"directory": directory.name, "name": name, "batch": batch})
        self.save()
        return self.submissions[-1]

    def finish(self, keep_logs: bool) -> None:
        """Take it off the record; without ``keep_logs`` nothing of it is left."""
        (self.folder / _STATE).unlink(missing_ok=True)
        self.take_back_cancel()
        if keep_logs:
            for graph in self.folder.glob("**/*.qg"):
                graph.unlink()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self) -> bool:
        """End it; return whether it was alive. What had finished is registered by the command that waits, or the next.

        Raises
        ------
        SurveyError
            If what it has in Slurm does not end.
        """
        # Noted before anything is looked at: a driver that is about to submit looks for it when it has.
        (self.folder / CANCELLED).touch()
        last = self.submissions[-1] if self.submissions else None
        if last is None or not last.alive():
            return False
        last.stop()
        return True

    def take_back_cancel(self) -> bool:
        """Forget that it was cancelled; return whether it was."""
        was = self.cancelled
        (self.folder / CANCELLED).unlink(missing_ok=True)
        return was


def unfinished(state_dir: Path, chain: str = "") -> list[Workflow]:
    """Return the workflows that were begun and not taken off the record, alive or not, the oldest first."""
    found = []
    for path in sorted((state_dir / FOLDER).glob(f"*/{_STATE}"), key=lambda p: p.stat().st_mtime):
        with suppress(FileNotFoundError):
            values = read_json(path)
            if values and chain in ("", values["chain"]):
                found.append(Workflow(path.parent, values))
    return found


def cancel(repository: "Repository", chain: str = "") -> list[Workflow]:
    """Cancel the workflows of a chain, or all; return those that were alive, or had a driver that would go on.

    Raises
    ------
    SurveyError
        If some of them do not end; all were tried.
    """
    ended, errors = [], []
    for workflow in unfinished(Path(repository.state_dir), chain):
        before = workflow.cancelled
        try:
            if workflow.cancel() or repository.is_locked(workflow.chain):
                ended.append(workflow)
            elif not before:  # it had ended by itself, and what it lost is not to be laid to this
                workflow.take_back_cancel()
        except SurveyError as error:
            errors.append(error)
    if errors:
        others = f" ({', '.join(w.run for w in ended)}: cancelled)" if ended else ""
        raise SurveyError(
            "; ".join(e.found for e in errors) + others, fix="; ".join(dict.fromkeys(e.fix for e in errors))
        )
    return ended

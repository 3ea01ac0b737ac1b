"""What BPS is told: the packaged `submit.yaml`, a site file on top of it, and what follows from the step."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.pipelines import packaged_folder

FILE_NAME = "submit.yaml"
SITE_VARIABLE = "PROC_DECAM_SITE"
"""Environment variable with the site file that is used where none is given."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_PREFIXES = ("CTRL_MPEXEC_DIR", "DAF_BUTLER_DIR", "CTRL_BPS_DIR", "PIPE_BASE_DIR")
"""What BPS looks for its programs with; EUPS sets them, pip does not."""
_LEFT_OUT = str(Path(__file__).with_name("left_out"))


@dataclass(frozen=True)
class Settings:
    """The configuration of a back end, as far as it is the same for all submissions.

    Attributes
    ----------
    values : `dict`
        Everything that BPS is told.
    site : `str`
        The ``computeSite``.
    """

    values: dict[str, Any]
    site: str

    @property
    def workers(self) -> int:
        """How many jobs can run at once."""
        keys = self.values["site"][self.site]
        if "cores_per_node" in keys:
            return max(1, int(keys["cores_per_node"]) * int(keys.get("nodes", 1)) * int(keys.get("max_blocks", 1)))
        return int(keys.get("cores", 0)) or os.cpu_count() or 1

    def require_folder(self, folder: Path) -> None:
        """Raise `SurveyError` if the workload management system cannot work below a folder.

        Parsl starts its workers by a line for the shell in which it quotes no path.
        """
        if "parsl" in self.values.get("wmsServiceClass", "").lower() and shlex.quote(str(folder)) != str(folder):
            raise SurveyError(
                f"Parsl cannot work in {folder}", "a path of letters, digits and ._-/ only",
                "move the repository, or leave out --backend bps, --slurm and --site",
            )  # fmt: skip

    def number(self, key: str) -> int:
        """Return a whole number of the configuration."""
        try:
            return int(self.values[key])
        except (KeyError, TypeError, ValueError):
            raise SurveyError(f"{key} of {FILE_NAME} is {self.values.get(key)!r}", "a whole number") from None

    def memory_mb(self, label: str) -> int:
        """Return the memory that quanta of a task ask for first (MB)."""
        task = (self.values.get("pipetask") or {}).get(label) or {}
        return int(task.get("requestMemory", 0)) or self.number("requestMemory")


def load_settings(site: str | os.PathLike = "", pipeline_dir: str | os.PathLike | None = None) -> Settings:
    """Read the configuration for a site.

    Parameters
    ----------
    site : `str` or `os.PathLike`, optional
        ``local`` or ``slurm``, which `submit.yaml` holds, or a site file; ``PROC_DECAM_SITE`` of the environment, else
        ``local``, if empty. ``${NAME}`` and ``${NAME:-default}`` in it stand for variables of the environment.
    pipeline_dir : `str` or `os.PathLike`, optional
        A folder whose own `submit.yaml` replaces the packaged one.
    """
    own = Path(pipeline_dir) / FILE_NAME if pipeline_dir else None
    values = _read(own if own and own.is_file() else packaged_folder("") / FILE_NAME)
    named, default = os.fspath(site), os.environ.get(SITE_VARIABLE, "")
    known = dict(values["site"])
    if named and named not in known:
        if not Path(named).expanduser().is_file():
            raise SurveyError(
                f"site {named} is unknown", f"{' or '.join(known)}, or a site file",
                "deploy/sites has examples; docs/clusters.md says what stands in one",
            )  # fmt: skip
        values = _merged(values, _read(Path(named).expanduser()))
    elif default:
        values = _merged(values, _read(Path(default).expanduser()))
    # The user's own Slurm is what --slurm means, where the environment names one.
    if named in known and not _class_of(values).endswith(known[named]["class"].rpartition(".")[2]):
        values["computeSite"] = named
    chosen = values.get("computeSite")
    if chosen not in (values.get("site") or {}):
        raise SurveyError(f"computeSite is {chosen!r}", f"one of {', '.join(values.get('site') or ())}")
    return Settings(values, chosen)


def _class_of(values: Mapping[str, Any]) -> str:
    """Return the class of the chosen site; empty if there is none."""
    return (values["site"].get(values.get("computeSite")) or {}).get("class", "")


def _read(path: Path) -> dict[str, Any]:
    """Read a YAML file whose variables are those of the environment."""

    def variable(match: re.Match) -> str:
        value = os.environ.get(match[1]) or match[2]
        if value is None:
            raise SurveyError(f"{path} needs {match[1]}, which is not set", fix=f"export {match[1]}=…")
        return value

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items()}
        return _VARIABLE.sub(variable, value) if isinstance(value, str) else value

    try:
        values = filled(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        raise SurveyError(f"site file {path} does not exist", fix=f"correct --site or {SITE_VARIABLE}") from None
    except yaml.YAMLError as error:
        raise SurveyError(f"{path} cannot be read ({' '.join(str(error).split())})", "YAML", "mend the file") from None
    if not isinstance(values, dict):
        raise SurveyError(f"{path} holds no settings", "lines of `key: value`", "deploy/sites has examples")
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings overridden by others, folder by folder."""
    out = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merged(out[key], value) if nested else value
    return out


def write_submission(
    directory: Path, settings: Settings, *, root: Path, graph: Path, chain: str, run: str, name: str, plan: Path,
    memory: Mapping[str, int], time_limit: float | None, repeat: bool,
) -> Path:  # fmt: skip
    """Write the file that one submission is made from; return its path.

    Parameters
    ----------
    directory : `pathlib.Path`
        Submit directory.
    settings : `Settings`
        What is the same for all submissions.
    root, graph : `pathlib.Path`
        The repository's root, and the file of the step's graph.
    chain, run, name : `str`
        The chain, the RUN, and a name for the workflow that no other has.
    plan : `pathlib.Path`
        Which quanta share a job.
    memory : `~collections.abc.Mapping` [`str`, `int`]
        Memory that the jobs of each label ask for (MB).
    time_limit : `float` or `None`
        Seconds that a quantum may take.
    repeat : `bool`
        Whether its quanta were tried before in this RUN.
    """
    site = settings.values["site"][settings.site]
    python, repository, records = (shlex.quote(str(p)) for p in (sys.executable, root, directory / "records"))
    ours = {
        "computeSite": settings.site,
        "project": "proc-decam", "campaign": chain.replace("/", "_"), "uniqProcName": name,
        "submitPath": str(directory / "bps"),  # which BPS makes
        "payload": {
            "payloadName": "proc-decam", "butlerConfig": str(root), "inCollection": chain, "output": chain,
            "outputRun": run, "runInit": False,
        },
        "qgraphFile": str(graph),
        "updateQuantumGraph": "true",  # it was built for this RUN
        "clusterAlgorithm": "proc_decam_dagster.execution.bps.clusters.planned",
        "planFile": str(plan),
        "subDirTemplate": "{label}",
        "cluster": {label: {"requestMemory": megabytes} for label, megabytes in memory.items()},
        "jobMemories": ",".join(str(m) for m in sorted(set(memory.values()))),
        "memoryMultiplier": 1, "numberOfRetries": 1,  # repeats are the driver's, who counts them
        "runQuantumCommand": (
            f"{python} -m proc_decam_dagster.execution.bps.job {repository} {shlex.quote(str(graph))} {records} "
            f"--job {{jobName}} --memory {{requestMemory}} --time-limit {time_limit or 0} --quanta {{qgraphNodeId}}"
            f"{' --repeat' if repeat else ''}"
        ),
        "site": {settings.site: {"run_dir": str(directory / "parsl"), "retries": 1} | site},
    }  # fmt: skip
    path = directory / f"bps_{FILE_NAME}"
    path.write_text(yaml.safe_dump(_merged(settings.values, ours), sort_keys=False))
    return path


def workflow_environment() -> dict[str, str]:
    """Return the environment of a workflow's process and of all that it starts."""
    ours = environment()
    return ours | {"PYTHONPATH": f"{_LEFT_OUT}{os.pathsep}{ours['PYTHONPATH']}"}


def environment() -> dict[str, str]:
    """Return the environment that a driver of BPS can run in: this one, and what it needs beside it."""
    ours = dict(os.environ) | dict.fromkeys(_PREFIXES, sys.prefix)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        ours.setdefault(name, "1")  # a job is one core's work
    ours.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")  # its thread would not outlive the job's fork
    ours["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
    # Parsl starts its own programs by name.
    ours["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), ours.get("PATH", os.defpath)])
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return ours

"""How large a pod each asset gets where Kubernetes runs its steps, and the executor that starts one a step.

Elsewhere the steps of a run are one process, and the sizes say nothing.
"""

import os
from typing import Any, NamedTuple

import dagster as dg

from proc_decam_dagster.errors import SurveyError

EXECUTOR, SIZES = "PROC_DECAM_EXECUTOR", "PROC_DECAM_PODS"
TAG = "dagster-k8s/config"


class Pod(NamedTuple):
    """Cores, which are its workers too, and memory (GiB) of a pod."""

    cores: int
    memory: int


SMALL = Pod(1, 2)
"""Of an asset that is not in the table: its work is that of one process."""

PODS = {
    "raws": Pod(2, 4), "curated_calibs": Pod(1, 4), "defects": Pod(1, 4), "refcats": Pod(1, 4),
    "bias": Pod(8, 16), "flat": Pod(8, 24), "calexps": Pod(16, 48),
    "coadd_inputs": Pod(1, 4), "coadds": Pod(8, 48), "diffs": Pod(16, 48),
    "night_page": Pod(1, 4), "survey_page": Pod(1, 4),
}  # fmt: skip
"""Asset → its pod: 2 GiB a worker and as much again for pixels (coadds: 5), with 4 for the process that drives them."""


def pods() -> dict[str, Pod]:
    """Return the table, with what ``PROC_DECAM_PODS=calexps=8x32,bias=4x16`` (cores x GiB) says otherwise.

    Raises
    ------
    SurveyError
        If that names no asset of the table, or no size.
    """
    found = dict(PODS)
    for entry in filter(None, os.environ.get(SIZES, "").replace(" ", "").split(",")):
        name, _, size = entry.partition("=")
        cores, _, memory = size.partition("x")
        if name not in PODS or not (cores.isdigit() and memory.isdigit() and int(cores) and int(memory)):
            raise SurveyError(f"{SIZES} has {entry!r}", f"ASSET=CORESxGIB, such as calexps=8x32, of {', '.join(PODS)}")
        found[name] = Pod(int(cores), int(memory))
    return found


def pod_tags(asset: str) -> dict[str, Any]:
    """Return the op tags by which an asset's step gets its pod; ``J`` in it makes as many workers as it has cores."""
    pod = pods().get(asset, SMALL)
    memory = f"{pod.memory}Gi"
    return {
        TAG: {
            "container_config": {
                # No limit of cores: a pod that is throttled holds its memory only longer.
                "resources": {"requests": {"cpu": str(pod.cores), "memory": memory}, "limits": {"memory": memory}},
                "env": [{"name": "J", "value": str(pod.cores)}],
            }
        }
    }


def executor() -> dg.ExecutorDefinition:
    """Return how the steps of a run are executed: in one process, or, with ``PROC_DECAM_EXECUTOR=k8s``, a pod each.

    Raises
    ------
    SurveyError
        If the variable has another value.
    """
    wanted = os.environ.get(EXECUTOR, "")
    if wanted in ("", "in_process"):
        return dg.in_process_executor  # its steps share warm workers, and the cores are theirs
    if wanted != "k8s":
        raise SurveyError(f"{EXECUTOR}={wanted} is no executor", "in_process or k8s")
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor

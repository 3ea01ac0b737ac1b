"""Steps run until complete: graph, back ends, attempts, failures; nothing heavy is imported before it is used."""

from importlib import import_module

_HOMES = {
    "WorkerPool": "pool",
    "Ledger": "ledger",
    "Progress": "report",
    "QuantumFailure": "report",
    "TaskCounts": "report",
    "StepReport": "report",
    "PipelineReport": "report",
    "NightReport": "report",
    "throttled": "report",
    "pipeline_path": "pipelines",
    "run_step": "step",
    "step_name": "step",
    "run_pipeline": "pipeline",
    "run_night": "night",
    "run_nights": "nights",
    "run_coadd": "coadd",
    "make_plan": "plan",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

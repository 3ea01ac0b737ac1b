"""The BPS back end: quanta in jobs of any workload management system that `lsst.ctrl.bps` has a plug-in for."""

from importlib import import_module

_HOMES = {"Bps": "backend", "resume": "backend", "cancel": "workflow", "unfinished": "workflow"}
__all__ = list(_HOMES)


def __getattr__(name: str):
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

"""How the science benchmark measures: CPU seconds of warm calls, the memory's bandwidth, one figure a line."""

import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

BUFFER = 2**27
"""Bytes of the arrays that bandwidth is measured with: far beyond any cache."""


def figure(
    name: str, value: float, unit: str = "", target: float | None = None, *, at_least: bool = False,
    peer: str | None = None, peer_value: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return one figure as `benchmarks.Figure` takes it; ``ratio`` is the peer's value over ours.

    A target is an upper bound unless ``at_least``. NaN meets none.
    """
    value = float(value)
    met = None if target is None else bool(value >= target if at_least else value <= target)
    ratio = peer_value / value if peer_value is not None and value > 0 else None
    return {
        "figure": name, "value": round(value, 5), "unit": unit, "target": target, "met": met, "peer": peer,
        "peer_value": None if peer_value is None else round(float(peer_value), 5),
        "ratio": None if ratio is None else round(ratio, 3),
    }  # fmt: skip


def within(name: str, value: float, low: float, high: float, unit: str = "") -> dict[str, Any]:
    """Return a figure that is to lie between two bounds: its target is the upper one, the name holds both."""
    return figure(f"{name} ({low:g} to {high:g})", value, unit, high) | {"met": bool(low <= value <= high)}


def cpu_seconds(children: bool = False) -> float:
    """Return user and system seconds of this process; with ``children``, of those that have ended too."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    total = used.ru_utime + used.ru_stime
    if children:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        total += used.ru_utime + used.ru_stime
    return total


def cpu_of(work: Callable[[], Any], repeats: int = 3, warm: bool = True) -> tuple[float, Any]:
    """Return the median CPU seconds of a call, after one that is not counted (compilation, caches), and its result."""
    result = work() if warm else None
    taken = []
    for _ in range(repeats):
        start = cpu_seconds()
        result = work()
        taken.append(cpu_seconds() - start)
    return float(np.median(taken)), result


def bandwidth(repeats: int = 7) -> float:
    """Return the memory's bandwidth for one core, bytes/s read and written: the best copy of a large array."""
    source = np.ones(BUFFER // 4, np.float32)
    target = np.zeros_like(source)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * BUFFER / best


def speed(
    name: str, seconds: float, target: float | None, moved: float, bytes_per_second: float,
    peers: dict[str, tuple[float | None, float | None]] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield a stage's CPU seconds, how far it is from the memory's limit, and each peer's seconds and ratio.

    Parameters
    ----------
    name : `str`
    seconds, target : `float`
        CPU seconds reached and wanted; the latter may be `None`.
    moved : `float`
        Bytes that the stage cannot but read and write: its inputs and outputs once.
    bytes_per_second : `float`
        See `bandwidth`.
    peers : `dict`, optional
        By peer: its CPU seconds (`None` where it could not be run) and the wanted ratio, or `None`.
    """
    yield figure(f"{name}, CPU", seconds, "s", target)
    limit = moved / bytes_per_second
    yield figure(f"{name}, memory-bandwidth limit", limit, "s")
    yield figure(f"{name}, times the limit", seconds / limit)
    for peer, (taken, wanted) in (peers or {}).items():
        if taken is None:
            yield figure(f"{name}, times faster than {peer}", float("nan"), "", wanted, at_least=True, peer=peer)
            continue
        row = figure(f"{name}, times faster than {peer}", taken / seconds, "", wanted, at_least=True)
        yield row | {"peer": peer, "peer_value": round(taken, 4), "ratio": round(taken / seconds, 3)}


def mad(values: np.ndarray) -> float:
    """Return the robust standard deviation of what is finite."""
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


def binomial(found: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a fraction."""
    if not count:
        return 0.0, 1.0
    p = found / count
    centre = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(p * (1 - p) / count + z * z / (4 * count**2))
    return float(centre - half), float(centre + half)

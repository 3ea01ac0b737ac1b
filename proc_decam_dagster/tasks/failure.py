"""The exception by which a task tells that an algorithm cannot work on this data: repeatable, not retried."""

from collections.abc import Iterator
from contextlib import contextmanager

from lsst.pipe.base import AlgorithmError

from proc_decam_dagster.pixels.failure import MeasurementFailure


class CalibrationFailure(AlgorithmError):
    """A detector that cannot be calibrated.

    Parameters
    ----------
    message : `str`
        What was found and what would have been needed.
    figures : `dict`
        The numbers behind it; they stay in the quantum's metadata.
    """

    def __init__(self, message: str, figures: dict | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})

    @property
    def metadata(self) -> dict:
        """Numbers behind the failure."""
        return {name: value if isinstance(value, int) else float(value) for name, value in self.figures.items()}


@contextmanager
def algorithm_errors() -> Iterator[None]:
    """Turn an algorithm's failure into the one that the middleware knows how to report."""
    try:
        yield
    except MeasurementFailure as failure:
        raise CalibrationFailure(str(failure), failure.figures) from failure

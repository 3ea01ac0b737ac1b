"""The exception of an algorithm that cannot do its work on these pixels: never a silent bad result."""


class MeasurementFailure(ValueError):
    """A measurement that cannot be made, or cannot be trusted.

    Parameters
    ----------
    message : `str`
        What was found and what would have been needed.
    **figures : `int` or `float`
        The numbers behind it, kept in the task's metadata.
    """

    def __init__(self, message: str, **figures: float) -> None:
        self.figures = figures
        super().__init__(message)

"""The targets of the demo's figures, one table: what the demo prints and `make bench` reports."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A figure of the summary and the bound that it should keep."""

    label: str
    value: Callable[[dict[str, Any]], float]
    bound: float
    at_least: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether a value keeps the bound; NaN never does."""
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self) -> str:
        """Return the bound as people write it."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g} {self.unit}".rstrip()


def _fraction(counts: dict[str, float]) -> float:
    return counts["recovered"] / counts["injected"] if counts["injected"] else float("nan")


DEMO = (
    Target("bias residual / theory", lambda s: s["bias_residual_over_theory"], 1.10),
    Target("flat residual / theory", lambda s: s["flat_residual_over_theory"], 1.10),
    Target("WCS against truth, rms", lambda s: s["astrometry_mas_rms"], 20, unit="mas"),
    Target("zero point against truth, rms", lambda s: s["zeropoint_mmag"], 15, unit="mmag"),
    Target("PSF FWHM error, worst", lambda s: s["fwhm_error_percent"], 5, unit="%"),
    Target("coadd aperture noise / expected", lambda s: s["coadd_noise_over_expected"], 1.10),
    Target("transients above SNR 10, injected", lambda s: s["transients"]["snr_over_10"]["injected"], 40, True),
    Target("transients above SNR 10, recovered", lambda s: _fraction(s["transients"]["snr_over_10"]), 0.95, True),
    Target("fakes recovered", lambda s: _fraction(s["fakes"]), 0.95, True),
    Target("false detections a CCD", lambda s: s["false_per_ccd"], 30),
    Target("quanta failed", lambda s: s["quanta"]["failed"], 0),
    Target("peak memory", lambda s: s["peak_rss_gb"], 6, unit="GB"),
    Target("time", lambda s: s["seconds"]["total"] / 60, 15, unit="min"),
)

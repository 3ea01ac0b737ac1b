"""What the asset checks hold a survey to, as a resource: one number a check."""

import os

import dagster as dg
from pydantic import Field

from proc_decam_dagster.errors import SurveyError

VARIABLE = "PROC_DECAM_LIMITS"


class Limits(dg.ConfigurableResource):
    """Limits of a good night. A figure beyond its limit warns; one beyond `severe` times the limit stops the night."""

    failed_quanta_percent: float = Field(default=2.0, description="Quanta of a chain that failed for good")
    bias_change_adu: float = Field(default=5.0, description="Change of a master bias since the last good night")
    flat_change: float = Field(default=0.03, description="Relative change of a master flat since the last good night")
    changed_masters_percent: float = Field(default=10.0, description="Masters that may change more than that")
    astrometry_mas: float = Field(default=100.0, description="Scatter against the reference catalogue (median)")
    photometry_mag: float = Field(default=0.1, description="Scatter of the zero points' stars (median)")
    seeing_arcsec: float = Field(default=2.5, description="FWHM of the PSF (median)")
    template_inputs: float = Field(default=2, description="Visits in a template (median over its pixels), at least")
    false_per_ccd: float = Field(default=10.0, description="False sources in a difference image")
    fakes_recovered: float = Field(default=0.8, description="Fakes recovered that are a magnitude above the depth")
    free_gb: float = Field(default=10.0, description="Room to be left on the repository's disk")
    storage_gb: float = Field(default=0.0, description="Most that the repository may hold; 0: no budget")
    severe: float = Field(default=3.0, description="How many times a limit is too much to go on")

    @classmethod
    def from_environment(cls) -> "Limits":
        """Return the limits configured by ``PROC_DECAM_LIMITS``, such as ``storage_gb=5000,astrometry_mas=60``.

        Raises
        ------
        SurveyError
            If a name is unknown or a value no number.
        """
        values = {}
        for word in os.environ.get(VARIABLE, "").replace(",", " ").split():
            name, _, value = word.partition("=")
            try:
                if name not in cls.model_fields:
                    raise ValueError
                values[name] = float(value)
            except ValueError:
                known = ", ".join(cls.model_fields)
                raise SurveyError(f"{VARIABLE} has {word!r}", f"NAME=NUMBER with a name of {known}") from None
        return cls(**values)

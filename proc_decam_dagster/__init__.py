"""A DECam imaging survey, from proposal id to difference images, as a Dagster data platform."""

__version__ = "0.1.0"

"""DECam for the Butler: the instrument class, raw files, storage classes and formatters; needs no science stack."""

from proc_decam_dagster.instrument.decam import DarkEnergyCamera

__all__ = ["DarkEnergyCamera"]

"""The release that this stands for."""

__version__ = "30.0.4"

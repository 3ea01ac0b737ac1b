"""Fixtures for the tests of the algorithms."""

from sky_scene import sky

__all__ = ["sky"]

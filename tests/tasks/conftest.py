"""Fixtures for the tests of the tasks."""

from sky_scene import sky

__all__ = ["sky"]

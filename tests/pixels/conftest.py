"""Fixtures for the tests of the algorithms."""

import numpy as np
import pytest
from sky_scene import sky

from proc_decam_dagster.pixels.image import MaskedImage

__all__ = ["sky"]


@pytest.fixture
def stars_on_a_grid(sky):
    """Return a function from 100 fluxes to a noisy image of stars of 4 pixels FWHM, and their positions x, y."""

    def make(flux: np.ndarray) -> tuple[MaskedImage, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(2)
        shape = (640, 640)
        x, y = (g.ravel() for g in np.meshgrid(np.arange(40, 640, 60), np.arange(40, 640, 60)))
        x, y = x + rng.uniform(-0.5, 0.5, 100), y + rng.uniform(-0.5, 0.5, 100)
        clean = np.zeros(shape)
        sky.add_stars(clean, x, y, flux, 4.0)
        image = (rng.poisson(clean + 500) - 500).astype(np.float32)
        return MaskedImage(image, (clean + 500).astype(np.float32), np.zeros(shape, np.int32)), x, y

    return make

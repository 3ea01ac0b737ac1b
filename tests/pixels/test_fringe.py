"""Fringes of a whole CCD: their strength is recovered, and with it the sky beneath faint sources."""

import numpy as np
import pytest
from ccd_scene import scene
from scipy.ndimage import gaussian_filter

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.fringe import remove_fringes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import SAT


def pattern(shape, seed=0):
    """Return contours of equal thickness, 60 pixels apart, from -1 to 1."""
    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), 24)
    return np.sin(3 * smooth / smooth.std())


@pytest.mark.parametrize("amplitude", [0.005, 0.02, 0.0])
def test_fringes_are_removed_to_a_hundredth_of_the_sky_noise(amplitude):
    shape = (4096, 2048)
    fringes = pattern(shape)
    truth = scene(5, extra=2000 * amplitude * fringes)
    template = 7 + 3 * fringes  # its own unit, its own level
    template[100:110, 100:110] = np.nan
    before = truth.image.image.copy()
    scale, error = remove_fringes(truth.image, template)
    assert error < 0.01 * 2000 * 0.005 / 3
    assert scale == pytest.approx(2000 * amplitude / 3, abs=5 * error + 0.01)
    left = before - truth.image.image - 2000 * amplitude * fringes
    assert (left - np.median(left))[200:].std() < 0.01 * np.sqrt(2000)
    assert (truth.image.image == before)[100:110, 100:110].all()


def test_too_little_sky_and_wrong_shape_are_named():
    image = MaskedImage.blank((512, 512))
    image.mask[:500] |= SAT
    with pytest.raises(MeasurementFailure, match="too few to scale the fringes"):
        remove_fringes(image, np.zeros((512, 512), np.float32))
    with pytest.raises(ValueError, match="shape"):
        remove_fringes(image, np.zeros((5, 5), np.float32))

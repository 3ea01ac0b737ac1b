"""Windowed centroids against the truth and against sep's."""

import numpy as np
import pytest
import sep

from proc_decam_dagster.pixels.centroids import windowed
from proc_decam_dagster.pixels.psf_model import FWHM_PER_SIGMA


@pytest.fixture
def stars(sky):
    """An image of 81 bright stars with little noise, and where they are."""
    rng = np.random.default_rng(4)
    x, y = (g.ravel() for g in np.meshgrid(np.arange(40, 560, 60.0), np.arange(40, 560, 60.0)))
    x, y = x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, x.size)
    clean = np.zeros((600, 600))
    sky.add_stars(clean, x, y, np.full(x.size, 1e5), 4.0)
    return (clean + rng.normal(0, 3, clean.shape)).astype(np.float32), x, y


def test_centroids_are_where_the_stars_are(stars):
    image, x, y = stars
    rng = np.random.default_rng(5)
    guess_x, guess_y = x + rng.uniform(-0.7, 0.7, len(x)), y + rng.uniform(-0.7, 0.7, len(x))
    found_x, found_y, failed = windowed(image, np.zeros(image.shape, bool), guess_x, guess_y, 4.0)
    assert not failed.any()
    assert np.hypot(found_x - x, found_y - y).max() < 0.01
    assert abs(np.mean(found_x - x)) < 1e-3 and abs(np.mean(found_y - y)) < 1e-3


def test_centroids_are_seps(stars):
    image, x, y = stars
    found_x, found_y, _ = windowed(image, np.zeros(image.shape, bool), x, y, 4.0)
    wanted_x, wanted_y, _ = sep.winpos(image, x, y, np.full(len(x), 4.0 / FWHM_PER_SIGMA), subpix=11)
    assert np.hypot(found_x - wanted_x, found_y - wanted_y).max() < 2e-3


def test_what_cannot_be_centred_keeps_its_first_guess(stars):
    image, x, y = stars
    excluded = np.zeros(image.shape, bool)
    excluded[int(y[1]), int(x[1]) + 2] = True  # in the window of one of them
    guess_x = np.array([x[0] + 3, x[1], 2.0, x[2]])  # too far off; excluded; at the edge; good
    guess_y = np.array([y[0], y[1], 300.0, y[2]])
    found_x, found_y, failed = windowed(image, excluded, guess_x, guess_y, 4.0)
    assert failed.tolist() == [True, True, True, False]
    assert found_x[:3].tolist() == guess_x[:3].tolist() and found_y[:3].tolist() == guess_y[:3].tolist()
    assert [len(part) for part in windowed(image, excluded, [], [], 4.0)] == [0, 0, 0]

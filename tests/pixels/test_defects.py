"""Defects: boxes painted, pixels filled."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.pixels.defects import interpolate, paint_boxes
from proc_decam_dagster.pixels.mask import BAD, INTERP, SAT, SUSPECT


def test_boxes_are_painted_and_clipped_at_the_edges():
    mask = np.full((20, 30), SUSPECT, np.int32)
    paint_boxes(mask, Table({"x0": [2, -3, 28], "y0": [3, 18, 0], "width": [2, 5, 9], "height": [4, 9, 1]}), BAD)
    expected = np.zeros(mask.shape, bool)
    expected[3:7, 2:4] = expected[18:, :2] = expected[0, 28:] = True
    assert ((mask & BAD != 0) == expected).all()
    assert (mask & SUSPECT).all()


def test_empty_table_paints_nothing():
    mask = np.zeros((5, 5), np.int32)
    paint_boxes(mask, Table({name: np.zeros(0, int) for name in ("x0", "y0", "width", "height")}), BAD)
    assert not mask.any()


def test_single_pixel_of_a_smooth_image_is_restored():
    y, x = np.mgrid[:40, :40]
    truth = (1000 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / (2 * 1.8**2))).astype(np.float32)
    image, variance, mask = truth.copy(), np.full(truth.shape, 9, np.float32), np.zeros(truth.shape, np.int32)
    for row, column in ((20, 20), (21, 23), (19, 18)):
        image[row, column], mask[row, column] = 1e6, BAD
    assert interpolate(image, variance, mask, BAD, SAT) == 3
    assert np.abs(image - truth).max() < 60
    assert (mask[mask != 0] == BAD | INTERP).all()
    assert variance == pytest.approx(9)


def test_columns_are_filled_across_and_unusable_sources_avoided():
    image = np.tile(np.arange(30, dtype=np.float32), (30, 1))
    truth = image.copy()
    mask = np.zeros(image.shape, np.int32)
    mask[:, 10:12] = BAD
    mask[:, 12] = SAT
    image[:, 10:13] = -1e5
    interpolate(image, np.ones_like(image), mask, BAD, SAT)
    assert image[:, 10:12] == pytest.approx(truth[:, 10:12], abs=1e-3)
    assert (image[:, 12] == -1e5).all()


def test_regions_wider_than_the_reach_are_left():
    image, mask = np.ones((60, 60), np.float32), np.zeros((60, 60), np.int32)
    mask[:, :40] = BAD
    image[:, :40] = 7
    assert interpolate(image, np.ones_like(image), mask, BAD, 0) == 0
    assert (image[:, :40] == 7).all()

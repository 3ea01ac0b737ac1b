"""Focal-plane mosaics: each detector at its place and the right way up, small enough for an event log."""

import io

import numpy as np
import pytest
from PIL import Image

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.report.drawing import LIMIT_BYTES
from proc_decam_dagster.report.mosaic import SIDE, focal_plane
from proc_decam_dagster.report.pictures import smoothed

SHAPE = (64, 32)


def drawn(images: dict[int, np.ndarray]) -> np.ndarray:
    """Return the picture of the detectors as grey levels: what is right of them, and the title, is cut off."""
    data = focal_plane(images, "bias", "ADU", binning=64)
    assert len(data) <= LIMIT_BYTES
    with Image.open(io.BytesIO(data)) as picture:
        grey = np.asarray(picture.convert("L")).astype(int)
    return grey[26:-6, 6 : 6 + SIDE]


@pytest.mark.parametrize(("axis", "sign", "edge"), [(0, 1, "bottom"), (0, -1, "top"), (1, 1, "left"), (1, -1, "right")])
def test_detectors_are_at_their_places(axis, sign, edge):
    """DECam's x runs along the columns of the CCDs: it points up, and y to the right."""
    picture = drawn({d: np.full(SHAPE, sign * DETECTORS[d].center_mm[axis]) for d in DETECTORS})
    rows, columns = (places.mean() / size for places, size in zip(np.nonzero(picture < 10), picture.shape, strict=True))
    assert {"bottom": rows, "top": 1 - rows, "left": 1 - columns, "right": columns}[edge] > 0.8


def test_a_gradient_is_drawn_the_right_way_up():
    along_rows = np.repeat(np.linspace(0, 100, SHAPE[0])[:, None], SHAPE[1], axis=1)
    picture = drawn({1: along_rows})
    middle = picture[len(picture) // 4]
    assert middle[60] < 60 and middle[-60] > 190  # rows of the CCD run to the right
    along_columns = np.repeat(np.linspace(0, 100, SHAPE[1])[None, :], SHAPE[0], axis=0)
    picture = drawn({1: along_columns})
    column = picture[:, picture.shape[1] // 4]
    assert column[30] > 190 and column[-30] < 60


def test_noise_of_the_whole_focal_plane_is_bounded_and_pixels_without_a_value_are_blank():
    rng = np.random.default_rng(1)
    images = {d: rng.normal(size=(256, 128)) for d in DETECTORS}
    data = focal_plane(images, "flat", "relative", binning=16)
    assert data[1:4] == b"PNG" and len(data) <= LIMIT_BYTES
    half = np.zeros(SHAPE)
    half[: SHAPE[0] // 2], half[0, 0] = np.nan, 1
    picture = drawn({1: half})
    assert (picture[40:80, 60:200] > 250).all() and (picture[40:80, -200:-60] < 5).all()


def test_a_gradient_below_the_noise_of_pixels_is_seen():
    rng, rows = np.random.default_rng(1), np.linspace(0, 1, 256)[:, None]
    data = focal_plane({d: rng.normal(rows, 1, size=(256, 128)) for d in (25, 31)}, "sky", "electrons", binning=16)
    with Image.open(io.BytesIO(data)) as picture:
        ccd = np.asarray(picture.convert("L")).astype(int)[40:70, 12:112]
    assert ccd[:, 70:].mean() > ccd[:, :30].mean() + 40


def test_stars_are_not_in_a_sky_and_pixels_without_a_value_have_none():
    image = np.ones((8, 8))
    image[1, 1], image[:4, 4:] = 1e4, np.nan
    assert np.array_equal(smoothed(image), [[1, np.nan], [1, 1]], equal_nan=True)


def test_nothing_to_draw_is_said():
    assert focal_plane({}, "bias", "ADU", binning=16)[1:4] == b"PNG"

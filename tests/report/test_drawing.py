"""Pictures stay small enough for an event log, whatever is drawn."""

import io

import numpy as np
from PIL import Image

from proc_decam_dagster.report.drawing import LIMIT_BYTES, new_figure, nothing, png


def test_a_picture_of_noise_is_bounded_and_can_be_read():
    figure = new_figure(12, 12)
    figure.subplots().imshow(np.random.default_rng(1).normal(size=(2000, 2000)), cmap="gray")
    data = png(figure)
    assert len(data) <= LIMIT_BYTES
    with Image.open(io.BytesIO(data)) as image:
        assert min(image.size) > 200 and np.ptp(np.asarray(image.convert("L"))) > 200


def test_nothing_says_so():
    assert nothing("no coadds")[:8] == b"\x89PNG\r\n\x1a\n"

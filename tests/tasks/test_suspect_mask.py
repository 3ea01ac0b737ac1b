"""The suspect pixels of the survey's masks, marked on the stack's exposures through what these offer."""

from types import SimpleNamespace

import numpy as np
import pytest

from proc_decam_dagster.tasks.suspect_mask import ApplySuspectMaskTask

PLANES = {"BAD": 1, "SUSPECT": 2}


class _Defects:
    """`lsst.ip.isr.Defects` on an array: boxes, and a mask plane by its name."""

    def __init__(self, boxes):
        self.boxes = boxes

    def maskPixels(self, image, name="BAD"):
        for x0, y0, x1, y1 in self.boxes:
            image.mask[y0:y1, x0:x1] |= PLANES[name]


@pytest.fixture
def exposure():
    return SimpleNamespace(maskedImage=SimpleNamespace(mask=np.zeros((8, 10), dtype=np.int32)))


def test_boxes_are_marked_suspect_and_nothing_else_changes(exposure):
    exposure.maskedImage.mask[1, 1] = PLANES["BAD"]
    result = ApplySuspectMaskTask().run(suspect=_Defects([(0, 0, 3, 2)]), exposure=exposure)
    mask = result.masked.maskedImage.mask
    assert mask[1, 1] == PLANES["BAD"] | PLANES["SUSPECT"]
    assert np.count_nonzero(mask) == np.count_nonzero(mask & PLANES["SUSPECT"]) == 6


def test_plane_can_be_chosen(exposure):
    config = ApplySuspectMaskTask.ConfigClass()
    config.mask_plane = "BAD"
    result = ApplySuspectMaskTask(config=config).run(suspect=_Defects([(4, 4, 5, 5)]), exposure=exposure)
    assert result.masked.maskedImage.mask[4, 4] == PLANES["BAD"]

"""Defects: masks of two families united, made into boxes that cover exactly them, certified for all time."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import defects, ingest_defects
from proc_decam_dagster.repository.defects import FAMILIES, boxes_to_mask, mask_to_boxes, union_masks

SHAPE = (4096, 2048)
NAMES = ("defects", "suspectMask")


@settings(deadline=None, max_examples=200)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_boxes_cover_exactly_the_mask_and_never_overlap(mask):
    boxes = mask_to_boxes(mask)
    assert (boxes_to_mask(boxes, mask.shape) == mask).all()
    assert (np.asarray(boxes["width"]) * np.asarray(boxes["height"])).sum() == mask.sum()


def test_a_bad_column_is_one_box():
    mask = np.zeros(SHAPE, bool)
    mask[:, 500] = True
    mask[1000:1200, 30:40] = True
    boxes = mask_to_boxes(mask)
    assert sorted(map(tuple, boxes)) == [(30, 1000, 10, 200), (500, 0, 1, 4096)]


def test_no_defects_are_an_empty_table():
    boxes = mask_to_boxes(np.zeros((8, 8), bool))
    assert len(boxes) == 0
    assert boxes.colnames == ["x0", "y0", "width", "height"]


def test_union_of_the_families():
    cp = np.array([0, 1, 0, 7, 0, 0])
    des = np.array([0, 0, 512, 512, 513, 4])
    bad, suspect = union_masks(cp, des)
    assert bad.tolist() == [False, True, False, True, True, True]
    assert suspect.tolist() == [False, False, True, False, False, False]


def masks(folder, detectors, shape=SHAPE):
    """Write masks of both families: a bad column and a bad block, a suspect block that the bad column crosses."""
    for name, pattern in FAMILIES.items():
        for detector in detectors:
            image = np.zeros(shape, np.int32)
            if name == "cp":
                image[:, 100 + detector] = 1
            else:
                image[10:20, 30:50] = 4
                image[1000:1100, 90:190] = 512
            path = folder / pattern.format(detector=detector)
            path.parent.mkdir(parents=True, exist_ok=True)
            fits.CompImageHDU(image, compression_type="RICE_1").writeto(path)
    return folder


def test_ingested_certified_and_found_at_any_time(night, tmp_path):
    folder = masks(tmp_path / "bpm", (1, 25))
    report = ingest_defects(night, folder, detectors=(1, 25))
    assert report.detectors == 2
    assert report.bad_pixels == 2 * (4096 + 200)
    assert report.suspect_pixels == 2 * (100 * 100 - 100)  # the bad column is not suspect
    assert (report.bad_boxes, report.suspect_boxes) == (4, 4)
    assert report.as_dict()["collection"] == "DECam/calib_bpm"
    butler = night.butler()
    for name, total in (("defects", 4296), ("suspectMask", 9900)):
        table = butler.get(name, instrument="DECam", detector=25, exposure=845005, collections="DECam/calib_bpm")
        assert boxes_to_mask(table).sum() == total
    (run,) = {r.run for r in butler.query_datasets("defects", "DECam/calib_bpm", find_first=False)}
    assert run.startswith("DECam/calib_bpm/bad/")
    spans = {str(a.timespan) for a in butler.registry.queryDatasetAssociations("suspectMask", ["DECam/calib_bpm"])}
    assert spans == {"(-∞, ∞)"}  # the Butler's own bounds are 1970 and 2100


def test_ingested_again_replaces_those_detectors_only(night, tmp_path):
    ingest_defects(night, masks(tmp_path / "one", (1, 25)), detectors=(1, 25))
    folder = masks(tmp_path / "two", (25,))
    path = folder / FAMILIES["cp"].format(detector=25)
    fits.PrimaryHDU(np.zeros(SHAPE, np.int16)).writeto(path, overwrite=True)
    ingest_defects(night, folder, detectors=(25,))
    found = {
        d: boxes_to_mask(night.butler().get("defects", instrument="DECam", detector=d, exposure=845005,
                                            collections="DECam/calib_bpm")).sum()
        for d in (1, 25)
    }  # fmt: skip
    assert found == {1: 4296, 25: 200}


@pytest.mark.parametrize("at", ["put", "certify"])
def test_an_interrupted_ingest_leaves_the_defects_that_are_there(night, tmp_path, monkeypatch, at):
    folder = masks(tmp_path / "bpm", (1,))
    ingest_defects(night, folder, detectors=(1,))
    certified = {n: night.butler().query_datasets(n, "DECam/calib_bpm", find_first=False) for n in NAMES}

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    if at == "put":
        monkeypatch.setattr(type(night.butler(writeable=True)), "put", interrupt)
    else:
        monkeypatch.setattr(defects, "certify_refs", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ingest_defects(night, folder, detectors=(1,))
    monkeypatch.undo()
    assert {n: night.butler().query_datasets(n, "DECam/calib_bpm", find_first=False) for n in NAMES} == certified
    ingest_defects(night, folder, detectors=(1,))
    for name, (former,) in certified.items():
        (now,) = night.butler().query_datasets(name, "DECam/calib_bpm", find_first=False)
        assert now.id != former.id and len(night.butler().get(former)) == 2  # a running graph still reads it


def test_a_missing_family_is_named(night, tmp_path):
    with pytest.raises(SurveyError, match="lacks the mask family cp, des"):
        ingest_defects(night, tmp_path)


def test_missing_masks_are_named_and_nothing_is_written(night, tmp_path):
    folder = masks(tmp_path / "bpm", (1,))
    with pytest.raises(SurveyError, match=r"lacks 122 masks: cp/DECam_Master_20140209v2_cd_02.fits.*--detectors"):
        ingest_defects(night, folder)
    with pytest.raises(SurveyError, match=r"des/D_n20150105t0115_c25_r2134p01_bpm.fits"):
        ingest_defects(night, folder, detectors=(1, 25))
    assert not list(night.butler().registry.queryDatasetTypes("defects"))


def test_detector_that_does_not_exist(night, tmp_path):
    with pytest.raises(SurveyError, match="63"):
        ingest_defects(night, tmp_path, detectors=(1, 63))


@pytest.mark.parametrize("spoil", ["shape", "cut", "empty"])
def test_unreadable_mask_is_named_and_nothing_is_written(night, tmp_path, spoil):
    folder = masks(tmp_path / "bpm", (1,))
    path = folder / FAMILIES["des"].format(detector=1)
    if spoil == "shape":
        fits.PrimaryHDU(np.zeros((10, 20), np.int16)).writeto(path, overwrite=True)
    else:
        path.write_bytes(path.read_bytes()[: 3000 if spoil == "cut" else 0])
    with pytest.raises(SurveyError, match="D_n20150105t0115_c01_r2134p01_bpm.fits"):
        ingest_defects(night, folder, detectors=(1,))
    assert not list(night.butler().registry.queryDatasetTypes("defects"))


def test_real_masks_come_back_from_far_fewer_boxes(shared_data):
    """The curated defects of 2015-01-05 as masks, compacted: equal to the pixel."""
    files = sorted((shared_data / "calibs" / "defects").rglob("*.fits"))[::8]
    pixels = boxes = 0
    for path in files:
        real = fits.getdata(path, 1)
        mask = np.zeros(SHAPE, bool)
        for x0, y0, width, height in zip(real["x0"], real["y0"], real["width"], real["height"]):
            mask[y0 : y0 + height, x0 : x0 + width] = True
        found = mask_to_boxes(mask)
        assert (boxes_to_mask(found) == mask).all()
        pixels, boxes = pixels + int(mask.sum()), boxes + len(found)
    assert files and boxes < pixels / 20
    print(f"{len(files)} masks: {pixels} pixels in {boxes} boxes")

"""The list of exclusions in a repository: raws are left out of their tags, amplifiers join the defects of a night."""

import pytest
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import exclude, exclusions, include, tag_raws
from proc_decam_dagster.repository.amplifier_masks import mask_amplifiers, night_span
from proc_decam_dagster.repository.certify import certify_refs
from proc_decam_dagster.repository.defects import boxes_to_mask
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.collections import CALIB_BPM

NIGHT = "20190401"
SCIENCE = [845005, 845006]


def tagged(repo, proc_type: str) -> set[tuple[int, int]]:
    refs = repo.butler().query_datasets("raw", f"{NIGHT}/{proc_type}/raw", find_first=False)
    return {(ref.dataId["exposure"], ref.dataId["detector"]) for ref in refs}


def test_what_is_listed_leaves_the_tag_and_comes_back(night):
    assert tagged(night, "drp") == {(e, d) for e in SCIENCE for d in (1, 25)}
    exclude(night, "telescope moved", exposures=[845005], detectors=[25])
    exclude(night, "dead", detectors=[1], nights="2020.*")
    tag_raws(night, NIGHT, "drp")
    assert tagged(night, "drp") == {(845005, 1), (845006, 1), (845006, 25)}
    include(night, 1, "it had not")
    tag_raws(night, NIGHT, "drp")
    assert len(tagged(night, "drp")) == 4
    assert [e.number for e in exclusions(night).history] == [1, 2, 3]
    assert exclusions(night).history[0].who and exclusions(night).history[0].when.endswith("Z")


def test_a_night_of_which_nothing_is_left_says_why(night):
    exclude(night, "dome closed", nights=NIGHT)
    with pytest.raises(SurveyError, match=r"leaves out all 4 raws of night 20190401: dome closed \(entry 1\)"):
        tag_raws(night, NIGHT, "drp")


def test_mistakes_change_nothing(night):
    exclude(night, "bad", exposures=[845005])
    for wrong in ({"exposures": [1]}, {"exposures": [845005]}):
        with pytest.raises(SurveyError):
            exclude(night, "bad", **wrong)
    with pytest.raises(SurveyError, match="one of: 1"):
        include(night, 2, "no")
    assert exclusions(night).version == 1


def test_an_amplifier_is_masked_on_its_nights_alone(night):
    boxes = Table([[5], [7], [2], [3]], names=("x0", "y0", "width", "height"), dtype=("i4",) * 4)
    butler = night.butler(writeable=True)
    refs = night.engine.put_defects(butler, datasets.DEFECTS, {1: boxes, 25: boxes}, f"{CALIB_BPM}/bad")
    certify_refs(butler, CALIB_BPM, refs)
    entry = exclude(night, "unstable gain", detectors=[25], amplifier="B", nights="201904.*")

    def masked(of_night: str, detector: int) -> float:
        ref = butler.find_dataset(
            datasets.DEFECTS, instrument="DECam", detector=detector, collections=CALIB_BPM,
            timespan=night_span(of_night),
        )  # fmt: skip
        return boxes_to_mask(butler.get(ref)).mean()

    own = 6 / (4096 * 2048)
    assert mask_amplifiers(night, NIGHT) == {25: "B"}
    assert mask_amplifiers(night, NIGHT) == {25: "B"}  # the second time changes nothing
    assert masked(NIGHT, 25) == pytest.approx(0.5, abs=2 * own) and masked(NIGHT, 1) == pytest.approx(own)
    assert masked("20190402", 25) == masked("20190330", 25) == pytest.approx(own)
    include(night, entry.number, "it was the power supply")
    assert mask_amplifiers(night, NIGHT) == {}
    assert masked(NIGHT, 25) == pytest.approx(own)

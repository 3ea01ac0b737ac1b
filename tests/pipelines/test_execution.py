"""All pipelines run: generated tasks, the real middleware, worker processes, certification, coadds, differences.

The surveys of 62 detectors can be made in pieces: with PROC_DECAM_STAND_IN_SURVEYS=FOLDER what is made stays there,
with PROC_DECAM_STAND_IN_SECONDS=N no run of a chain is begun after N seconds, and the same command goes on.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from contract.night import UNFINISHED
from contract.storage import storage_classes
from contract.survey import PATCHES, Size

PRODUCTION = Size(nights=3, detectors=62, visits=1)
RUNS = [
    pytest.param((Size(nights=2, detectors=4, visits=2), "local"), id="local"),
    pytest.param((PRODUCTION, "local"), id="local-62", marks=pytest.mark.full),
    pytest.param((PRODUCTION, "bps"), id="bps-62", marks=pytest.mark.full),
]
OF_CALIBRATED = {"finalizeCharacterizationDetector", "writeRecalibratedSourceTable", "transformSourceTable"}
OF_DIFFERENCES = {
    "buildTemplate", "subtractImages", "detectAndMeasureDiaSources", "filterDiaSrcCat", "transformDiaSourceCat",
    "forcedPhotObjectDetector", "forcedPhotDiaObjectDetector",
}  # fmt: skip
OF_VISITS = {
    "consolidatePreSourceTable", "consolidateVisitSummary", "consolidateFinalizeCharacterization",
    "updateVisitSummary", "consolidateSourceTable", "injected_consolidateSourceTable",
}  # fmt: skip


def run_survey(folder, size: Size, back_end: str, *options: str) -> dict:
    """Run a survey in a program of its own; return what it tells."""
    defaults = folder / "butler"
    defaults.mkdir(exist_ok=True)
    (defaults / "storageClasses.yaml").write_text(yaml.safe_dump({"storageClasses": storage_classes()}))
    numbers = [str(n) for n in (size.nights, size.detectors, size.visits, size.frames)]
    done = subprocess.run(
        [sys.executable, "-m", "contract.night", folder / "repo", *numbers, "--back-end", back_end, *options],
        env=os.environ | {"DAF_BUTLER_CONFIG_PATH": str(defaults)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == UNFINISHED:
        pytest.skip(f"{done.stderr.splitlines()[-1]}: give the same command again")
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads(done.stdout.splitlines()[-1])}
    found = rows.pop("found")
    return {"runs": rows, "found": found}


@pytest.fixture(scope="module", params=RUNS)
def survey(request, stack, tmp_path_factory):
    """A survey's size, and what is told of its runs."""
    size, back_end = request.param
    kept = os.environ.get("PROC_DECAM_STAND_IN_SURVEYS")
    if not kept or size != PRODUCTION:
        return size, run_survey(tmp_path_factory.mktemp(back_end), size, back_end)
    folder = Path(kept).absolute() / back_end
    folder.mkdir(parents=True, exist_ok=True)
    seconds = os.environ.get("PROC_DECAM_STAND_IN_SECONDS", "inf")
    return size, run_survey(folder, size, back_end, "--seconds", seconds)


def succeeded(run: dict) -> dict[str, int]:
    """Return the quanta of each task that succeeded."""
    return {label: counts[0] for label, counts in run["tasks"].items()}


def check_flat_frames(size: Size, found: dict) -> None:
    """Check the first night's single flats: numbers, one repeat, prerequisites, nothing to do the second time."""
    frames, first = size.frames * size.detectors, size.names[0]
    flat, again = found["runs"][f"{first} flat"], found["runs"][f"{first} flat again"]
    there = {label: counts[0] + counts[3] for label, counts in flat["tasks"].items()}
    assert there.items() >= {"isrForCrosstalkSources": frames, "cpFlatIsr": frames}.items()
    assert succeeded(flat)["cpFlatIsr"] == frames
    assert flat["failures"] == [] and flat["attempts"] == flat["quanta"] + 1  # one ran out of memory the first time
    assert again["quanta"] == 0
    assert {label: counts[3] for label, counts in again["tasks"].items()} == there
    read = found["found"]["flat frame"]
    # the bias through its certification, crosstalk from the overscan-corrected frames of all detectors
    assert {"bias", "ccdExposure", "crosstalk", "crosstalkSources"} <= set(read)
    assert read["bias"][0].startswith(f"{first}/bias/bias/step2/")
    assert read["crosstalkSources"][0].startswith(f"{first}/flat/flat/step0/")


def test_calibrations_are_made_certified_and_not_made_twice(survey):
    size, found = survey
    check_flat_frames(size, found)
    frames, first = size.frames * size.detectors, size.names[0]
    bias, flat = (found["runs"][f"{first} {kind}"] for kind in ("bias", "flat"))
    assert succeeded(bias) == {"cpBiasIsr": frames, "cpBiasCombine": size.detectors}
    assert bias["failures"] == [] and bias["attempts"] == bias["quanta"]
    assert succeeded(flat) == {
        "isrForCrosstalkSources": frames, "cpFlatIsr": frames, "cpFlatMeasure": frames, "cpFlatNormalize": 1,
        "cpFlatCombine": size.detectors,
    }  # fmt: skip
    for kind in ("bias", "flat"):
        assert found["found"][f"certified {kind}"] == list(size.detector_ids)


def test_a_failure_costs_what_follows_upon_it_and_nothing_else(survey):
    size, found = survey
    exposures, lost = size.visits * size.detectors, {"calibrateImage", "transformPreSourceTable"}
    drp = found["runs"][f"{size.names[0]} drp"]
    bad = {"instrument": "DECam", "visit": size.exposures(size.names[0])["object"][-1], "detector": size.detectors}
    assert drp["failures"] == [["calibrateImage", bad, "ValueError", 1, False]] and not drp["stopped"]
    assert drp["tasks"]["calibrateImage"] == [exposures - 1, 1, 0, 0]
    assert drp["tasks"]["transformPreSourceTable"] == [exposures - 1, 0, 1, 0]
    assert all(counts[1:] == [0, 0, 0] for label, counts in drp["tasks"].items() if label not in lost)
    assert drp["attempts"] == drp["quanta"] + 1  # another detector's exposure ran out of memory the first time
    done = succeeded(drp)
    assert all(done[label] == exposures - 1 for label in OF_CALIBRATED)
    # what needs no calibrated exposure of the detector goes on, as do its visit, the night, and each patch
    for label in ("isr", "applySuspect", "inject_exposure", "injected_calibrateImage", "injected_transformSourceTable"):
        assert done[label] == exposures
    assert all(done[label] == size.visits for label in OF_VISITS)
    assert done["isolatedStarAssociation"] == done["makeVisitTable"] == 1
    assert done["makeDirectWarp"] == done["makePsfMatchedWarp"] == size.visits * PATCHES


def test_a_second_run_does_nothing_and_tells_of_the_failure(survey):
    size, found = survey
    first, again = (found["runs"][f"{size.names[0]} drp{note}"] for note in ("", " again"))
    assert again["quanta"] == again["attempts"] == 0
    assert {label: counts[3] for label, counts in again["tasks"].items()} == succeeded(first)
    assert again["failures"] == [[*first["failures"][0][:4], True]]


def test_a_night_without_calibrations_takes_the_nearest_nights(survey):
    size, found = survey
    late, source = size.names[-1], size.names[-2]
    used = f"{source} (1 day earlier)"
    drp = found["runs"][f"{late} drp"]
    assert drp["calibrations"] == {"bias": used, "flat": used} and drp["failures"] == []
    assert found["runs"][f"{late} bias"]["quanta"] == 0
    read = found["found"][f"isr {late}"]
    assert all(read[kind][0].startswith(f"{source}/{kind}/{kind}/") for kind in ("bias", "flat"))
    assert read["crosstalkSources"][0].startswith(f"{late}/drp/DRP/step0/")


def test_each_night_gets_the_masks_that_are_valid_then(survey):
    size, found = survey
    for night, epoch in ((size.names[0], "early"), (size.names[-1], "late")):
        assert found["found"][f"isr {night}"]["defects"] == [f"DECam/calib_bpm/defects/{epoch}"]
        assert found["found"][f"epoch {night}"] == epoch  # of the suspect pixels
        # our own task ran, and what it marks is there with fakes and without
        assert found["found"][f"calexp {night}"] == found["found"][f"injected_calexp {night}"] == ["SUSPECT"]


def test_a_late_nights_warps_join_the_coadds(survey):
    size, found = survey
    first, there, anew = (found["runs"][f"coadd{note}"] for note in ("", " is there", " with the late night"))
    assert {"assembleCoadd", "transformObjectTable", "splitPrimaryObject"} <= first["tasks"].keys()
    per_patch = Counter(succeeded(first).values())
    assert set(per_patch) == {1, PATCHES} and succeeded(first)["assembleCoadd"] == PATCHES
    assert there["quanta"] == 0 and found["runs"]["stale coadds"]["chains"] == ["2019/meanclip/coadd"]
    assert succeeded(anew) == succeeded(first) and found["runs"]["stale no more"]["chains"] == []
    assert len(found["found"]["coadds"]) == PATCHES
    assert found["found"]["coadd memory"] == [6 * 1024]  # as for up to 50 warps
    for _, read in found["found"]["coadds"]:
        for kind in ("inputWarps", "psfMatchedWarps"):
            assert sorted({run.partition("/")[0] for run in read[kind]}) == size.names


def test_differences_are_made_of_clean_and_of_injected_images(survey):
    size, found = survey
    exposures = size.visits * size.detectors
    for night in size.names:
        clean, injected = (found["runs"][f"{night} diff_drp {science}"] for science in ("clean", "injected"))
        # one exposure of the first night could not be calibrated, but with fakes it could
        lost = 1 if night == size.names[0] else 0
        for run, prefix, each in ((clean, "", exposures - lost), (injected, "injected_", exposures)):
            done = succeeded(run)
            assert run["failures"] == [] and run["attempts"] == run["quanta"] == sum(done.values())
            assert all(done[prefix + label] == each for label in OF_DIFFERENCES)
            assert done[f"{prefix}consolidateDiaSourceTable"] == size.visits
            assert done[f"{prefix}drpAssociation"] == done[f"{prefix}drpDiaCalculation"] == PATCHES
        assert set(injected["tasks"]) == {f"injected_{label}" for label in clean["tasks"]}


def test_flats_by_bps(stack, tmp_path):
    """One night of four detectors: what `make test` runs of this on the other back end."""
    size = Size(nights=1, detectors=4, visits=2)
    check_flat_frames(size, run_survey(tmp_path, size, "bps", "--frames-only"))

"""Mistakes in a pipeline file are found here, before a night is lost to them."""

import shutil

import pytest
from contract import graphs
from contract.graphs import PIPELINES, Step, graph_of, missing_inputs, past_suspect_mask

from proc_decam_dagster.survey import datasets


@pytest.fixture
def changed(tmp_path):
    """Return a function that makes a copy of the pipelines with a text replaced in one file."""

    def change(file: str, old: str, new: str):
        for path in PIPELINES.glob("*.yaml"):
            text = path.read_text().replace("resource://proc_decam_dagster/pipelines/", f"{tmp_path}/")
            (tmp_path / path.name).write_text(text)
        text = (tmp_path / file).read_text()
        assert text.count(old) >= 1, f"{file} has no {old!r}"
        (tmp_path / file).write_text(text.replace(old, new))
        return tmp_path

    yield change
    shutil.rmtree(tmp_path)


def test_unchanged_copy_is_right(changed):
    folder = changed("DRP.yaml", "applySuspect", "applySuspect")
    assert missing_inputs("drp", folder) == []
    assert past_suspect_mask(folder) == []


@pytest.mark.parametrize(
    ("file", "step", "old", "new"),
    [
        ("DRP.yaml", "step2d", "process_all_data_ids: true", "proces_all_data_ids: true"),
        ("DRP.yaml", "step2d", "magLimit.maximum: 22.0", "magLimit.maximal: 22.0"),  # of a subtask
        ("DRP.yaml", "step1", "connections.exposures", "connections.exposure_list"),
        ("template.yaml", "step3c", "idGenerator.packer.bands", "idGenerator.packer.band"),
        ("DRP.yaml", "step1", 'photometry_ref_loader.filterMap["VR"]', 'photometry_ref_loader.filtermap["VR"]'),
        ("_differences.yaml", "step4d", "doSolarSystemAssociation", "doSolarsystemAssociation"),
    ],
)
def test_misspelt_field(changed, file, step, old, new):
    folder = changed(file, old, new)
    with pytest.raises(Exception, match=r"[Nn]o attribute|no connection|has no|Unrecognized") as caught:
        graph_of(Step("", file if not file.startswith("_") else "DRP.yaml", step), folder)
    word = new.split(":")[0].rsplit(".", 1)[-1].split("[")[0]
    assert word in f"{caught.value}"


@pytest.mark.parametrize(
    ("file", "step", "old", "new"),
    [
        ("template.yaml", "step3b", "doWriteArtifactMasks: false", "doWriteArtifactMasks: 3.5"),
        ("template.yaml", "step3b", "badMaskPlanes: [NO_DATA, BAD, SAT]", "badMaskPlanes: [1, 2]"),
        ("DRP.yaml", "step2c", "photo_calib_provider: input_summary", "photo_calib_provider: fgcm"),
        ("template.yaml", "step3c", "{u: 0, g: 1", "{u: zero, g: 1"),
    ],
)
def test_value_of_a_wrong_type_or_not_among_those_allowed(changed, file, step, old, new):
    folder = changed(file, old, new)
    with pytest.raises(Exception, match=r"incorrect type|not allowed|expected|validation"):
        graph_of(Step("", file, step), folder)


def test_task_that_the_release_has_no_more(changed):
    """Until v29 a task wrote preSourceTable from `src`; calibrateImage does now."""
    folder = changed("DRP.yaml", "isr, applySuspect", "isr, writePreSourceTable, applySuspect")
    with pytest.raises(Exception, match="writePreSourceTable"):
        graph_of(Step("drp", "DRP.yaml", "step1"), folder)


def test_class_that_the_release_has_no_more(changed):
    folder = changed("DRP.yaml", "calibrateImage.CalibrateImageTask", "characterizeImage.CharacterizeImageTask")
    with pytest.raises(ImportError, match="characterizeImage"):
        graph_of(Step("drp", "DRP.yaml", "step1"), folder)


def test_step_that_is_missing(changed):
    folder = changed("DRP.yaml", "  step2c:\n", "  step2z:\n")
    with pytest.raises(Exception, match="has no step step2c"):
        missing_inputs("drp", folder)


def test_task_that_is_in_no_step(changed):
    folder = changed("DRP.yaml", ", updateVisitSummary]", "]")
    problems = missing_inputs("drp", folder)
    assert f"DRP.yaml#step3a needs {datasets.VISIT_SUMMARY}" in problems


@pytest.mark.parametrize(
    ("file", "proc_type", "old", "new", "problem"),
    [
        ("DRP.yaml", "drp", "exposures: postISRCCD_masked", "exposures: postISRCCD_mask", "needs postISRCCD_mask"),
        ("template.yaml", "coadd", "inputCoaddName: parameters.coaddName", "inputCoaddName: goodSeeing",
         "needs goodSeeingCoadd_directWarp"),
        ("_differences.yaml", "diff_drp", "refCat: objectTable", "refCat: object_patch", "needs object_patch"),
    ],
)  # fmt: skip
def test_wrong_dataset_name(changed, file, proc_type, old, new, problem):
    assert any(problem in p for p in missing_inputs(proc_type, changed(file, old, new)))


def test_frames_that_nobody_makes(changed):
    """The camera switches the fringe correction on, for which no step makes frames: ISR of z and Y would fail."""
    folder = changed("DRP.yaml", "doFringe: false", "doFringe: true")
    assert graphs.unmet_options("drp", folder) == ["DRP.yaml#step1 isr may want fringe"]


@pytest.mark.parametrize(
    ("option", "unmasked"), [("input_exposure", datasets.INJECTED_CALEXP), ("exposures", datasets.CALEXP)]
)
def test_branch_without_suspect_pixels(changed, option, unmasked):
    folder = changed("DRP.yaml", f"{option}: {datasets.POST_ISR_MASKED}", f"{option}: {datasets.POST_ISR}")
    assert past_suspect_mask(folder) == [unmasked]


def test_fakes_in_a_template(changed):
    folder = changed("_differences.yaml", "coaddExposures: deepCoadd", "coaddExposures: injected_deepCoadd")
    problems = missing_inputs("diff_drp", folder)
    assert "DRP.yaml#step4a_injected needs injected_deepCoadd" in problems


def test_fakes_in_a_warp(changed):
    coadd_name = "      connections.coaddName: parameters.coaddName\n  makePsfMatchedWarp"
    folder = changed("DRP.yaml", coadd_name, f"      connections.calexp_list: injected_calexp\n{coadd_name}")
    ways = graphs.reached(graphs.arrows(graphs.steps("drp"), folder), "injection_catalog")
    assert datasets.named(datasets.DIRECT_WARP) in ways

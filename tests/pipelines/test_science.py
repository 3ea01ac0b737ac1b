"""What the pipelines promise of the survey's pixels: suspect masks, fakes, VR."""

import pytest
from contract import graphs
from contract.graphs import Step, arrows, graph_of, reached, steps

from proc_decam_dagster.camera.filters import FILTERS
from proc_decam_dagster.survey import datasets

BANDS = {f.band for f in FILTERS.values()} - {"opaque"}
CALIBRATIONS = ("calibrateImage", "injected_calibrateImage")
DRP, COADD, DIFF = steps("drp"), steps("coadd"), steps("diff_drp")


def tasks(*chosen):
    """All tasks of some steps, by label."""
    return {label: task for step in chosen for label, task in graph_of(step).tasks.items()}


def test_suspect_pixels_are_marked_in_every_calibrated_exposure():
    assert graphs.past_suspect_mask() == []
    ways = reached(arrows(DRP), datasets.SUSPECT_MASK)
    assert {datasets.CALEXP, datasets.INJECTED_CALEXP} <= ways


def test_no_fake_reaches_a_template():
    ways = reached(arrows(DRP + COADD + DIFF), "injection_catalog")
    assert datasets.INJECTED_CALEXP in ways
    clean = [datasets.DIRECT_WARP, datasets.PSF_MATCHED_WARP, datasets.COADD, datasets.TEMPLATE, datasets.DIFFERENCE]
    assert not ways & {datasets.named(name) for name in clean}
    injected = graph_of(Step("diff_drp", "DRP.yaml", "step4a_injected")).tasks["injected_buildTemplate"]
    assert injected.inputs["coaddExposures"].dataset_type_name == datasets.named(datasets.COADD)
    # of the injected exposure it takes where its pixels lie, and no pixel
    assert {e.dataset_type_name for e in injected.inputs.values() if "injected" in e.dataset_type_name} == {
        "injected_calexp.bbox", "injected_calexp.wcs",
    }  # fmt: skip


def test_fakes_are_taken_by_exposure_number_and_every_exposure_is_injected():
    config = tasks(*DRP)["inject_exposure"].config
    assert config.selection == "np.isin(injection_catalog['EXPNUM'], {visit})"
    assert config.process_all_data_ids
    assert config.external_psf and config.external_photo_calib and config.external_wcs


@pytest.mark.parametrize("number", "abcde")
def test_injected_differences_are_the_clean_ones_under_other_names(number):
    clean = tasks(Step("diff_drp", "DRP.yaml", f"step4{number}"))
    injected = tasks(Step("diff_drp", "DRP.yaml", f"step4{number}_injected"))
    assert set(injected) == {f"injected_{label}" for label in clean}
    for label, task in clean.items():
        twin = injected[f"injected_{label}"]
        assert twin.task_class is task.task_class
        ours, its = task.config.toDict(), twin.config.toDict()
        ours.pop("connections"), its.pop("connections")
        assert ours == its
        made = {e.parent_dataset_type_name for e in task.outputs.values()}
        assert {e.parent_dataset_type_name for e in twin.outputs.values()} == {f"injected_{name}" for name in made}


def test_both_calibrations_are_the_same():
    clean, injected = (tasks(*DRP)[label].config for label in CALIBRATIONS)
    assert clean.compare(injected, shortcut=False) is False  # other datasets …
    ours, its = clean.toDict(), injected.toDict()
    for values in (ours, its):
        values.pop("connections"), values.pop("optional_outputs")
    assert ours == its  # … made alike
    assert not clean.do_calibrate_pixels  # as drp_pipe has it: warps take the zero point from the visit summary


@pytest.mark.parametrize("label", CALIBRATIONS)
def test_vr_is_calibrated_by_r_and_other_bands_as_the_camera_says(label):
    config = tasks(*DRP)[label].config
    assert config.photometry_ref_loader.filterMap.items() >= {"VR": "r", "u": "g", "Y": "y"}.items()
    # a filter without a term to PS1 would fail: the camera has terms to g, r, i, z, N540, N708
    assert config.photometry.applyColorTerms and config.photometry.photoCatName == datasets.REFCAT_PHOTOMETRY
    terms = config.photometry.colorterms.data["ps1*"].data
    for name, each in FILTERS.items():
        if each.band not in {"g", "r", "i", "z", "N540", "N708", "opaque"}:
            assert terms[name].primary == terms[name].secondary == config.photometry_ref_loader.filterMap.get(
                each.band, {"y": "y"}.get(each.band)
            )  # fmt: skip


def without_vr(values, path: str):
    """Yield the lists and tables of bands, below some configuration, that leave VR out and say nothing of others."""
    if isinstance(values, dict | list):
        names = {name for name in values if isinstance(name, str)}
        if {"g", "r", "i"} <= names and not names & {"VR", "fallback"}:
            yield path
    if isinstance(values, dict):
        for name, value in values.items():
            yield from without_vr(value, f"{path}.{name}")


def test_no_task_leaves_vr_out():
    steps = [*DRP, *COADD, *DIFF]
    found = {path for label, task in tasks(*steps).items() for path in without_vr(task.config.toDict(), label)}
    # without an entry the reference catalogue's magnitudes are taken as they are, with a warning
    assert found == {f"{label}.astrometry.refColorDeltaDefaults" for label in CALIBRATIONS}


def test_every_band_of_the_camera_has_its_place():
    found = tasks(*DRP, *COADD)
    for label in (*CALIBRATIONS, "updateVisitSummary"):
        stats = found[label].config.compute_summary_stats
        for values in (stats.fiducialSkyBackground, stats.fiducialPsfSigma, stats.fiducialZeroPoint):
            assert "VR" in values, label
    assert "VR" in found["isolatedStarAssociation"].config.band_order
    for label in ("mergeDetections", "mergeMeasurements"):
        assert set(found[label].config.priorityList) >= BANDS, label
    for label in ("fitDeblendedObjectsExp", "fitDeblendedObjectsSersic"):
        assert "VR" in found[label].config.fit_coadd_multiband.bands_fit
    assert "VR" in found["computeObjectEpochs"].config.bands


def test_ids_of_a_patch_number_every_band_of_the_camera_in_one_way():
    numbered = {}
    for label, task in tasks(*COADD).items():
        generator = getattr(task.config, "idGenerator", None)
        if generator is not None and "band" in task.dimensions:
            numbered[label] = dict(generator.packer.bands or {})
    assert numbered.keys() >= {"detection", "measure", "forcedPhotCoadd"}
    assert all(bands == numbered["detection"] for bands in numbered.values()), numbered
    bands = numbered["detection"]
    assert bands.keys() == BANDS and len(set(bands.values())) == len(bands)


def test_suspect_pixels_stay_in_coadds():
    config = tasks(*COADD)["assembleCoadd"].config
    assert "SUSPECT" not in [*config.badMaskPlanes, *config.prefilterArtifactsMaskPlanes]
    assert {"NO_DATA", "BAD", "SAT"} <= set(config.badMaskPlanes)

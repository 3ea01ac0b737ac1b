"""Warps, coadds, differences, DIA sources and objects through the middleware: graph, storage, names, results."""

import datetime
import re

import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan
from lsst.pipe.base import Pipeline
from lsst.pipe.base.simple_pipeline_executor import SimplePipelineExecutor

from proc_decam_dagster.instrument.decam import DarkEnergyCamera
from proc_decam_dagster.instrument.regions import polygon
from proc_decam_dagster.instrument.skymap_records import register_skymap
from proc_decam_dagster.instrument.storage import butler_seed_config
from proc_decam_dagster.pixels.skymap import DiscreteSkyMap
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

PIPELINES = "resource://proc_decam_dagster/pipelines/embedded/"
SHAPE = (640, 620)
DETECTOR = 10
TEMPLATE_VISITS = (101, 102, 103)
SCIENCE_VISITS = (201, 202)
TRANSIENT = (150.004, 2.006, 1.5e5)
FAKE = (149.993, 1.992, 2.0e5)


def define_visit(butler, visit, wcs):
    """Insert the records of one visit with one detector."""
    ny, nx = SHAPE
    corners = np.stack(wcs.all_pix2world([0, nx, nx, 0], [0, 0, ny, ny], 0), 1)
    region = polygon(corners)
    begin = Time(59000 + visit / 100, format="mjd", scale="tai")
    common = {"instrument": "DECam", "day_obs": 20200531}
    butler.registry.syncDimensionData("day_obs", {"instrument": "DECam", "id": 20200531})
    butler.registry.insertDimensionData("visit", {
        **common, "id": visit, "name": str(visit), "physical_filter": "g DECam SDSS c0001 4720.0 1520.0",
        "timespan": Timespan(begin, begin + datetime.timedelta(seconds=60)), "region": region,
    })  # fmt: skip
    butler.registry.insertDimensionData(
        "visit_detector_region", {"instrument": "DECam", "visit": visit, "detector": DETECTOR, "region": region}
    )


def put(butler, name, storage_class, dimensions, content, **data_id):
    """Register a dataset type and store one dataset of it in the input run."""
    kind = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
    butler.registry.registerDatasetType(kind)
    butler.put(content, kind, data_id, run="in")


@pytest.fixture(scope="module")
def repository(sky, tmp_path_factory):
    """A repository with calibrated exposures of three template and two science visits on a 2 × 2 patch sky map.

    The science visits hold a transient; their injected twins hold a synthetic source besides.
    """
    root = tmp_path_factory.mktemp("repository")
    butler = Butler.from_config(Butler.makeRepo(str(root), config=butler_seed_config()), writeable=True)
    DarkEnergyCamera().register(butler.registry)
    grid = {"pixel_scale": 0.263, "patch_inner": 400, "border": 30}
    tract = {"ra": 150.0, "dec": 2.0, "nx": 2, "ny": 2, "origin": [399.5, 399.5]}
    register_skymap(butler, DiscreteSkyMap("small", {**grid, "tracts": [tract]}))
    butler.collections.register("in", CollectionType.RUN)
    stars = sky.star_field((700, 700), 220, seed=12, faint=3e3, bright=1e6)
    for visit in TEMPLATE_VISITS + SCIENCE_VISITS:
        wcs = sky.tan_wcs(SHAPE, 150.0 + 5e-4 * (visit % 3), 2.0, rotation=90.0 + 0.2 * visit, flip=False)
        define_visit(butler, visit, wcs)
        of = {"instrument": "DECam", "visit": visit, "detector": DETECTOR}
        changing = [] if visit in TEMPLATE_VISITS else [TRANSIENT]
        for name, extra in ((datasets.CALEXP, []), (datasets.INJECTED_CALEXP, [FAKE])):
            sources = [np.concatenate([a, [s[k] for s in changing + extra]]) for k, a in enumerate(stars)]
            exposure = sky.observe(SHAPE, wcs, *sources, fwhm=4.0 + 0.1 * (visit % 5), sky=400.0, seed=visit)
            exposure.metadata |= {"visit": visit, "detector": DETECTOR, "band": "g", "mjd": 59000 + visit / 100,
                                  "physical_filter": "g", "exptime": 60.0}  # fmt: skip
            if visit in SCIENCE_VISITS or name == datasets.CALEXP:
                put(butler, name, "DecamImage", ("instrument", "visit", "detector"), exposure, **of)
        x, y = wcs.all_world2pix(stars[0], stars[1], 0)
        inside = (x > 5) & (y > 5) & (x < SHAPE[1] - 6) & (y < SHAPE[0] - 6)
        snr = stars[2] / 4 / np.sqrt(400 * 40 + stars[2] / 4)
        table = Table({"x": x, "y": y, "snr": snr, "flag_saturated": np.zeros(len(x), bool)})[inside]
        put(butler, datasets.PRE_SOURCE_TABLE, "ArrowAstropy", ("instrument", "visit", "detector"), table, **of)
        summary = Table({"detector": [DETECTOR], "accepted": [visit != 103], "reason": [""]})
        put(butler, datasets.VISIT_SUMMARY, "ArrowAstropy", ("instrument", "visit"), summary,
            instrument="DECam", visit=visit)  # fmt: skip
    return root


def run(root, pipeline, where, output, inputs, overrides=()):
    """Build a graph and execute it into the RUN ``output``; ``overrides`` are (task, field, value).

    Inputs are RUNs: with a chain of chains for each step, the middleware's look-up doubles with every step.
    """
    butler = SimplePipelineExecutor.prep_butler(
        str(root), inputs=list(inputs), output=f"chain/{output}", output_run=output
    )  # fmt: skip
    tasks = Pipeline.from_uri(PIPELINES + pipeline)
    for override in overrides:
        tasks.addConfigOverride(*override)
    SimplePipelineExecutor.from_pipeline(tasks, where=where, butler=butler).run(register_dataset_types=True)


@pytest.fixture(scope="module")
def processed(repository):
    """The repository after warps, one template and differences, clean and injected."""
    here = "instrument='DECam' AND skymap='small'"
    inputs = ("in", "skymaps")
    work = [
        ("_warp_diff.yaml#step3a", here, "warps"),
        ("meanclip-template.yaml", f"{here} AND visit < 200", "coadds"),
    ]
    clean = ",".join(["step4a", "step4b", "step4c", "step4d", "step4e"])
    injected = [label for label in Pipeline.from_uri(PIPELINES + "_warp_diff.yaml").task_labels
                if label.startswith(datasets.INJECTED)]  # fmt: skip
    work += [
        (f"_warp_diff.yaml#{clean}", f"{here} AND visit > 200", "differences"),
        (f"_warp_diff.yaml#{','.join(injected)}", f"{here} AND visit > 200", "injected_differences"),
    ]
    for pipeline, where, output in work:
        run(repository, pipeline, where, output, inputs)
        inputs = (output, *inputs)
    return Butler.from_config(str(repository), collections=list(inputs))


def all_of(butler, name):
    return [butler.get(ref) for ref in butler.query_datasets(name, find_first=True, explain=False)]


def near(table, position, arcsec=1.0):
    """Return the rows of a table within an angle of a sky position."""
    east = (np.asarray(table["ra"]) - position[0]) * np.cos(np.deg2rad(position[1]))
    return table[np.hypot(east, np.asarray(table["dec"]) - position[1]) * 3600 < arcsec]


def test_warps_of_accepted_detectors(processed):
    """Every patch of every visit whose detector is accepted; metadata and calibration are kept."""
    warps = processed.query_datasets("deepCoadd_directWarp")
    assert {ref.dataId["visit"] for ref in warps} == {101, 102, 201, 202}
    warp = processed.get(warps[0])
    assert warp.shape == (430, 430) and warp.flux_scale == 1.0 and warp.psf is not None
    assert warp.metadata["visit"] == warps[0].dataId["visit"] and warp.metadata["band"] == "g"
    assert warp.metadata["seeing_fwhm_px"] == pytest.approx(4.1, abs=0.3)


def test_psf_matched_warps_and_a_template_of_them(processed, repository):
    """On request: one Gaussian for the visits whose seeing allows it, and a coadd of these with the same PSF."""
    here = "instrument='DECam' AND skymap='small'"
    seeing = {ref.dataId["visit"]: processed.get(ref).psf.fwhm(215, 215)
              for ref in processed.query_datasets("deepCoadd_directWarp")
              if ref.dataId["visit"] < 200}  # fmt: skip
    target = 0.263 * (max(seeing.values()) + 0.4)
    run(repository, "_warp_diff.yaml#step3a", f"{here} AND visit < 200", "matched", ("in", "skymaps"),
        [("makeDirectWarp", "doPsfMatched", True), ("makeDirectWarp", "psfMatchedFwhm", target)])  # fmt: skip
    run(repository, "median-template.yaml#step3b", here, "matched_coadds", ("matched", "in", "skymaps"),
        [("assembleCoadd", "connections.warpType", "psfMatched")])  # fmt: skip
    butler = Butler.from_config(str(repository), collections=["matched_coadds", "matched"])
    warps = butler.query_datasets(datasets.named(datasets.PSF_MATCHED_WARP))
    assert {ref.dataId["visit"] for ref in warps} == {101, 102}
    images = [butler.get(ref) for ref in (*warps[:2], *butler.query_datasets("deepCoadd")[:2])]
    for image in images:
        assert image.psf.fwhm(200, 200) * 0.263 == pytest.approx(target, rel=0.02)
    assert images[-1].metadata["visits"] == "101,102"


def test_coadd_names_its_inputs(processed):
    """Only the template visits are in the coadd; the count image agrees."""
    coadd, counts = all_of(processed, "deepCoadd")[0], all_of(processed, "deepCoadd_nImage")[0]
    assert coadd.metadata["visits"] == "101,102" and coadd.metadata["statistic"] == "meanclip"
    assert counts.image.max() == 2 and set(np.unique(counts.image)) <= {0.0, 1.0, 2.0}
    np.testing.assert_array_equal(counts.image == 0, ~np.isfinite(coadd.image))


def test_objects_of_the_tract(processed):
    """Objects of all patches, each once, with fluxes."""
    (objects,) = all_of(processed, datasets.OBJECT_TABLE_TRACT)
    assert len(objects) > 60 and objects["primary"].all() and len(set(objects["objectId"])) == len(objects)
    stars = objects[objects["g_flux"] > 5e4]
    assert len(stars) > 5 and (stars["g_flux"] / stars["g_flux_err"] > 50).all()


def test_the_transient_is_found_in_every_visit(processed):
    """Flux, position, identifiers and date of the DIA sources; one DIA object; forced fluxes."""
    tables = all_of(processed, datasets.DIA_SOURCE_TABLE_VISIT)
    assert len(tables) == len(SCIENCE_VISITS)
    for table in tables:
        (source,) = near(table, TRANSIENT)
        assert source["flux"] == pytest.approx(TRANSIENT[2], rel=0.05) and source["reliability"] > 0.6
        assert source["visit"] in SCIENCE_VISITS and source["detector"] == DETECTOR and source["band"] == "g"
        assert source["midpoint_mjd"] == pytest.approx(59000 + source["visit"] / 100)
        good = table[(table["reliability"] > 0.5) & ~table["negative"] & ~table["dipole"]]
        assert len(good) <= 2
    (objects,) = all_of(processed, "deepDiff_fullDiaObjTable")
    (transient,) = near(objects, TRANSIENT)
    assert transient["n_sources"] == 2 and transient["g_mean"] == pytest.approx(TRANSIENT[2], rel=0.04)
    (associated,) = all_of(processed, "deepDiff_assocDiaSrcTable")
    assert set(associated["diaObjectId"]) == set(objects["diaObjectId"])
    for table in all_of(processed, datasets.FORCED_ON_DIFFERENCE):
        (row,) = near(table, TRANSIENT)
        assert row["diff_flux"] == pytest.approx(row["science_flux"], rel=0.08)
        assert abs(row["template_flux"]) < 0.05 * row["science_flux"]
    forced = all_of(processed, datasets.FORCED_ON_DIA_OBJECT)
    assert len(forced) == 2
    for table in forced:
        (row,) = near(table, TRANSIENT)
        assert row["diff_flux"] == pytest.approx(TRANSIENT[2], rel=0.05)
        assert row["diaObjectId"] == transient["diaObjectId"]


def test_no_fake_reaches_a_template(processed):
    """Fakes are found in the differences of injected exposures only; warps, coadds and clean differences lack them."""
    for table in all_of(processed, datasets.INJECTED + datasets.DIA_SOURCE_TABLE_VISIT):
        (fake,) = near(table, FAKE)
        assert fake["flux"] == pytest.approx(FAKE[2], rel=0.05)
        assert len(near(table, TRANSIENT)) == 1
    for table in all_of(processed, datasets.DIA_SOURCE_TABLE_VISIT):
        assert not len(near(table, FAKE))
    for name in ("deepCoadd_directWarp", "deepCoadd", "deepDiff_templateExp"):
        for image in all_of(processed, name):
            x, y = (int(round(float(v))) for v in image.wcs.all_world2pix(FAKE[0], FAKE[1], 0))
            if 3 <= x < image.shape[1] - 3 and 3 <= y < image.shape[0] - 3 and np.isfinite(image.image[y, x]):
                box = np.s_[y - 2 : y + 3, x - 2 : x + 3]
                assert np.nanmean(image.image[box] / np.sqrt(image.variance[box])) < 2
    (objects,) = all_of(processed, "injected_deepDiff_fullDiaObjTable")
    assert len(near(objects, FAKE)) == 1


def test_template_is_made_once_for_clean_and_injected(processed, repository):
    """The injected step finds the templates of the clean one among its inputs and need not name its own."""
    graph = Pipeline.from_uri(PIPELINES + "_warp_diff.yaml#step4a_injected").to_graph()
    template = graph.tasks["injected_subtractImages"].inputs["template"].dataset_type_name
    assert template == graph.tasks["getTemplate"].outputs["template"].dataset_type_name == "deepDiff_templateExp"


def test_only_injected_tasks_read_injected_exposures():
    """By name: what a task labelled `injected_` writes is prefixed, and no other task reads or writes it."""
    graph = Pipeline.from_uri(PIPELINES + "_warp_diff.yaml").to_graph()
    for label, task in graph.tasks.items():
        names = {edge.dataset_type_name for edge in (*task.inputs.values(), *task.outputs.values())}
        prefixed = {name for name in names if name.startswith(datasets.INJECTED)}
        if not label.startswith(datasets.INJECTED):
            assert not prefixed, label
            continue
        assert {e.dataset_type_name for e in task.outputs.values()} <= prefixed
    clean = {label for label in graph.tasks if not label.startswith(datasets.INJECTED)}
    twins = {label.removeprefix(datasets.INJECTED) for label in graph.tasks if label.startswith(datasets.INJECTED)}
    assert clean - twins == {"makeDirectWarp", "getTemplate"}


@pytest.mark.parametrize("statistic", TEMPLATE_TYPES)
def test_template_pipelines(statistic):
    """Each template type has its pipeline, with the steps of its proc type and its statistic."""
    row = PROC_TYPES["coadd"]
    pipeline = Pipeline.from_uri(PIPELINES + row.pipeline_name(statistic))
    assert set(pipeline.subsets) == set(row.steps)
    assert pipeline.to_graph().tasks["assembleCoadd"].config.statistic == statistic


def test_steps_of_differences_have_injected_twins():
    """Every difference step has its twin, named as `run_step` asks for it."""
    subsets = Pipeline.from_uri(PIPELINES + "_warp_diff.yaml").subsets
    for step in PROC_TYPES["diff_drp"].steps:
        assert step in subsets and f"{step}_injected" in subsets


def test_the_coadd_name_is_one_parameter():
    """Another coadd name changes every dataset that carries it."""
    pipeline = Pipeline.from_uri(PIPELINES + "_warp_diff.yaml")
    pipeline.addConfigOverride("parameters", "coaddName", "best")
    names = [name for name in pipeline.to_graph().dataset_types if re.search("Coadd|Diff_", name)]
    assert names and all("bestCoadd" in name or "bestDiff_" in name for name in names)

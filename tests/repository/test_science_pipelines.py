"""The Science Pipelines engine on a real Butler repository, with stand-ins of the stack's modules."""

import subprocess
import sys

import numpy as np
import pytest
from astropy.table import Table
from lsst.daf.butler import Butler, CollectionType
from stack_fixture import stack_set_up

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import detector_outline
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository import (
    Repository,
    add_discrete_skymap,
    create_repository,
    define_visits,
    ingest_defects,
    ingest_fakes,
    ingest_raws,
    ingest_refcats,
    open_repository,
    tag_raws,
    update_chain,
)
from proc_decam_dagster.repository.defects import boxes_to_mask
from proc_decam_dagster.repository.skymap import exposures_outside_skymap

NIGHT = "20190401"


@pytest.fixture
def stack(monkeypatch, tmp_path):
    with stack_set_up(monkeypatch, tmp_path):
        yield


@pytest.fixture
def repo(stack, tmp_path, exposures):
    made = create_repository(tmp_path / "repo", engine="science-pipelines", exposures=exposures)
    yield made
    made.close()


def calls(name):
    return [arguments for called, arguments in sys.modules["lsst.obs.base"].CALLS if called == name]


def test_the_registered_class_makes_it_the_repositorys_engine(repo):
    record = repo.butler().query_dimension_records("instrument")[0]
    assert record.class_name == "lsst.obs.decam.DarkEnergyCamera"
    assert open_repository(repo.root).engine.name == "science-pipelines"
    assert len(repo.butler().query_dimension_records("detector", limit=None)) == 62


def test_curated_calibrations_are_written_once(repo):
    butler = repo.butler(writeable=True)
    assert butler.collections.get_info("DECam/calib").type is CollectionType.CALIBRATION
    assert len(butler.query_datasets("defects", "DECam/calib", find_first=False)) == 2
    assert len(butler.query_datasets("camera", "DECam/calib", find_first=False)) == 1
    assert repo.engine.write_curated_calibrations(butler) == 0


def test_what_an_interruption_left_out_of_the_curated_calibrations_is_written(repo):
    butler = repo.butler(writeable=True)
    refs = butler.query_datasets("defects", "DECam/calib/*", find_first=False)
    butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    assert repo.engine.write_curated_calibrations(butler) == 2


def test_raws_are_ingested_by_obs_base(repo, image_dir, exposures):
    report = ingest_raws(repo, exposures, image_dir)
    assert (report.ingested, report.failed) == (len(exposures), [])
    asked = calls("RawIngestTask.run")[-1]
    assert asked["run"] == "DECam/raw/all"
    assert asked["skip_existing_exposures"] and not asked["group_files"]
    assert not asked["track_file_attrs"]  # taken where they lie
    raws = repo.butler().query_datasets("raw", "DECam/raw/all", limit=None)
    assert {r.dataId["detector"] for r in raws} == {1, 25}  # no guide CCD
    assert raws[0].datasetType.storageClass_name == "Exposure"
    assert ingest_raws(repo, exposures, image_dir).existing == len(exposures)


def test_a_bad_raw_is_named_and_the_others_go_on(repo, image_dir, exposures, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in image_dir.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-2880] if "845003" in path.name else content)
    report = ingest_raws(repo, exposures, folder)
    assert report.ingested == len(exposures) - 1
    (path, reason), = report.failed  # fmt: skip
    assert "845003" in path and "truncated" in reason


def test_a_header_that_the_stack_cannot_translate_is_told_with_its_cause(repo, image_dir, tmp_path):
    from astropy.io import fits

    source = next(image_dir.glob("*845005*"))
    bad = tmp_path / "bad.fits"
    with fits.open(source) as hdus:
        hdus[0].header["FILTER"] = "no such filter"
        hdus.writeto(bad)
    engine = repo.engine
    with pytest.raises(SurveyError, match="bad.fits.*no such filter"):
        engine.ingest_raws(
            repo.butler(writeable=True), [engine.read_raw(str(bad))], transfer="direct", run="DECam/raw/all"
        )


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =                    T" + b" " * 100, None])
def test_what_is_no_raw_is_told_without_the_stack(content, tmp_path):
    from proc_decam_dagster.repository.engines import engine

    path = tmp_path / "x.fits"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SurveyError, match="x.fits"):
        engine("science-pipelines").read_raw(str(path))


def test_visits_are_defined_by_obs_base_with_the_curated_camera(repo, image_dir, exposures):
    ingest_raws(repo, exposures, image_dir)
    assert define_visits(repo, NIGHT) == 2
    asked = calls("DefineVisitsTask.run")[-1]
    assert asked["collections"] == ["DECam/calib"] and asked["prefilter"]
    assert len(repo.butler().query_dimension_records("visit", instrument="DECam", explain=False)) == 2
    assert define_visits(repo, NIGHT) == 0


def test_an_exposure_that_got_no_visit_is_told(repo, image_dir, exposures):
    ingest_raws(repo, exposures, image_dir)
    butler = repo.butler(writeable=True)
    zero = int(exposures["EXPNUM"][exposures["obs_type"] == "zero"][0])
    with pytest.raises(SurveyError, match=rf"exposures \[{zero}\] got no visit"):
        repo.engine.define_visits(butler, [zero], "discrete")


def test_a_night_is_tagged_and_chained_as_with_the_other_engine(repo, image_dir, exposures):
    ingest_raws(repo, exposures, image_dir)
    assert tag_raws(repo, NIGHT, "bias") == 4
    assert update_chain(repo, "bias", NIGHT) == f"{NIGHT}/bias"
    assert list(repo.butler().collections.get_info(f"{NIGHT}/bias").children) == ["DECam/calib", f"{NIGHT}/bias/raw"]


def test_the_discrete_skymap_holds_every_ccd_of_every_pointing(stack, tmp_path):
    pointings = [(149.4, 1.7), (150.9, 2.2), (359.8, -60.0), (0.9, -60.5), (40.0, 80.0)]
    table = Table(rows=[(i, ra, dec) for i, (ra, dec) in enumerate(pointings)], names=("EXPNUM", "RA(deg)", "DEC(deg)"))
    made = create_repository(tmp_path / "repo", engine="science-pipelines", exposures=table)
    import lsst.geom as geom

    stored = made.butler().get("skyMap", skymap="discrete", collections="skymaps")
    tracts = list(stored)
    assert len(tracts) == 3  # fields that touch share one, also across RA 0
    for pointing in pointings:
        corners = np.concatenate([detector_outline(d, *pointing) for d in (1, 2, 31, 32, 60, 62, 8, 55)])
        points = [geom.SpherePoint(float(ra), float(dec), geom.degrees) for ra, dec in corners]
        assert any(all(tract.contains(p) for p in points) for tract in tracts)
    config = stored.config
    assert (config.projection, config.pixelScale, config.tractOverlap) == ("TAN", 0.263, 0.0)
    assert max(config.radiusList) < 2.2  # and no larger than that needs
    assert (made.settings.skymap, made.settings.skymap_fits) == ("discrete", True)
    assert len(made.butler().query_dimension_records("patch", where="skymap='discrete'", explain=False)) == 3
    made.close()


def test_a_skymap_never_changes(repo, exposures):
    assert add_discrete_skymap(repo, exposures) == "discrete"  # fits already: kept
    assert exposures_outside_skymap(repo, exposures) == []
    elsewhere = exposures.copy()
    elsewhere["RA(deg)"] += 20
    assert exposures_outside_skymap(repo, elsewhere) == [845005, 845006]
    with pytest.raises(SurveyError, match="'discrete' exists with other tracts"):
        add_discrete_skymap(repo, elsewhere)
    assert add_discrete_skymap(repo, elsewhere, "second") == "second"


def test_without_exposures_the_whole_skys_rings_are_obs_decams(stack, tmp_path):
    made = create_repository(tmp_path / "repo", engine="science-pipelines")
    config = made.butler().get("skyMap", skymap="decam_rings_v1", collections="skymaps").config
    assert (config.numRings, config.pixelScale, config.projection) == (120, 0.262, "TAN")
    assert config.tractOverlap == pytest.approx(1 / 60)
    assert made.settings.skymap == "decam_rings_v1" and not made.settings.skymap_fits
    made.close()


def test_defects_are_ip_isrs_with_their_detectors_metadata(repo, tmp_path):
    from astropy.io import fits

    cp, des = np.zeros((4096, 2048), np.int16), np.zeros((4096, 2048), np.int16)
    cp[:, 100] = 1
    des[2000:2010, 7:9] = 512
    for name, mask in (("cp/DECam_Master_20140209v2_cd_25", cp), ("des/D_n20150105t0115_c25_r2134p01_bpm", des)):
        path = tmp_path / "bpm" / f"{name}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.PrimaryHDU(mask, fits.Header({"CCDNUM": 25})).writeto(path)
    ingest_defects(repo, tmp_path / "bpm", detectors=[25])
    ingest_defects(repo, tmp_path / "bpm", detectors=[25])  # in the place of the first
    butler = repo.butler()
    for name, mask in (("defects", cp == 1), ("suspectMask", des == 512)):
        (ref,) = butler.query_datasets(name, "DECam/calib_bpm", find_first=False)
        assert ref.datasetType.storageClass_name == "Defects" and ref.datasetType.isCalibration()
        stored = butler.get(ref)
        assert np.array_equal(boxes_to_mask(repo.engine.read_defects(butler, ref)), mask)
        metadata = stored.getMetadata()
        assert (metadata["INSTRUME"], metadata["DETECTOR"], metadata["DET_NAME"]) == ("DECam", 25, DETECTORS[25].name)
        assert ("DEFECTTY" in str(metadata)) == (name == "suspectMask")
    # The curated defects of the camera stay: their collection comes later in the chains.
    assert butler.query_datasets("defects", "DECam/calib", find_first=False)


def test_fakes_have_the_columns_and_dimensions_of_source_injection(repo, tmp_path):
    Table(
        {
            "RA": [149.4, 149.5, 170.0], "DEC": [1.7, 1.8, 1.6], "MAG": [21.0, 22.5, 23.0],
            "BAND": ["VR", "VR", "Y"], "EXPNUM": [845005, 845006, 845006],
        }
    ).write(tmp_path / "fakes.fits")  # fmt: skip
    assert ingest_fakes(repo, tmp_path / "fakes.fits") == {"VR": 2, "y": 1}
    butler = repo.butler()
    kind = butler.get_dataset_type("injection_catalog")
    assert (set(kind.dimensions.required), kind.storageClass_name) == ({"htm7", "band"}, "ArrowAstropy")
    refs = butler.query_datasets("injection_catalog", "fakes", limit=None)
    rows = sorted(
        (row["injection_id"], row["visit"], row["EXPNUM"], row["mag"], str(row["source_type"]), ref.dataId["band"])
        for ref in refs for row in butler.get(ref)
    )  # fmt: skip
    assert rows == [
        (1, 845005, 845005, 21.0, "DeltaFunction", "VR"),
        (2, 845006, 845006, 22.5, "DeltaFunction", "VR"),
        (3, 845006, 845006, 23.0, "DeltaFunction", "y"),
    ]


def test_refcats_are_simple_catalogues_by_trixel(repo, shared_data):
    shards = sorted((shared_data / "refcats" / "ps1_pv3_3pi_20170110").glob("*.fits"))[:3]
    assert ingest_refcats(repo, {"ps1": shards}) == {"ps1_pv3_3pi_20170110": 3}
    refs = repo.butler().query_datasets("ps1_pv3_3pi_20170110", "refcats", limit=None)
    assert {r.dataId["htm7"] for r in refs} == {int(p.stem) for p in shards}
    assert refs[0].datasetType.storageClass_name == "SimpleCatalog"
    assert ingest_refcats(repo, {"ps1": shards}) == {"ps1_pv3_3pi_20170110": 0}


def test_the_command_makes_a_repository(stack, tmp_path, exposures):
    exposures.write(tmp_path / "exposures.ecsv")
    words = ["create", str(tmp_path / "repo"), "--engine", "science-pipelines"]
    words += ["--exposures", str(tmp_path / "exposures.ecsv")]
    ran = subprocess.run(
        [sys.executable, "-m", "proc_decam_dagster.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "engine science-pipelines, instrument DECam, skymap discrete" in ran.stdout
    assert Butler.has_repo_config(str(tmp_path / "repo"))


def test_without_a_stack_its_repository_is_listed_and_nothing_else(repo, monkeypatch, image_dir, exposures, tmp_path):
    ingest_raws(repo, exposures, image_dir)
    tag_raws(repo, NIGHT, "bias")
    update_chain(repo, "bias", NIGHT)
    repo.close()
    monkeypatch.delenv("PYTHONPATH")
    words = [sys.executable, "-m", "proc_decam_dagster.cli.main"]
    status = subprocess.run([*words, "status", str(repo.root)], capture_output=True, text=True, check=False)
    assert status.returncode == 0 and NIGHT in status.stdout, status.stderr
    run = subprocess.run([*words, "pipeline", str(repo.root), "bias", NIGHT], capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "needs the LSST Science Pipelines, which are not set up" in run.stderr
    assert "setup lsst_distrib" in run.stderr


def test_repository_is_pickled_without_the_stack(repo):
    import pickle

    assert pickle.loads(pickle.dumps(Repository(repo.root))).root == repo.root

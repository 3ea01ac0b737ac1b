"""The visit tasks: their pipeline, and a field carried from detrended exposure to final tables."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from lsst.pipe.base import Pipeline

from proc_decam_dagster.camera.distortion import tpv_header
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.psf_model import shift
from proc_decam_dagster.pixels.psf_shape import moffat
from proc_decam_dagster.pixels.skymap import DiscreteSkyMap
from proc_decam_dagster.pixels.zero_point import flux_scale
from proc_decam_dagster.tasks.calibrate_image import CalibrateImageTask, source_ids
from proc_decam_dagster.tasks.characterization import FinalizeCharacterizationTask, UpdateVisitSummaryTask
from proc_decam_dagster.tasks.consolidate import ConsolidateTableTask, ConsolidateVisitSummaryTask
from proc_decam_dagster.tasks.failure import CalibrationFailure
from proc_decam_dagster.tasks.injection import InjectedCalibrateImageTask, InjectExposureTask
from proc_decam_dagster.tasks.isolated_stars import IsolatedStarAssociationTask
from proc_decam_dagster.tasks.source_tables import TransformSourceTableTask
from proc_decam_dagster.tasks.visit_tables import MakeCcdVisitTableTask, MakeVisitTableTask

PIPELINES = Path(__file__).resolve().parents[2] / "pipelines" / "embedded"
ZERO_POINT, SKY, FWHM, SHAPE = 30.5, 800.0, 4.0, (1000, 1000)


def make_field(seed=1):
    """Return a small detrended exposure of 120 stars, its true WCS, and refcat shards of the stars."""
    rng = np.random.default_rng(seed)
    x, y = (g.ravel() for g in np.meshgrid(np.arange(50, 1000, 90), np.arange(50, 1000, 90)))
    x, y = x + rng.uniform(-15, 15, len(x)), y + rng.uniform(-15, 15, len(x))
    flux = 10 ** rng.uniform(3.8, 5.6, len(x))
    cards = tpv_header(25, 150.0, 2.0)
    true = WCS(fits.Header(cards))
    ra, dec = true.all_pix2world(x, y, 0)
    clean = np.zeros(SHAPE)
    base = moffat(81, FWHM, 3.0)
    for sx, sy, f in zip(x, y, flux):
        cx, cy = int(sx + 0.5), int(sy + 0.5)
        rows, columns = slice(max(cy - 40, 0), min(cy + 41, 1000)), slice(max(cx - 40, 0), min(cx + 41, 1000))
        stamp = f * shift(base, sx - cx, sy - cy)
        clean[rows, columns] += stamp[rows.start - cy + 40 : rows.stop - cy + 40,
                                      columns.start - cx + 40 : columns.stop - cx + 40]  # fmt: skip
    header = fits.Header(cards | {"CRVAL1": cards["CRVAL1"] + 15 / 3600, "CRVAL2": cards["CRVAL2"] - 9 / 3600})
    exposure = MaskedImage(
        rng.poisson(clean + SKY).astype(np.float32), (clean + SKY).astype(np.float32), np.zeros(SHAPE, np.int32),
        wcs=WCS(header),
        metadata={"band": "VR", "physical_filter": "VR DECam c0007 6300.0 2600.0", "mjd": 58600.0, "exptime": 50.0},
    )  # fmt: skip
    njy = flux * flux_scale(ZERO_POINT)
    shard = Table({"coord_ra": np.deg2rad(ra), "coord_dec": np.deg2rad(dec), "r_flux": njy, "r_fluxErr": 0.003 * njy,
                   "phot_g_mean_flux": njy})  # fmt: skip
    return exposure, true, shard


@pytest.fixture(scope="module")
def field():
    return make_field()


@pytest.fixture(scope="module")
def calibrated(field):
    exposure, _, shard = field
    return CalibrateImageTask(config=CalibrateImageTask.ConfigClass()).run(exposure, [shard], [shard], 7, 25)


def run(task, *args, **kwargs):
    return task(config=task.ConfigClass()).run(*args, **kwargs)


def test_pipeline_has_the_steps_of_a_visit():
    pipeline = Pipeline.from_uri(str(PIPELINES / "_visit.yaml"))
    graph = pipeline.to_graph()
    assert {f"step{s}" for s in ("0", "1", "2a", "2b", "2c", "2d", "2e", "2f")} == set(pipeline.subsets)
    assert pipeline.subsets["step1"] == {"isr", "calibrateImage"}
    assert pipeline.subsets["step2d"] == {"inject_exposure", "injected_calibrateImage", "transformSourceTable"}
    assert set(graph.tasks) == set().union(*pipeline.subsets.values())
    fakes = graph.tasks["inject_exposure"].prerequisite_inputs["fakes"]
    assert fakes.dataset_type_name == "fakes_table"
    outputs = {e.dataset_type_name for t in graph.tasks.values() for e in t.outputs.values()}
    assert {"calexp", "preSourceTable_visit", "finalized_src_table", "finalVisitSummary", "injected_calexp",
            "sourceTable_visit", "visitTable", "ccdVisitTable"} <= outputs  # fmt: skip


def test_an_exposure_is_calibrated(field, calibrated):
    _, true, _ = field
    summary, exposure = calibrated.summary, calibrated.exposure
    assert summary["zero_point"] == pytest.approx(ZERO_POINT, abs=0.01)
    assert summary["seeing_fwhm_px"] == pytest.approx(FWHM, rel=0.03)
    assert summary["sky_e"] == pytest.approx(SKY, abs=1)
    a, b = exposure.wcs.all_pix2world(500, 500, 0), true.all_pix2world(500, 500, 0)
    assert np.hypot(a[0] - b[0], a[1] - b[1]) * 3.6e6 < 10
    assert abs(np.median(exposure.image)) < 1
    assert all(isinstance(value, (int, float, str)) for value in summary.values())
    assert len(np.unique(calibrated.sources["source_id"])) == len(calibrated.sources)


def test_an_exposure_of_another_field_fails_with_its_figures(field):
    exposure, _, shard = field
    wrong = shard.copy()
    wrong["coord_ra"] = wrong["coord_ra"][::-1]
    with pytest.raises(CalibrationFailure) as failure:
        run(CalibrateImageTask, exposure, [wrong], [wrong], 7, 25)
    assert failure.value.metadata and all(isinstance(v, (int, float)) for v in failure.value.metadata.values())
    with pytest.raises(CalibrationFailure, match="no star"):
        run(CalibrateImageTask, exposure, [], [shard], 7, 25)


def test_a_narrow_band_is_calibrated_in_the_catalogues_system_and_says_so(field):
    """No term to Pan-STARRS1 is known for N964; N540 has one, but this catalogue lacks the colours; others fail."""
    exposure, _, shard = field
    shard = shard.copy()
    shard["z_flux"] = shard["g_flux"] = shard["r_flux"]
    for band in ("N964", "N540"):
        narrow = exposure.copy()
        narrow.metadata |= {"band": band}
        shard["z_fluxErr"] = shard["g_fluxErr"] = shard["r_fluxErr"]
        shards = [shard if band == "N964" else shard["coord_ra", "coord_dec", "g_flux", "g_fluxErr"]]
        summary = run(CalibrateImageTask, narrow, [shard], shards, 7, 25).summary
        assert summary["colour_term"] == "none" and summary["band"] == band
        assert summary["zero_point"] == pytest.approx(ZERO_POINT, abs=0.01)
    unknown = exposure.copy()
    unknown.metadata |= {"band": "N395"}
    with pytest.raises(CalibrationFailure, match="no reference flux for band 'N395'"):
        run(CalibrateImageTask, unknown, [shard], [shard], 7, 25)


def test_source_ids_differ_between_visits_and_detectors():
    ids = np.concatenate([source_ids(v, d, 3) for v in (1_300_000, 1_300_001) for d in (1, 62)])
    assert len(np.unique(ids)) == 12 and ids.dtype == np.int64 and (ids > 0).all()


def test_tables_of_a_visit_follow(calibrated):
    sources = run(ConsolidateTableTask, [calibrated.sources, calibrated.sources[:0]]).table
    assert len(sources) == len(calibrated.sources)
    summary = run(ConsolidateVisitSummaryTask, [calibrated.summary]).summary
    stars = run(IsolatedStarAssociationTask, [sources]).stars
    assert len(stars) > 60
    finalized = run(FinalizeCharacterizationTask, sources, [stars, stars]).finalized
    assert len(finalized) == len(stars) and np.abs(finalized["delta_mag"]).max() < 1e-6
    final = run(UpdateVisitSummaryTask, summary, finalized).summary
    assert final["accepted"].all() and list(final["reason"]) == [""]
    table = run(TransformSourceTableTask, calibrated.sources, final, 25).table
    assert table["detector_accepted"].all() and np.isfinite(table["psf_mag"]).mean() > 0.9
    with pytest.raises(CalibrationFailure, match="detector 26"):
        run(TransformSourceTableTask, calibrated.sources, final, 26)
    visits = run(MakeVisitTableTask, [final, final]).table
    assert len(visits) == 2 and visits["n_accepted"][0] == 1
    assert len(run(MakeCcdVisitTableTask, [final, final]).table) == 2


def test_a_star_where_tracts_overlap_belongs_to_one_of_them(calibrated):
    """Visits overlap several tracts: each star is associated in each, and kept in that to which it belongs."""
    sources = run(ConsolidateTableTask, [calibrated.sources]).table
    middle = float(np.median(sources["ra"]))
    own = {"nx": 3, "ny": 3, "origin": [1499.5, 1499.5], "dec": float(np.median(sources["dec"]))}
    grid = {"pixel_scale": 0.263, "patch_inner": 1000, "border": 50}
    skymap = DiscreteSkyMap("two", grid | {"tracts": [own | {"ra": middle - 0.03}, own | {"ra": middle + 0.03}]})
    everywhere = run(IsolatedStarAssociationTask, [sources]).stars
    parts = [run(IsolatedStarAssociationTask, [sources], skymap, tract).stars for tract in (0, 1)]
    assert all(len(part) > 20 for part in parts)
    assert sorted(everywhere["star_id"]) == sorted([*parts[0]["star_id"], *parts[1]["star_id"]])
    assert parts[0]["ra"].max() < parts[1]["ra"].min() + 1e-3
    assert len(run(IsolatedStarAssociationTask, [sources[:0]], skymap, 0).stars) == 0


def test_fakes_of_the_visit_are_injected_and_recovered(calibrated):
    x, y = np.array([95.0, 545.0, 905.0]), np.array([95.0, 545.0, 905.0])
    ra, dec = calibrated.exposure.wcs.all_pix2world(x, y, 0)
    fakes = Table({"ra": np.append(ra, ra), "dec": np.append(dec, dec), "mag": np.full(6, 19.0),
                   "expnum": [7, 7, 7, 8, 8, 8], "fake_id": np.arange(1, 7)})  # fmt: skip
    made = run(InjectExposureTask, calibrated.exposure, [fakes], 7, 25)
    assert list(made.catalogue["fake_id"]) == [1, 2, 3]
    measured = run(InjectedCalibrateImageTask, made.injected, made.catalogue).sources
    assert set(measured["fake_id"]) >= {1, 2, 3}
    everywhere = fakes.copy()
    everywhere["expnum"] = 0
    assert list(run(InjectExposureTask, calibrated.exposure, [everywhere], 9, 25).catalogue["fake_id"])[:3] == [1, 2, 3]
    assert not len(run(InjectExposureTask, calibrated.exposure, [fakes], 9, 25).catalogue)
    none = run(InjectExposureTask, calibrated.exposure, [], 7, 25)
    assert len(none.catalogue) == 0 and np.array_equal(none.injected.image, calibrated.exposure.image)
    assert none.catalogue.colnames == made.catalogue.colnames

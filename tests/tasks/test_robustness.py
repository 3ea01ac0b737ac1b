"""Spoilt exposures, from simulated raw to calibrated image: a flagged result, or a typed failure that names its cause.

One CCD of one short survey; each of its exposures has its mishap, or what is read out of the good one is spoilt. Bias
and flat are the true ones: how masters are made is tested elsewhere.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BAD, SAT
from proc_decam_dagster.pixels.visit_quality import judge

DETECTOR = 31
"""The one whose amplifier A has been dead for years."""

NO_STARS = Table({"n_visits": [], "delta_mag": [], "detector": []})
"""Of other visits."""

MISHAPS = ("", "clouds")
"""Exposures that are simulated; others are made of the first one's raw, at a fraction of the cost."""


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Folder, plan and exposures (by mishap) of the survey, with the master calibrations."""
    from proc_decam_dagster.simulation.ccd import ccd
    from proc_decam_dagster.simulation.plan import SurveyPlan, exposures_of_night
    from proc_decam_dagster.simulation.survey import simulate_survey

    options = {"seed": 5, "detectors": (DETECTOR,), "template_nights": 0, "science_nights": 1, "zeros": 0, "flats": 0,
               "exposures_per_night": len(MISHAPS), "transients": 5, "movers": 0, "fakes": 0}  # fmt: skip
    plan = SurveyPlan(**options)
    exposures = exposures_of_night(plan, 0, *plan.nights()[0])
    spoilt = tuple(f"{e.expnum}:0:{kind}" for e, kind in zip(exposures, MISHAPS) if kind)
    folder = simulate_survey(tmp_path_factory.mktemp("spoilt"), jobs=1, mishaps=spoilt, **options)
    pattern = ccd(plan.seed, DETECTOR, plan.band)
    shape = pattern.bias.shape

    def master(image, variance):
        mask = np.where(image > 0, 0, BAD) if image is pattern.flat else np.zeros(shape)
        return MaskedImage(image, np.full(shape, variance, np.float32), mask.astype(np.int32))

    return SimpleNamespace(
        folder=folder, exposures=dict(zip(MISHAPS, exposures)),
        bias=master(pattern.bias, 0.1), flat=master(pattern.flat, 1e-6),
    )  # fmt: skip


@pytest.fixture(scope="module")
def detrend(survey):
    """Return the detrended image of a mishap's exposure."""
    from proc_decam_dagster.instrument.raw import read_raw
    from proc_decam_dagster.simulation.headers import file_name
    from proc_decam_dagster.tasks.isr import IsrTask
    from proc_decam_dagster.tasks.raw_statistics import RawStatisticsTask

    crosstalk = {"detector": DETECTOR, "sources": [list(row) for row in sources(DETECTOR)]}
    linearizer = {
        "detector": DETECTOR,
        "amplifiers": {name: {"adu": c.adu, "correction": c.correction} for name, c in linearity(DETECTOR).items()},
    }

    raws, made = {}, {}

    def read(kind):
        if kind not in raws:
            raws[kind] = read_raw(str(survey.folder / "archive" / file_name(survey.exposures[kind])), DETECTOR)
        return raws[kind]

    def run(kind, bias=survey.bias):
        if kind not in made or bias is not survey.bias:
            raw = read(kind) if kind in MISHAPS else spoilt(read(""), kind)
            statistics = RawStatisticsTask().run(raw).statistics
            image = IsrTask().run(raw, statistics, bias, survey.flat, crosstalk, linearizer=linearizer).outputExposure
            if bias is not survey.bias:
                return image
            made[kind] = image
        return made[kind]

    return run


def spoilt(raw, kind):
    """Return a raw frame that is read out wrong, or whose light is another."""
    from proc_decam_dagster.simulation.mishaps import TRAIL_PIXELS, spoil_raw

    raw = copy.copy(raw)
    raw.data = raw.data.copy()
    spoil_raw(raw.data, DETECTOR, {kind})
    rng = np.random.default_rng(4)
    for amplifier in DETECTORS[DETECTOR].amplifiers:
        light = amplifier.raw_data.slices
        pixels = raw.data[light].astype(np.float32)
        sky = np.median(pixels)
        noise = 1.4826 * np.median(np.abs(pixels - sky)) * rng.standard_normal(pixels.shape, np.float32)
        if kind == "saturated":
            raw.data[light] = 60_000 + raw.data[light] % 100
        elif kind == "no stars":
            raw.data[light] = sky + noise
        elif kind == "trailed":
            steps = range(TRAIL_PIXELS)
            raw.data[light] = np.mean([np.roll(pixels, (k // 2, k), (0, 1)) for k in steps], axis=0) + noise
    return raw


@pytest.fixture(scope="module")
def calibrate(survey, detrend):
    """Return the summary of a mishap's exposure, calibrated."""
    from proc_decam_dagster.instrument.formatters import read_table
    from proc_decam_dagster.tasks.calibrate_image import CalibrateImageTask

    gaia, ps1 = ([read_table(str(path)) for path in sorted((survey.folder / "refcats").glob(f"{name}/*/*.fits"))]
                 for name in ("GAIA_DR3", "ps1"))  # fmt: skip

    def run(kind):
        number = survey.exposures[kind if kind in MISHAPS else ""].expnum
        return CalibrateImageTask().run(detrend(kind), gaia, ps1, number, DETECTOR).summary

    return run


def test_clouds_of_two_magnitudes_are_measured(survey, calibrate):
    from proc_decam_dagster.simulation.mishaps import CLOUDS_MAG

    clouded = calibrate("clouds")
    assert clouded["zero_point"] == pytest.approx(survey.exposures["clouds"].zero_point - CLOUDS_MAG, abs=0.01)
    # five times the sky's noise over the PSF, in the light that is left
    area = clouded["psf_effective_area_px"]
    depth = clouded["zero_point"] - 2.5 * np.log10(5 * np.sqrt(area * clouded["sky_e"]))
    assert clouded["depth_5sigma_mag"] == pytest.approx(depth, abs=0.05)


def test_an_exposure_without_stars_fails_by_name(calibrate):
    from proc_decam_dagster.tasks.failure import CalibrationFailure

    with pytest.raises(CalibrationFailure, match="star|source"):
        calibrate("no stars")


def test_trailed_stars_fail_or_are_not_accepted(calibrate):
    from proc_decam_dagster.tasks.failure import CalibrationFailure

    try:
        summary = calibrate("trailed")
    except CalibrationFailure as failure:
        assert failure.metadata
        return
    judged = judge(Table(rows=[summary]), NO_STARS)
    assert not judged["accepted"][0]
    assert "stars trailed" in judged["reason"][0]


def test_a_saturated_field_fails_by_name(detrend):
    from proc_decam_dagster.tasks.failure import CalibrationFailure

    with pytest.raises(CalibrationFailure, match="of the pixels are saturated"):
        detrend("saturated")


def test_an_all_zero_extension_fails_by_name(detrend):
    from proc_decam_dagster.tasks.failure import CalibrationFailure

    with pytest.raises(CalibrationFailure, match="every pixel is 0 ADU"):
        detrend("all zero")


def test_a_dead_amplifier_is_masked_and_the_other_calibrated(survey, detrend, calibrate):
    image = detrend("dead A")
    dead, live = DETECTORS[DETECTOR].amplifier("A").bbox.slices, DETECTORS[DETECTOR].amplifier("B").bbox.slices
    assert image.metadata["dead_amplifiers"] == "A"
    assert (image.mask[dead] & BAD).all()
    assert (image.mask[live] & BAD != 0).mean() < 0.01
    summary = calibrate("dead A")
    assert summary["zero_point"] == pytest.approx(survey.exposures[""].zero_point, abs=0.005)
    assert summary["lost_amplifiers"] == "A" and summary["masked_fraction"] > 0.5
    judged = judge(Table(rows=[summary]), NO_STARS)
    assert judged["accepted"][0], judged["reason"][0]


@pytest.mark.full  # `test_calibrations` has it at less cost
def test_nan_in_a_master_is_a_bad_pixel_that_is_filled(survey, detrend):
    bias = survey.bias.copy()
    bias.image[1000:1003, 500] = np.nan
    image = detrend("", bias)
    assert np.isfinite(image.image).all()
    assert np.isfinite(image.variance).all()
    assert (image.mask[1000:1003, 500] & BAD).all()
    assert np.abs(image.image[1001, 500] / image.metadata["sky"] - 1) < 0.5


@pytest.mark.full
def test_bleeding_stars_are_saturated_to_the_end_of_their_trails(detrend):
    image = detrend("")
    bright = image.image > 0.97 * image.image.max()
    assert (image.mask[bright] & SAT).all()

"""Calibration tasks on full-size raws of one detector: five zeros, six flats and one science exposure."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.table import Table

from proc_decam_dagster.camera.crosstalk import sources
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.pixels.mask import BAD, CR, INTERP, SAT, SUSPECT

DETECTOR = 25
CAMERA = DETECTORS[DETECTOR]
FILTER = "g DECam SDSS c0001 4720.0 1520.0"
CROSSTALK = {"detector": DETECTOR, "sources": [list(row) for row in sources(DETECTOR)]}
DEAD_PIXELS = [(100, 200), (3000, 1500), (4000, 30)]


def headers(exposure, filter_name, exptime, signal=True):
    extension = Header({"CCDNUM": DETECTOR, "LTV1": 56.0, "LTV2": 50.0})
    for amplifier in CAMERA.amplifiers:
        extension[f"GAIN{amplifier.name}"] = amplifier.gain
        extension[f"RDNOISE{amplifier.name}"] = amplifier.read_noise
        extension[f"SATURAT{amplifier.name}"] = amplifier.saturation
    if signal:
        wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 149.4, "CRVAL2": 1.7, "CRPIX1": 2151.2,
               "CRPIX2": 14826.0, "CD1_1": 0.0, "CD1_2": 7.3e-5, "CD2_1": -7.3e-5, "CD2_2": 0.0}  # fmt: skip
        extension.update(wcs)
    primary = Header({"EXPNUM": exposure, "FILTER": filter_name, "EXPTIME": exptime, "MJD-OBS": 58574.0, "OBJECT": "x"})
    return extension, primary


class Night:
    """A night of one detector, its truth and its raws."""

    def __init__(self):
        self.rng = rng = np.random.default_rng(11)
        shape = (4096, 2048)
        y = np.arange(shape[0], dtype=np.float32)[:, None]
        self.bias = (2 * np.sin(np.arange(2048, dtype=np.float32) / 50) + 1.5 * np.exp(-y / 200)).astype(np.float32)
        self.response = (1 + 0.01 * rng.standard_normal(shape, np.float32)) * (1 - 0.05 * (y / 4096 - 0.5) ** 2)
        for row, column in DEAD_PIXELS:
            self.response[row, column] = 0.3
        self.gain = np.where(np.arange(2048) >= CAMERA.amplifier("A").bbox.x0, CAMERA.amplifier("A").gain, 0)
        self.gain = np.where(self.gain > 0, self.gain, CAMERA.amplifier("B").gain).astype(np.float32)
        self.scales = [60000 * (1 + 0.1 * k) for k in range(6)]

    def raw(self, exposure, electrons=None, charge=None, filter_name=FILTER, exptime=30.0):
        rng = self.rng
        data = 2000 + 1.6 * rng.standard_normal((4146, 2160), np.float32)
        for amplifier in CAMERA.amplifiers:
            box, area = amplifier.bbox, amplifier.raw_data
            value = self.bias[box.slices].copy()
            if electrons is not None:
                mean = electrons * self.response[box.slices]
                light = mean + np.sqrt(mean) * rng.standard_normal(mean.shape, np.float32)
                light += 0 if charge is None else charge[box.slices]
                value += light / np.float32(amplifier.gain)
            data[area.slices] += value
        data = np.clip(np.rint(data), 0, 65535).astype(np.uint16)
        extension, primary = headers(exposure, filter_name, exptime, electrons is not None)
        return SimpleNamespace(data=data, header=extension, primary=primary)


class Handle:
    """A deferred dataset: made only when asked for, and counted."""

    open = 0

    def __init__(self, make):
        self.make = make

    def get(self):
        return self.make()


@pytest.fixture(scope="module")
def night():
    return Night()


@pytest.fixture(scope="module")
def statistics():
    from proc_decam_dagster.tasks.raw_statistics import RawStatisticsTask

    task = RawStatisticsTask()
    return lambda raws: [task.run(raw).statistics for raw in raws]


@pytest.fixture(scope="module")
def bias(night, statistics):
    from proc_decam_dagster.tasks.bias import BiasCombineTask

    raws = {k: night.raw(k, filter_name="solid plate 0.0 0.0", exptime=0.0) for k in range(1, 6)}
    handles = {k: Handle(lambda raw=raw: raw) for k, raw in raws.items()}
    return BiasCombineTask().run(handles, statistics(raws.values()), detector=DETECTOR).bias


@pytest.fixture(scope="module")
def flat(night, statistics, bias):
    from proc_decam_dagster.tasks.flat import FlatCombineTask
    from proc_decam_dagster.tasks.flat_levels import FlatIsrTask, FlatMeasureTask, FlatNormalizeTask

    raws = {10 + k: night.raw(10 + k, np.float32(scale)) for k, scale in enumerate(night.scales)}
    health = statistics(raws.values())
    isr, measure = FlatIsrTask(), FlatMeasureTask()
    measured = [
        measure.run(isr.run(raw, row, bias, CROSSTALK).levels).statistics for raw, row in zip(raws.values(), health)
    ]
    scales = FlatNormalizeTask().run(measured).scales
    handles = {k: Handle(lambda raw=raw: raw) for k, raw in raws.items()}
    return FlatCombineTask().run(
        handles, health, scales, bias, CROSSTALK, detector=DETECTOR, physical_filter=FILTER
    ).flat  # fmt: skip


def robust(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def test_master_bias_reaches_theory(night, bias):
    residual = bias.image - night.bias
    theory = np.sqrt(1.6**2 + 1 / 12) / np.sqrt(5)
    assert robust(residual) < 1.05 * theory
    assert abs(residual.mean()) < 0.03
    assert bias.metadata["n_frames"] == 5
    assert bias.metadata["residual_noise"] == pytest.approx(theory, rel=0.05)


def test_master_flat_reaches_theory_and_has_unit_mean(night, flat):
    good = flat.mask == 0
    ratio = flat.image[good] / night.response[good]
    assert robust(ratio / np.median(ratio)) < 1.05 * np.sqrt(1.03 / sum(night.scales))
    assert np.median(flat.image) == pytest.approx(1, abs=2e-3)
    assert [tuple(p) for p in np.argwhere(flat.mask & BAD)] == sorted(DEAD_PIXELS)
    assert flat.metadata["n_defects"] == len(DEAD_PIXELS)


def test_science_frame_is_corrected_masked_and_repaired(night, statistics, bias, flat):
    from proc_decam_dagster.tasks.isr import IsrTask

    rng = np.random.default_rng(4)
    charge = np.zeros((4096, 2048), np.float32)
    rows, columns = rng.integers(10, 4086, 500), rng.integers(10, 2038, 500)
    charge[rows, columns] += rng.uniform(600, 3000, 500)
    charge[2000:2010, 700] = 3e5
    raw = night.raw(99, np.float32(800), charge, exptime=60.0)
    table = {name: [value] for name, value in zip(("x0", "y0", "width", "height"), (300, 400, 2, 50))}
    image = IsrTask().run(
        raw, statistics([raw])[0], bias, flat, CROSSTALK, defects=Table(table), suspectMask=Table(table | {"x0": [900]})
    ).outputExposure  # fmt: skip

    assert (image.mask[400:450, 300:302] & BAD).all()
    assert (image.mask[400:450, 900:902] & SUSPECT).all()
    assert (image.mask[1999:2011, 699:702] & SAT).all()
    hit = (image.mask[rows, columns] & (CR | INTERP)) == CR | INTERP
    assert hit.mean() > 0.98
    near = np.zeros(charge.shape, bool)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            near[rows + dy, columns + dx] = True
    found = (image.mask & CR) != 0
    false, rim = (found & ~near).sum(), (found & near).sum() - hit.sum()
    assert false <= 50  # the reach for a whole CCD
    assert rim < 0.25 * len(rows)
    clean = image.mask == 0
    # The flat has unit level, the response has not: the sky comes out times the response's level.
    sky = 800 * np.median(night.response)
    assert np.median(image.image[clean]) == pytest.approx(sky, rel=1e-3)
    assert robust(((image.image - sky) / np.sqrt(image.variance))[clean]) == pytest.approx(1, abs=0.02)
    assert abs(np.median(image.image[rows, columns]) - sky) < 5
    assert np.isfinite(image.image).all()

    assert list(image.wcs.wcs.crpix) == [2151.2, 14826.0]
    metadata = image.metadata
    assert (metadata["exposure"], metadata["detector"], metadata["band"]) == (99, DETECTOR, "g")
    assert metadata["physical_filter"] == FILTER
    assert metadata["mjd"] == pytest.approx(58574 + (37 + 30) / 86400, abs=1e-8)
    assert metadata["sky"] == pytest.approx(sky, rel=2e-3)
    assert metadata["gain_A"] == CAMERA.amplifier("A").gain
    assert metadata["fraction_bad"] > 100 / image.mask.size
    assert all(isinstance(value, str | int | float | bool) for value in metadata.values())


def test_survey_without_masks_still_runs_and_says_so(night, statistics, bias, flat):
    from proc_decam_dagster.tasks.isr import IsrTask

    raw = night.raw(98, np.float32(800))
    config = IsrTask.ConfigClass()
    config.doCosmicRays = False
    image = IsrTask(config=config).run(raw, statistics([raw])[0], bias, flat, CROSSTALK).outputExposure
    assert image.metadata["has_defects"] is False
    assert not (image.mask & CR).any()


def test_spoilt_frames_fail_by_name_or_are_flagged(night, statistics, bias, flat):
    from proc_decam_dagster.tasks.failure import CalibrationFailure
    from proc_decam_dagster.tasks.isr import IsrTask

    task = IsrTask()
    raw = night.raw(97, np.float32(800))
    zero = SimpleNamespace(data=np.zeros_like(raw.data), header=raw.header, primary=raw.primary)
    with pytest.raises(CalibrationFailure, match="exposure 97 detector 25 .*every pixel is 0 ADU"):
        task.run(zero, statistics([zero])[0], bias, flat, CROSSTALK)

    light = CAMERA.amplifier("A").raw_data.slices
    dark = SimpleNamespace(data=raw.data.copy(), header=raw.header, primary=raw.primary)
    dark.data[light] = np.clip(night.rng.normal(2000, 1.6, dark.data[light].shape), 0, 65535)
    image = task.run(dark, statistics([dark])[0], bias, flat, CROSSTALK).outputExposure
    assert image.metadata["dead_amplifiers"] == "A"
    assert (image.mask[CAMERA.amplifier("A").bbox.slices] & BAD).all()
    assert (image.mask[CAMERA.amplifier("B").bbox.slices] & BAD != 0).mean() < 1e-3

    broken = bias.copy()
    broken.image[1000:1003, 500] = np.nan
    image = task.run(raw, statistics([raw])[0], broken, flat, CROSSTALK).outputExposure
    assert np.isfinite(image.image).all()
    assert (image.mask[1000:1003, 500] & BAD).all()


def test_bright_pixels_of_other_detectors_reach_a_frame_through_their_table(night, statistics, bias, flat):
    """What `isrForCrosstalkSources` lists of CCD 26 (as if it were this one's raw) is taken off CCD 25."""
    from proc_decam_dagster.tasks.isr import IsrTask
    from proc_decam_dagster.tasks.raw_statistics import RawStatisticsTask

    config = RawStatisticsTask.ConfigClass()
    config.doCrosstalkSources = True
    charge = np.zeros((4096, 2048), np.float32)
    charge[500:520, 100:120] = 1e5
    raw = night.raw(96, np.float32(800), charge)
    listed = RawStatisticsTask(config=config).run(raw).sources
    assert (np.asarray(listed["signal"]) > 20000).sum() == pytest.approx(400, abs=5)
    listed["detector"] = 26
    listed = through_parquet(listed)
    table = {"detector": DETECTOR, "sources": [["B", 26, "B", 1e-3], ["A", 27, "A", 1e-4]]}
    isr = IsrTask()
    with_sources = isr.run(raw, statistics([raw])[0], bias, flat, table, crosstalkSources=[listed]).outputExposure
    without = isr.run(raw, statistics([raw])[0], bias, flat, table).outputExposure
    leak = (without.image - with_sources.image)[500:520, 100:120]
    assert np.median(leak) == pytest.approx(1e-3 * 1e5, rel=0.03)
    assert with_sources.metadata["crosstalk_not_corrected"] == "27"
    assert without.metadata["crosstalk_not_corrected"] == "26,27"


def through_parquet(table):
    """Return a table as the repository gives it back."""
    from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow

    return arrow_to_astropy(astropy_to_arrow(table))


def test_an_amplifier_without_bright_pixels_was_looked_at_all_the_same():
    from proc_decam_dagster.pixels.crosstalk import BrightPixels
    from proc_decam_dagster.tasks.raw_statistics import bright_pixels_of, table_of

    none = BrightPixels(*(np.zeros(0, kind) for kind in (np.int16, np.int16, np.float32, bool)))
    two = BrightPixels(np.array([3, 4], np.int16), np.array([5, 6], np.int16), np.array([3e4, 6e4], np.float32),
                       np.array([False, True]))  # fmt: skip
    found = bright_pixels_of([through_parquet(table_of({(7, "A"): none, (7, "B"): two}))])
    assert set(found) == {(7, "A"), (7, "B")} and len(found[7, "A"].signal) == 0
    assert found[7, "B"].row.tolist() == [3, 4] and found[7, "B"].saturated.tolist() == [False, True]
    assert found[7, "B"].signal.tolist() == [3e4, 6e4]


def test_too_few_frames_fail_with_numbers_and_reasons(statistics):
    from lsst.pipe.base import AlgorithmError, NoWorkFound

    from proc_decam_dagster.tasks.frames import TooFewFramesError, usable_frames

    amplifier = {"noise": 1.6, "signal": 0.0, "saturated_fraction": 0.0, "dead": False}
    rows = [{"exposure": k, "amplifiers": {"A": dict(amplifier), "B": dict(amplifier)}} for k in range(6)]
    rows[4]["amplifiers"]["A"]["signal"] = 500.0
    assert usable_frames("bias", 7, range(6), rows, 5)[0] == [0, 1, 2, 3, 5]
    with pytest.raises(TooFewFramesError, match="bias of detector 7: 4 usable frames, expected at least 5") as caught:
        usable_frames("bias", 7, range(6), rows[:5], 5)
    assert "exposure 4: amplifier A is +500.0 ADU off" in str(caught.value)
    assert "exposure 5: its raw statistics are missing" in str(caught.value)
    assert isinstance(caught.value, AlgorithmError)
    assert not isinstance(caught.value, NoWorkFound)
    assert caught.value.metadata["usable"] == 4


@pytest.mark.parametrize("name", ["bias", "flat"])
def test_pipelines_resolve_with_their_steps_in_order(name, pipelines):
    from lsst.daf.butler import DimensionUniverse
    from lsst.pipe.base import Pipeline

    from proc_decam_dagster.survey import datasets
    from proc_decam_dagster.survey.proc_types import PROC_TYPES

    graph = Pipeline.from_uri(str(pipelines / f"{name}.yaml")).to_graph()
    graph.resolve(dimensions=DimensionUniverse(), dataset_types={})
    assert tuple(sorted(graph.task_subsets)) == PROC_TYPES[name].steps
    assert {label for subset in graph.task_subsets.values() for label in subset} == set(graph.tasks)
    assert graph.dataset_types[PROC_TYPES[name].certifies].is_calibration
    inputs = {dataset for dataset, node in graph.dataset_types.items() if graph.producer_of(dataset) is None}
    assert inputs <= {datasets.RAW, datasets.BIAS, datasets.CROSSTALK, datasets.LINEARIZER}


@pytest.fixture
def pipelines():
    from pathlib import Path

    import proc_decam_dagster

    return Path(inspect.getfile(proc_decam_dagster)).parents[1] / "pipelines" / "embedded"

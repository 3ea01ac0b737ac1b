"""One full-size exposure on disk: the format of the file, the statistics of its pixels, and what the truth says."""

import hashlib

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS
from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.simulation import optics
from proc_decam_dagster.simulation.catalogue import moved


@pytest.fixture(scope="module")
def rows(survey):
    files = Table.read(survey / "archive" / "files.ecsv", format="ascii.ecsv")
    return {str(row["obs_type"]): row for row in files}


@pytest.fixture(scope="module")
def reduced(survey, rows):
    """Electrons of the trimmed CCD over the true bias and flat, by observation type; defects."""
    bias = fits.getdata(survey / "truth" / "bias_35.fits")
    flat = fits.getdata(survey / "truth" / "flat_r_35.fits")
    images = {}
    for kind, row in rows.items():
        raw = fitsio.read(survey / "archive" / row["path"], ext="N4").astype(np.float32)
        image = np.zeros(TRIMMED_SHAPE, np.float32)
        for a in DETECTORS[35].amplifiers:
            level = np.median(raw[a.raw_overscan.slices], axis=1, keepdims=True)
            image[a.bbox.slices] = (raw[a.raw_data.slices] - level - bias[a.bbox.slices]) * a.gain
        images[kind] = image if kind == "zero" else image / np.maximum(flat, 0.05)
    images["bad"] = (fits.getdata(survey / "truth" / "defects_35.fits") & 3) != 0
    return images


def scatter(values):
    return 1.4826 * np.median(abs(values - np.median(values)))


def test_file_is_in_the_archives_format(survey, rows):
    row = rows["object"]
    path = survey / "archive" / row["path"]
    assert hashlib.md5(path.read_bytes()).hexdigest() == row["md5sum"]
    assert path.stat().st_size == row["filesize"]
    with fits.open(path, disable_image_compression=True) as file:
        assert file[0].header["NEXTEND"] == len(file) - 1 == 3
        numbers = [hdu.header["CCDNUM"] for hdu in file[1:]]
        assert numbers.index(35) + 1 != 35 and max(numbers) > 62
        ccd = file["N4"].header
        assert (ccd["ZCMPTYPE"], ccd["ZNAXIS1"], ccd["ZNAXIS2"], ccd["ZBITPIX"]) == ("RICE_1", 2160, 4146, 16)
        assert (ccd["ZTILE1"], ccd["ZTILE2"]) == (2160, 1)
        assert ccd["BZERO"] == 32768 and ccd["EXTNAME"] == ccd["DETPOS"] == "N4"
    with fits.open(path) as file:
        assert file["N4"].data.dtype == np.uint16


def test_same_seed_same_bytes(survey, rows, tmp_path):
    from proc_decam_dagster.simulation.exposure import take
    from proc_decam_dagster.simulation.plan import exposures_of_night
    from proc_decam_dagster.simulation.scene import make_scene, sky_tables
    from proc_decam_dagster.simulation.survey import read_plan

    plan, [(night, kind)] = read_plan(survey)
    (tmp_path / "archive").mkdir()
    zero = exposures_of_night(plan, 0, night, kind)[0]
    truth = take(make_scene(plan, sky_tables(plan)), zero, tmp_path)
    assert truth.row["md5sum"] == rows["zero"]["md5sum"]


def test_zero_has_only_read_noise(reduced):
    for amplifier in DETECTORS[35].amplifiers:
        values = reduced["zero"][amplifier.bbox.slices]
        expected = np.hypot(amplifier.read_noise, amplifier.gain / np.sqrt(12))
        assert abs(np.median(values)) < 0.5
        # The overscan's median of 50 pixels adds a little over one part in fifty of the variance.
        assert scatter(values) == pytest.approx(expected * np.sqrt(1 + 1.57 / 50), rel=0.02)


def test_flat_has_photon_noise(survey, reduced):
    exposures = Table.read(survey / "truth" / "exposures.ecsv", format="ascii.ecsv")
    level = exposures["lamp_e"][exposures["obs_type"] == "dome flat"][0]
    good = reduced["dome flat"][~reduced["bad"]]
    assert np.median(good) == pytest.approx(level, rel=1e-3)
    assert scatter(good) == pytest.approx(np.sqrt(level + 12.1**2), rel=0.03)


def test_sky_has_its_level_and_noise(survey, reduced):
    truth = Table.read(survey / "truth" / "exposures.ecsv", format="ascii.ecsv")
    row = truth[truth["obs_type"] == "object"][0]
    block = reduced["object"][1900:2200, 900:1020]
    blank = block[abs(block - np.median(block)) < 3 * scatter(block)]
    # Faint stars and galaxies raise the median a little.
    assert row["sky_e"] * 0.98 < np.median(blank) < row["sky_e"] * 1.03
    assert blank.std() == pytest.approx(np.sqrt(row["sky_e"] + 12.1**2), rel=0.06)


def test_stars_are_where_and_as_bright_as_the_truth_says(survey, rows, reduced):
    import sep

    truth = Table.read(survey / "truth" / "exposures.ecsv", format="ascii.ecsv")
    row = truth[truth["obs_type"] == "object"][0]
    cards = dict(fits.Header.fromtextfile(survey / "truth" / "wcs" / f"{row['EXPNUM']}_35.hdr"))
    stars = Table.read(survey / "truth" / "stars.fits")
    stars = stars[(stars["r"] > 17) & (stars["r"] < 19.5) & (stars["amplitude"] == 0)].as_array()
    x, y = optics.sky_to_pixel(cards, *moved(stars, row["mjd"] + row["exptime"] / 2 / 86400))
    on = (x > 50) & (x < 1998) & (y > 50) & (y < 4046)
    assert on.sum() > 100
    image = reduced["object"]
    background = sep.Background(image, mask=reduced["bad"], bw=128, bh=128)
    image = image - background.back()
    flux, _, _ = sep.sum_circle(image, x[on], y[on], 15.0, mask=reduced["bad"])
    own = stars["r"] + COLOUR_TERMS["r"].offset(stars["g"] - stars["i"])
    off = own[on] + 2.5 * np.log10(flux) - row["zero_point"]
    assert abs(np.median(off)) < 0.01 and scatter(off) < 0.03
    x_found, y_found, _ = sep.winpos(image, x[on] + 0.3, y[on] - 0.3, np.full(on.sum(), row["seeing_px"] / 2.35))
    assert abs(np.median(x_found - x[on])) < 0.01 and abs(np.median(y_found - y[on])) < 0.01
    assert scatter(x_found - x[on]) < 0.05


def test_transients_shine_as_the_truth_says(survey, reduced):
    import sep

    fluxes = Table.read(survey / "truth" / "transient_fluxes.ecsv", format="ascii.ecsv")
    transients = Table.read(survey / "truth" / "transients.fits")
    alone = transients["id"][(transients["host_id"] == 0) & (transients["snr_nominal"] > 15)]
    chosen = fluxes[np.isin(fluxes["id"], alone) & fluxes["clean"]]
    assert len(chosen) > 8
    image = reduced["object"] - sep.Background(reduced["object"], mask=reduced["bad"], bw=64, bh=64).back()
    flux, _, _ = sep.sum_circle(image, chosen["x"], chosen["y"], 7.0)
    assert np.median(flux / chosen["flux_e"]) == pytest.approx(1, abs=0.15)
    scale = chosen["flux_njy"] / chosen["flux_e"]
    assert np.ptp(scale) < 1e-6 * scale.mean()


def test_saturated_stars_bleed(survey, rows):
    raw = fitsio.read(survey / "archive" / rows["object"]["path"], ext="N4")
    for amplifier in DETECTORS[35].amplifiers:
        data = raw[amplifier.raw_data.slices].astype(float)
        level = np.median(raw[amplifier.raw_overscan.slices])
        saturated = data - level > amplifier.saturation
        assert saturated.sum() > 10
        assert data.max() - level < amplifier.saturation * 1.04

"""DIA sources: found at the threshold, measured right, and doubted for the right reasons."""

import numpy as np
import pytest

from proc_decam_dagster.pixels.dia_sources import (
    detect_dia_sources,
    find_peaks,
    pixel_scatter,
    reliability,
    score_image,
)
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.mask import BAD, CR, DETECTED, DETECTED_NEGATIVE, NODATA, SAT, SUSPECT

SHAPE = (700, 640)
FWHM = 4.2
SIGMA = 50.0


def blank(sky, seed=1, shape=SHAPE, psf_size=31):
    """A difference of nothing but white noise."""
    rng = np.random.default_rng(seed)
    return MaskedImage(
        rng.normal(0, SIGMA, shape).astype(np.float32), np.full(shape, SIGMA**2, np.float32),
        np.zeros(shape, np.int32), sky.tan_wcs(shape), sky.psf_model(shape, FWHM, psf_size), 1.0,
    )  # fmt: skip


def flux_of_snr(sky, snr):
    return snr * SIGMA * np.sqrt(sky.psf_model(SHAPE, FWHM).effective_area(0, 0)) * 1.0


def grid(step=50, seed=0):
    rng = np.random.default_rng(seed)
    x, y = (a.ravel() + 0.0 for a in np.meshgrid(np.arange(40, 610, step), np.arange(40, 670, step)))
    return x + rng.uniform(-3, 3, x.size), y + rng.uniform(-3, 3, y.size)


def matched(table, x, y, reach=3.0):
    """Return for each position the row that lies there, or -1."""
    if not len(table):
        return np.full(len(x), -1)
    distance = np.hypot(np.asarray(table["x"])[None] - x[:, None], np.asarray(table["y"])[None] - y[:, None])
    return np.where(distance.min(1) < reach, distance.argmin(1), -1)


def test_score_of_noise_is_normal(sky):
    """Unit scatter, and no source in white noise at 5 σ (less than one in 40 images of this size is expected)."""
    result = score_image(blank(sky))
    assert result.noise_scale == pytest.approx(1.0, abs=0.03)
    assert result.score.std() == pytest.approx(1.0, abs=0.02)
    assert len(detect_dia_sources(blank(sky))) <= 1


def test_score_is_normalised_to_the_measured_noise(sky):
    """Noise that the variance understates on the PSF's scale, by correlation, yields no more false sources."""
    difference = blank(sky)
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(difference.image, 0.6)
    difference.image = (smooth * (SIGMA / smooth.std())).astype(np.float32)
    result = score_image(difference)
    assert result.noise_scale > 1.2
    assert result.score.std() == pytest.approx(1.0, abs=0.03)
    assert len(detect_dia_sources(difference)) <= 1


@pytest.mark.parametrize("snr, least", [(10, 0.98), (6, 0.7), (40, 1.0)])
def test_completeness_and_measurement(sky, snr, least):
    """Transients are found, with flux, error and position right."""
    difference = blank(sky, seed=3)
    x, y = grid()
    flux = flux_of_snr(sky, snr)
    sky.add_stars(difference.image, x, y, np.full(len(x), flux), FWHM)
    table = detect_dia_sources(difference)
    row = matched(table, x, y)
    assert (row >= 0).mean() >= least
    found = table[row[row >= 0]]
    if snr >= 10:
        assert np.mean(found["flux"] / flux) == pytest.approx(1.0, abs=0.02)
        assert np.std((found["flux"] - flux) / found["flux_err"]) == pytest.approx(1.0, abs=0.2)
        off = np.hypot(found["x"] - x[row >= 0], found["y"] - y[row >= 0])
        assert np.median(off) < 1.6 * np.median(found["x_err"])
        assert np.median(found["reliability"]) > 0.8 and not found["dipole"].any() and not found["negative"].any()
        assert np.median(found["snr"]) == pytest.approx(snr, rel=0.12)  # the many wings raise the noise
    if snr == 40:
        assert np.median(found["ixx"]) == pytest.approx(np.median(found["iyy"]), rel=0.05)
        assert (difference.mask[found["y"].astype(int), found["x"].astype(int)] & DETECTED).all()
    assert len(table) - (row >= 0).sum() <= 2


def test_negative_sources_are_flagged(sky):
    """What faded is found and called negative."""
    difference = blank(sky)
    sky.add_stars(difference.image, 300.3, 200.6, -flux_of_snr(sky, 15), FWHM)
    (source,) = detect_dia_sources(difference)
    assert source["negative"] and source["snr"] < -10 and source["flux"] < 0
    assert difference.mask[200, 300] & DETECTED_NEGATIVE


def test_dipoles_are_flagged(sky):
    """A star subtracted half a pixel off is a dipole of low reliability; a single transient is none."""
    difference = blank(sky)
    flux = flux_of_snr(sky, 150)
    sky.add_stars(difference.image, [300.0, 300.8], [200.0, 200.3], [flux, -flux], FWHM)
    sky.add_stars(difference.image, 500.0, 400.0, flux, FWHM)
    table = detect_dia_sources(difference)
    near = np.hypot(table["x"] - 300, table["y"] - 200) < 12
    assert near.sum() >= 2 and table["dipole"][near].all() and (table["reliability"][near] < 0.15).all()
    single = table[matched(table, np.array([500.0]), np.array([400.0]))[0]]
    assert not single["dipole"] and single["reliability"] > 0.7


def test_a_cosmic_ray_looks_unlike_a_star(sky):
    """A single hot pixel is found with little reliability."""
    difference = blank(sky)
    difference.image[300, 300] += 40 * SIGMA
    table = detect_dia_sources(difference)
    assert len(table) == 1 and table["reliability"][0] < 0.2 and table["sharpness"][0] > 1.5


def test_masks(sky):
    """Nothing is found on unusable pixels; a source beside them carries their flag, at the edge that of the edge."""
    difference = blank(sky)
    difference.image[100:140, 100:140] = 1e6
    difference.mask[100:140, 100:140] |= SAT
    difference.image[:, 620:] = np.nan
    difference.variance[:, 620:] = np.inf
    difference.mask[:, 620:] |= NODATA
    difference.mask[350, 401:403] |= CR
    for x, y in ((400.4, 350.2), (5.0, 400.0), (300.0, 500.0)):
        sky.add_stars(difference.image, x, y, flux_of_snr(sky, 30), FWHM)
    table = detect_dia_sources(difference)
    rows = matched(table, np.array([400.4, 5.0, 300.0]), np.array([350.2, 400.0, 500.0]))
    assert (rows >= 0).all() and len(table) == 3
    beside, edge, free = (table[r] for r in rows)
    assert (
        beside["cosmic_ray"]
        and not edge["cosmic_ray"]
        and edge["edge"]
        and edge["flux"] == pytest.approx(flux_of_snr(sky, 30), rel=0.12)
    )
    assert free["flags"] == 0 and free["reliability"] > max(beside["reliability"], 0.8)


def test_nothing_to_measure(sky):
    """An image without a usable pixel gives an empty table with all columns."""
    difference = blank(sky)
    difference.mask[:] |= NODATA
    table = detect_dia_sources(difference)
    assert len(table) == 0 and {"x", "y", "flux", "reliability", "dipole", "edge"} <= set(table.colnames)


def test_peaks_of_a_plateau_count_once():
    """Equal neighbours give one peak."""
    score = np.zeros((30, 30), np.float32)
    score[10, 10:12] = 7
    x, y = find_peaks(score, 5.0)
    assert list(zip(x, y)) == [(10, 10)]


def test_a_hit_narrower_than_the_psf_is_doubted(sky):
    """What a cosmic ray leaves in two pixels is significant without the shape of a source; sources are not doubted."""
    difference = blank(sky, seed=4)
    x, y = grid()
    rays = np.arange(len(x)) % 2 == 0
    sky.add_stars(difference.image, x[~rays], y[~rays], np.full(sum(~rays), flux_of_snr(sky, 9)), FWHM)
    for column, row in zip(x[rays].astype(int), y[rays].astype(int)):
        difference.image[row, column : column + 2] += 12 * SIGMA
    table = detect_dia_sources(difference)
    found = matched(table, x, y)
    score = np.where(found >= 0, np.asarray(table["reliability"])[found], 0)
    assert np.mean(score[~rays] > 0.5) > 0.97
    assert np.mean(score[rays] > 0.5) < 0.1


def test_a_source_on_suspect_pixels_is_doubted_less_than_one_on_bad_ones(sky):
    """A suspect pixel has a value: a good source there stays above one half, one beside a bad pixel does not."""
    difference = blank(sky, seed=5)
    x, y = np.array([100.0, 300.0, 500.0]), np.array([200.0, 200.0, 200.0])
    sky.add_stars(difference.image, x, y, np.full(3, flux_of_snr(sky, 25)), FWHM)
    difference.mask[199:202, 299:302] |= SUSPECT
    difference.mask[200, 501] |= BAD
    table = detect_dia_sources(difference)
    good, suspect, bad = np.asarray(table["reliability"])[matched(table, x, y)]
    assert good > 0.9 and 0.5 < suspect < good and bad < 0.5


def test_flux_and_significance_must_agree(sky):
    """On the flank of a bright star the score trusts the quiet pixels, and calls a residual there a source."""
    difference = blank(sky, seed=6)
    sky.add_stars(difference.image, [300.0], [300.0], flux_of_snr(sky, 12), FWHM)
    table = detect_dia_sources(difference)
    (row,) = table[np.abs(table["snr"]) > 8]
    assert row["reliability"] > 0.9
    table["flux"][table["snr"] == row["snr"]] *= 0.3
    assert reliability(table)[table["snr"] == row["snr"]][0] < 0.1


def test_sources_do_not_widen_the_measured_noise(sky):
    """Where the wings of sources cover two fifths of the pixels, the noise is measured between them."""
    difference = blank(sky)
    x, y = grid(step=50)
    sky.add_stars(difference.image, x, y, np.full(len(x), flux_of_snr(sky, 15.0)), FWHM)
    assert score_image(difference).noise_scale == pytest.approx(score_image(blank(sky)).noise_scale, abs=0.02)


def test_pixels_that_scatter_more_are_no_bad_fit(sky):
    """Where the template has fewer inputs pixels scatter more: known by cell, and no reason to doubt a source."""
    difference = blank(sky)
    difference.image[:, 480:] *= 1.8
    x, y = np.array([100.0, 300.0, 560.0, 600.0]), np.array([350.0, 100.0, 350.0, 120.0])
    np.testing.assert_allclose(pixel_scatter(difference, x, y), [1.0, 1.0, 1.8, 1.8], rtol=0.12)
    sky.add_stars(difference.image, x, y, np.full(4, flux_of_snr(sky, 25.0)), FWHM)
    table = detect_dia_sources(difference)
    found = table[matched(table, x, y)]
    assert np.asarray(found["chi2"]).max() < 1.6 and np.asarray(found["reliability"]).min() > 0.5

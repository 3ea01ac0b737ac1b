"""Calibration against the real sky: a visit over real Pan-STARRS1 and Gaia stars; a Community-Pipeline image."""

from types import SimpleNamespace

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS
from scipy.spatial import cKDTree
from sky_scene import SCALE, tan_wcs

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS
from proc_decam_dagster.camera.distortion import detector_outline, tpv_header
from proc_decam_dagster.camera.geometry import TRIMMED_SHAPE
from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.astrometry import solve
from proc_decam_dagster.pixels.calibrate import calibrate
from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.measurement import clean, detect_sources
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.psf_model import AB_ZERO_POINT, PsfModel
from proc_decam_dagster.pixels.psf_shape import fit_moffat, moffat
from proc_decam_dagster.pixels.reference import read
from proc_decam_dagster.pixels.tangent import project
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.simulation import optics, rendering

CENTRE, DETECTOR, MJD, BAND, ZERO_POINT, SKY = (149.4, 1.7), 25, 58600.2, "r", 31.9, 2500.0


def offset_header(cards, ra_arcsec, dec_arcsec):
    return WCS(fits.Header(cards | {"CRVAL1": cards["CRVAL1"] + ra_arcsec / 3600,
                                    "CRVAL2": cards["CRVAL2"] + dec_arcsec / 3600}))  # fmt: skip


@pytest.fixture(scope="module")
def visit(shared_data):
    """A CCD that sees every star of the real Pan-STARRS1 shards, at its Gaia place where it has one; calibrated."""
    gaia, ps1 = (
        [Table.read(f, unit_parse_strict="silent") for f in sorted(shared_data.glob(f"refcats/{name}*/*.fits"))]
        for name in ("gaia", "ps1")
    )
    term = COLOUR_TERMS[BAND]
    true = read(ps1, f"{term.primary}_flux", MJD, term=term)
    true = true.take(np.isfinite(true.flux) & (true.flux > 1500))
    moved = read(gaia, "phot_g_mean_flux", MJD)
    ra, dec = true.ra.copy(), true.dec.copy()
    tree = cKDTree(np.stack(project(moved.ra, moved.dec, *CENTRE), 1) * 3600)
    distance, nearest = tree.query(np.stack(project(ra, dec, *CENTRE), 1) * 3600, distance_upper_bound=0.6)
    both = np.isfinite(distance)
    ra[both], dec[both] = moved.ra[nearest[both]], moved.dec[nearest[both]]

    middle = detector_outline(DETECTOR, *CENTRE).mean(0)
    cards = tpv_header(DETECTOR, 2 * CENTRE[0] - middle[0], 2 * CENTRE[1] - middle[1])
    x, y = optics.sky_to_pixel(cards, ra, dec, 0.21)
    seen = np.isfinite(x) & (x > -40) & (y > -40) & (x < TRIMMED_SHAPE[1] + 40) & (y < TRIMMED_SHAPE[0] + 40)
    psf = optics.PsfField(4.0, 3.6, (0.4, 0.2, 0.9, 0.3, 0.5, 0.1, 0.7, 0.6))
    light = np.full(TRIMMED_SHAPE, SKY, np.float32)
    flux = true.flux * 10 ** ((ZERO_POINT - AB_ZERO_POINT) / 2.5)
    rendering.draw_stars(light, x[seen], y[seen], flux[seen], psf)
    rng = np.random.default_rng(3)
    image = rng.poisson(light).astype(np.float32)
    full = light > 150_000
    exposure = MaskedImage(
        np.where(full, 150_000, image), light, np.where(full, planes.SAT, 0).astype(np.int32),
        offset_header(cards, 12, -17), metadata={"band": BAND},
    )  # fmt: skip
    result = calibrate(exposure, gaia, ps1, BAND, MJD)
    return SimpleNamespace(result=result, cards=cards, gaia=moved, psf=psf)


def wcs_errors_mas(found, cards):
    """Return the mean and rms errors of a WCS over the CCD, mas."""
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, 2047, 9), np.linspace(0, 4095, 18)))
    a, b = found.all_pix2world(x, y, 0), optics.pixel_to_sky(cards, x, y)
    error = np.stack([(a[0] - b[0]) * np.cos(np.deg2rad(b[1])), a[1] - b[1]]) * 3.6e6
    return np.abs(error.mean(1)).max(), np.sqrt((error**2).mean())


def test_a_visit_over_the_real_stars_is_calibrated(visit):
    summary = visit.result.summary
    mean, rms = wcs_errors_mas(visit.result.exposure.wcs, visit.cards)
    assert mean < 5 and rms < 8
    assert visit.result.exposure.metadata["colour_term"] == "g-i"
    assert summary["zero_point"] == pytest.approx(ZERO_POINT, abs=0.003)
    assert summary["n_zero_point_stars"] > 50
    for place in ((300, 500), (1024, 2048), (1800, 3700)):
        truth = PsfModel(visit.psf.stamp(*place)[None], 0, TRIMMED_SHAPE).fwhm(*place)
        assert visit.result.exposure.psf.fwhm(*place) == pytest.approx(truth, rel=0.012)


def solved(visit, header, stars):
    sources = visit.result.sources
    good = sources[clean(sources) & (np.asarray(sources["snr"]) > 12)]
    return solve(header, TRIMMED_SHAPE, *(np.asarray(good[c]) for c in ("x", "y", "psf_flux_e", "snr")),
                 visit.result.summary["seeing_fwhm_px"], stars)  # fmt: skip


def test_a_pointing_error_of_two_arcminutes_is_solved(visit):
    fit = solved(visit, offset_header(visit.cards, -85, 85), visit.gaia)
    mean, rms = wcs_errors_mas(fit.wcs, visit.cards)
    assert mean < 5 and rms < 8
    assert np.hypot(*fit.offset_arcsec) == pytest.approx(120, abs=1)


@pytest.mark.parametrize("degrees", [(0.15, 0.0), (0.0, -0.12), (-0.2, 0.2)])
def test_a_wrong_field_is_refused(visit, degrees):
    """Eight arcminutes and more off: real stars, but none of those on the image."""
    with pytest.raises(MeasurementFailure):
        solved(visit, offset_header(visit.cards, 3600 * degrees[0], 3600 * degrees[1]), visit.gaia)


GAIA_TO_Z = (0.4811198057, -0.9990015041, 0.1403990019, 0.2150988888, -0.2917655866, 0.1326831887, -0.0259205004,
             0.0018548776)  # fmt: skip
"""DECam z minus G as a polynomial of BP - RP, of the Legacy Surveys (R. Zhou 2020)."""
GAIA_SCATTER = 0.03
"""Scatter of single stars about it, mag: metallicity and gravity of red dwarfs."""


def community_image(path):
    """Return an image of the Community Pipeline, with its mask and weights, and both headers."""
    image, quality, weight = (fits.open(str(path).replace("_ooi_", f"_{kind}_")) for kind in ("ooi", "ood", "oow"))
    header = image[1].header
    data = image[1].data.astype(np.float32)
    data -= sep.Background(data, bw=64, bh=64).back() if min(data.shape) > 64 else np.median(data)
    w = weight[1].data
    lost = (quality[1].data != 0) | (w <= 0)
    # The pipeline's weights are those of the sky; a star's own photons are added at its gain, about 4 e-/ADU.
    variance = np.where(lost, 0, 1 / np.where(lost, 1, w)) + np.maximum(data, 0) / header["GAINA"]
    mask = np.where(lost, planes.BAD, 0).astype(np.int32)
    return MaskedImage(data, variance.astype(np.float32), mask, WCS(header)), header, image[0].header


def test_exposures_of_three_ccds_see_one_source_at_one_place(shared_data):
    """Four years, three bands, native TPV: alike to 0.1 arcsec, and so they coadd."""
    folder = shared_data / "sky" / "legacypipe" / "testcase3"
    places, red = [], []
    for path in sorted(folder.glob("*_ooi_*.fits")):
        exposure, header, _ = community_image(path)
        sources = detect_sources(exposure, header["FWHM"], 5.0)
        brightest = sources[np.argmax(sources["aperture_e"])]
        places.append(exposure.wcs.all_pix2world(brightest["x"], brightest["y"], 0))
        if "_z_" in path.name:
            exposure.flux_scale = 1e4 / float(brightest["aperture_e"])
            red.append(exposure)
    places = np.array(places)
    assert len(places) == 8
    off = (places - places.mean(0)) * [np.cos(np.deg2rad(places[0, 1])), 1] * 3600
    assert np.abs(off).max() < 0.1
    wcs, shape = tan_wcs((60, 60), *places.mean(0)), (60, 60)
    combined, count = coadd([warp([each], wcs, shape) for each in red], 3, shape, statistic="mean")
    assert count[30, 30] == 3
    sources = detect_sources(combined, 3.3, 5.0)
    (only,) = sources[np.asarray(sources["aperture_e"]) > 3000]
    assert np.hypot(only["x"] - 29.5, only["y"] - 29.5) * SCALE < 0.1
    assert only["aperture_e"] == pytest.approx(1e4, rel=0.05)


def test_fluxes_agree_with_the_community_pipeline(shared_data):
    """Its image, mask and weights; PSF fluxes with its zero point against z predicted from Gaia's three bands."""
    folder = shared_data / "sky" / "legacypipe" / "testcase4"
    exposure, header, primary = community_image(next(folder.glob("*_ooi_*.fits")))
    data, variance = exposure.image, exposure.variance
    gaia = vstack([t for t in map(Table.read, sorted(folder.glob("chunk-*.fits"))) if len(t)])
    years = (primary["MJD-OBS"] - 51544.5) / 365.25 + 2000 - np.asarray(gaia["ref_epoch"])
    dec = gaia["dec"] + np.nan_to_num(gaia["pmdec"]) * years / 3.6e6
    ra = gaia["ra"] + np.nan_to_num(gaia["pmra"]) * years / 3.6e6 / np.cos(np.deg2rad(dec))
    x, y = exposure.wcs.all_world2pix(ra, dec, 0, quiet=True)
    on = (x > 10) & (y > 10) & (x < data.shape[1] - 10) & (y < data.shape[0] - 10)
    gaia, x, y = gaia[on], x[on], y[on]
    assert len(gaia) == 3

    sources = detect_sources(exposure, header["FWHM"], 5.0)
    distance, nearest = cKDTree(np.stack([sources["x"], sources["y"]], 1)).query(np.stack([x, y], 1))
    assert (distance * 0.263 < 0.1).all()  # the native TPV WCS and the centroids agree
    brightest = sources[nearest[np.argmin(gaia["phot_g_mean_mag"])]]
    bx, by = float(brightest["x"]), float(brightest["y"])
    cut = np.s_[int(by + 0.5) - 13 : int(by + 0.5) + 14, int(bx + 0.5) - 13 : int(bx + 0.5) + 14]
    stamp = data[cut]
    _, shape, _ = fit_moffat(stamp, np.hypot(np.sqrt(variance[cut]), 0.01 * stamp), header["FWHM"])
    profile = moffat(37, np.exp(shape[0]), shape[3], shape[1], shape[2])
    psf = PsfModel(profile[None], 0, data.shape)
    fitted = psf_fluxes(exposure, sources["x"][nearest], sources["y"][nearest], psf)

    colour = np.asarray(gaia["phot_bp_mean_mag"] - gaia["phot_rp_mean_mag"], float)
    polynomial = np.polynomial.Polynomial(GAIA_TO_Z)
    predicted = np.asarray(gaia["phot_g_mean_mag"]) + polynomial(colour)
    over = [1.0857 / np.asarray(gaia[f"phot_{b}_mean_flux_over_error"]) for b in ("bp", "rp")]
    sigma = np.sqrt((polynomial.deriv()(colour) * np.hypot(*over)) ** 2 + GAIA_SCATTER**2
                    + (1.0857 * fitted.flux_err / fitted.flux) ** 2)  # fmt: skip
    difference = primary["MAGZERO"] - 2.5 * np.log10(fitted.flux) - predicted
    assert (np.abs(difference) < np.maximum(0.02, 3 * sigma)).all()
    # Total light: what a wide aperture of the brightest holds, and no more than the PSF says is outside of it.
    aperture = float(sep.sum_circle(data, [bx], [by], 15.0, subpix=5)[0][0])
    assert fitted.flux[np.argmin(gaia["phot_g_mean_mag"])] == pytest.approx(aperture, rel=0.03)

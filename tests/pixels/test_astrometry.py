"""The WCS: recovered on DECam's own distortion and real Gaia stars, kept through a header, refused where wrong."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from proc_decam_dagster.camera.distortion import SOLUTIONS, detector_outline, sky_to_pixel, tpv_header
from proc_decam_dagster.pixels.astrometry import find_offset, solve
from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.reference import ReferenceStars, read
from proc_decam_dagster.pixels.tangent import PlateModel

SHAPE, FWHM, PIXEL_MAS = (4096, 2048), 4.0, 263.0
CENTRE = (149.4, 1.7)


def pointing_onto(detector):
    """Return the pointing that puts a detector's middle at the centre of the real catalogues."""
    middle = detector_outline(detector, *CENTRE).mean(0)
    return 2 * CENTRE[0] - middle[0], 2 * CENTRE[1] - middle[1]


def random_stars(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    ra, dec = CENTRE[0] + rng.uniform(-0.25, 0.25, n), CENTRE[1] + rng.uniform(-0.25, 0.25, n)
    flux = 10 ** rng.uniform(3.5, 6, n)
    return ReferenceStars(ra, dec, np.full(n, 0.5), flux, flux / 200)


def observe(detector, stars, *, offset=(0.0, 0.0), seed=1, solution=SOLUTIONS[0]):
    """Return the true WCS, a header WCS off by an offset (arcsec), and sources with noisy centroids."""
    rng = np.random.default_rng(seed)
    pointing = pointing_onto(detector)
    x, y = sky_to_pixel(detector, stars.ra, stars.dec, *pointing)
    on = (x > 5) & (y > 5) & (x < SHAPE[1] - 5) & (y < SHAPE[0] - 5)
    flux = np.where(np.isfinite(stars.flux), stars.flux, 1e4)[on]
    snr = np.clip(flux / 300, 12, 800)
    error = np.hypot(FWHM / 2.35 / snr, 0.01)
    true = WCS(fits.Header(tpv_header(detector, *pointing)))
    cards = tpv_header(detector, *pointing, solution)
    cards["CRVAL1"] += offset[0] / 3600
    cards["CRVAL2"] += offset[1] / 3600
    x, y = x[on] + error * rng.normal(size=on.sum()), y[on] + error * rng.normal(size=on.sum())
    return true, WCS(fits.Header(cards)), x, y, flux, snr


def errors_mas(found, true):
    """Return the rms and largest error of a WCS over the detector, mas."""
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, 2047, 12), np.linspace(0, 4095, 24)))
    a, b = found.all_pix2world(x, y, 0), true.all_pix2world(x, y, 0)
    difference = np.stack([(a[0] - b[0]) * np.cos(np.deg2rad(b[1])), a[1] - b[1]]) * 3.6e6
    return np.sqrt((difference**2).mean()), np.abs(difference).max()


@pytest.mark.parametrize("detector", [1, 25, 62])
def test_plate_model_follows_a_detectors_distortion(detector):
    true = WCS(fits.Header(tpv_header(detector, *pointing_onto(detector))))
    plate = PlateModel.of_wcs(true, SHAPE)
    assert errors_mas(plate.wcs(), true)[1] < 0.1
    x, y = np.array([0.0, 2047, 1000]), np.array([4095.0, 0, 2000])
    again = plate.wcs().all_world2pix(*plate.wcs().all_pix2world(x, y, 0), 0)
    assert np.abs(np.stack(again) - [x, y]).max() < 1e-4


@pytest.mark.parametrize(("detector", "offset"), [(1, (25.0, -18.0)), (62, (-29.0, 3.0))])
def test_pointing_error_is_corrected(detector, offset):
    stars = random_stars()
    true, header, *sources = observe(detector, stars, offset=offset)
    fit = solve(header, SHAPE, *sources, FWHM, stars)
    assert errors_mas(fit.wcs, true)[0] < 2
    assert fit.n_matched > 0.9 * len(sources[0])
    assert np.hypot(*(np.array(fit.offset_arcsec) + offset)) < 0.2
    assert fit.degree == 1


def test_another_nights_distortion_is_bent_to_fit():
    stars = random_stars()
    true, header, *sources = observe(30, stars, solution=SOLUTIONS[1], offset=(5.0, 5.0))
    assert errors_mas(PlateModel.of_wcs(header, SHAPE).wcs(), true)[0] > 100
    fit = solve(header, SHAPE, *sources, FWHM, stars)
    assert errors_mas(fit.wcs, true)[0] < 4


def test_a_pointing_error_of_arcminutes_is_found():
    stars = random_stars()
    true, header, *sources = observe(20, stars, offset=(-100.0, 120.0))
    assert errors_mas(solve(header, SHAPE, *sources, FWHM, stars).wcs, true)[0] < 3
    with pytest.raises(MeasurementFailure, match="no pointing offset"):
        solve(header, SHAPE, *sources, FWHM, stars, search_arcsec=(40.0,))


def test_wcs_survives_a_header():
    stars = random_stars()
    _, header, *sources = observe(25, stars, offset=(10.0, 10.0))
    wcs = solve(header, SHAPE, *sources, FWHM, stars).wcs
    header = fits.Header.fromstring(wcs.to_header().tostring())
    assert (header["CTYPE1"], header["CTYPE2"]) == ("RA---TPV", "DEC--TPV")
    assert errors_mas(WCS(header), wcs)[1] < 0.01


def test_the_wrong_field_is_refused():
    _, header, *sources = observe(25, random_stars(seed=0))
    with pytest.raises(MeasurementFailure):
        solve(header, SHAPE, *sources, FWHM, random_stars(seed=9))


def test_too_few_stars_are_refused_with_their_number():
    stars = random_stars(120)
    _, header, *sources = observe(25, stars)
    few = [part[:9] for part in sources]
    with pytest.raises(MeasurementFailure, match="9 sources") as failure:
        solve(header, SHAPE, *few, FWHM, stars)
    assert failure.value.figures["n_sources"] == 9


def test_spurious_sources_do_no_harm():
    stars = random_stars(2000)
    true, header, x, y, flux, snr = observe(25, stars, offset=(20.0, 0.0))
    rng = np.random.default_rng(8)
    n = len(x)
    x, y = np.append(x, rng.uniform(0, 2047, n)), np.append(y, rng.uniform(0, 4095, n))
    fit = solve(header, SHAPE, x, y, np.append(flux, flux), np.append(snr, snr), FWHM, stars)
    assert errors_mas(fit.wcs, true)[0] < 3


def test_find_offset_tells_peak_from_chance():
    rng = np.random.default_rng(3)
    reference = rng.uniform(-300, 300, (150, 2))
    sources = reference[:100] - [12.0, -7.0] + rng.normal(0, 0.05, (100, 2))
    offset, peak, chance = find_offset(sources, reference, 40.0)
    assert np.abs(offset - [12, -7]).max() < 0.05
    assert peak > 90 and chance < 5


def test_real_gaia_stars_solve_a_field(shared_data):
    shards = [Table.read(f, unit_parse_strict="silent") for f in sorted(shared_data.glob("refcats/gaia_dr2*/*.fits"))]
    mjd = 58600.0
    stars = read(shards, "phot_g_mean_flux", mjd)
    true, header, *sources = observe(25, stars, offset=(12.0, -17.0))
    fit = solve(header, SHAPE, *sources, FWHM, stars)
    assert len(sources[0]) < 300
    assert errors_mas(fit.wcs, true)[0] < 5
    unmoved = read(shards, "phot_g_mean_flux", float(np.median(shards[0]["epoch"])))
    assert np.abs(stars.ra - unmoved.ra).max() * 3.6e6 > 50

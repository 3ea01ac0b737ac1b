"""The distortion puts the CCDs where the real camera has them."""

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.distortion import (
    SOLUTIONS,
    detector_outline,
    field_radius_deg,
    pixel_to_sky,
    sky_to_pixel,
    tpv_header,
)
from proc_decam_dagster.camera.geometry import PIXEL_SCALE

POINTING = (149.4, 1.7)


def grid():
    y, x = (each.ravel() for each in np.mgrid[0:4095:7j, 0:2047:5j])
    return x, y


def separation(ra1, dec1, ra2, dec2):
    """Angle in arcseconds, exact for small ones."""
    a = np.radians(np.broadcast_arrays(ra1, dec1, ra2, dec2))
    h = np.sin((a[3] - a[1]) / 2) ** 2 + np.cos(a[1]) * np.cos(a[3]) * np.sin((a[2] - a[0]) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(h))) * 3600


@pytest.mark.parametrize("solution", SOLUTIONS)
@pytest.mark.parametrize("detector", [1, 2, 25, 31, 35, 61, 62])
def test_header_and_functions_and_their_inverses_agree(detector, solution):
    x, y = grid()
    wcs = WCS(fits.Header(tpv_header(detector, *POINTING, solution)))
    ra, dec = wcs.all_pix2world(x, y, 0)
    assert separation(ra, dec, *pixel_to_sky(detector, x, y, *POINTING, solution)).max() < 1e-6
    for back in (wcs.all_world2pix(ra, dec, 0), sky_to_pixel(detector, ra, dec, *POINTING, solution)):
        assert np.abs(np.subtract(back, (x, y))).max() < 1e-3


def test_pointing_near_the_pole_and_across_ra_zero():
    x, y = grid()
    for pointing in ((0.01, -30.0), (359.99, 0.0), (10.0, -89.5)):
        ra, dec = pixel_to_sky(28, x, y, *pointing)
        assert ((ra >= 0) & (ra < 360)).all()
        assert np.abs(np.subtract(sky_to_pixel(28, ra, dec, *pointing), (x, y))).max() < 1e-3


def test_far_positions_are_not_on_the_detector():
    x, _ = sky_to_pixel(28, np.array([149.4, 329.4, 159.4]), np.array([1.7, -1.7, 1.7]), *POINTING)
    assert np.isfinite(x).tolist() == [True, False, False]


@pytest.mark.parametrize("solution", SOLUTIONS)
@pytest.mark.parametrize("detector", [1, 25, 35, 61, 62])
def test_no_position_is_put_on_a_detector_where_it_does_not_belong(detector, solution):
    xi, eta = (each.ravel() for each in np.meshgrid(np.linspace(-3.5, 3.5, 141), np.linspace(-3.5, 3.5, 141)))
    x, y = sky_to_pixel(detector, 150 + xi, eta, 150.0, 0.0, solution)
    inside = (x > -0.5) & (x < 2047.5) & (y > -0.5) & (y < 4095.5)
    assert 10 < inside.sum() < 30
    back = pixel_to_sky(detector, x[inside], y[inside], 150.0, 0.0, solution)
    assert separation(150 + xi[inside], eta[inside], *back).max() < 1e-3


def test_reference_pixels_are_those_of_a_real_raw_header(shared_data):
    header = yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())
    cards = tpv_header(25, 0, 0)
    assert cards["CRPIX1"] == pytest.approx(header["CRPIX1"], abs=0.01)
    assert cards["CRPIX2"] == pytest.approx(header["CRPIX2"], abs=0.01)


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_outline_agrees_with_a_real_header_and_a_wrong_sign_is_caught(solution, shared_data):
    """The header gives the corners (pixel centres, its own frame of 2046 × 4094) of CCD 1 as measured by others."""
    path = shared_data / "headers" / "fitsheader-decam-instcal-c4d_190402_050618_ooi_VR_v1.yaml"
    header = yaml.safe_load(path.read_text())
    corners = sorted((header[f"COR{n}RA1"], header[f"COR{n}DEC1"]) for n in range(1, 5))
    pointing, pixels = (header["CRVAL1"], header["CRVAL2"]), np.array([[1.0, 1, 2046, 2046], [1, 4094, 1, 4094]])

    def off(ra, dec):
        return separation(*np.array(corners).T, *np.array(sorted(zip(ra, dec))).T).max()

    # within the scatter of pointing and rotation from night to night
    assert off(*pixel_to_sky(1, *pixels, *pointing, solution)) < 20
    for sign in (0, -1):
        cards = tpv_header(1, *pointing, solution)
        cards.update({key: sign * cards[key] for key in cards if key[:2] == "PV" and int(key.split("_")[1]) > 3})
        assert off(*WCS(fits.Header(cards)).all_pix2world(*pixels, 0)) > 40


@pytest.mark.parametrize("solution", SOLUTIONS)
def test_focal_plane_agrees_with_measured_chip_centres(solution):
    """Centres on the sky are a smooth (cubic) function of measured centres in mm, to 2 arcsec; the scale is right."""
    millimetres = np.array([each.center_mm for each in DETECTORS.values()])
    sky = np.array([pixel_to_sky(each, 1023.5, 2047.5, 180.0, 0.0, solution) for each in DETECTORS])
    plane = (sky - [180, 0]) * 3600
    u, v = millimetres.T / 200
    terms = np.stack([u ** (n - k) * v**k for n in range(4) for k in range(n + 1)], 1)
    fit = np.linalg.lstsq(terms, plane, rcond=None)[0]
    assert np.abs(plane - terms @ fit).max() < 2
    scale = np.sqrt(abs(np.linalg.det(fit[1:3] / 200))) * 0.015
    assert scale == pytest.approx(PIXEL_SCALE, abs=0.001)


def test_neighbouring_detectors_do_not_overlap_and_gaps_are_the_measured_ones():
    outlines = {each: detector_outline(each, 180.0, 0.0) for each in DETECTORS}
    for corners in outlines.values():
        assert separation(180.0, 0.0, *corners.T).max() < field_radius_deg * 3600
    gaps = 0
    for one in DETECTORS.values():
        for other in DETECTORS.values():
            dx, dy = np.subtract(other.center_mm, one.center_mm)
            if abs(dx) < 1 and 0 < dy < 70:  # neighbours along the columns: 4096 pixels of 15 µm, then the gap
                measured = (dy - 4096 * 0.015) / 0.015 * PIXEL_SCALE
                edges = outlines[one.id][2:], outlines[other.id][1::-1]
            elif abs(dy) < 1 and 0 < dx < 40:  # along the rows: 2048 pixels, then the gap
                measured = (dx - 2048 * 0.015) / 0.015 * PIXEL_SCALE
                edges = outlines[one.id][1:3], outlines[other.id][[0, 3]]
            else:
                continue
            gaps += 1
            distance = separation(*edges[0].T, *edges[1].T)
            assert np.abs(distance - measured).max() < 6
            # The corner of one lies outside the other: its pixel there is beyond the edge.
            x, y = sky_to_pixel(one.id, *edges[1].T, 180.0, 0.0)
            assert ((x > 2047.5) | (y > 4095.5)).all()
    assert gaps == 50 + 19  # along 12 columns of CCDs, and where neighbouring columns stand level


def test_unknown_detector_and_solution():
    from proc_decam_dagster.errors import SurveyError

    with pytest.raises(SurveyError, match="detector 0"):
        tpv_header(0, *POINTING)
    with pytest.raises(ValueError, match="none of"):
        tpv_header(1, *POINTING, "other")

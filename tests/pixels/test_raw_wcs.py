"""The raw header's WCS belongs to the trimmed image."""

import gzip

import numpy as np
import pytest
import yaml

from proc_decam_dagster.pixels.raw_wcs import trimmed_wcs


def test_real_raw_header_agrees_with_the_measured_solution_of_trimmed_images(shared_data):
    cards = yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())
    wcs = trimmed_wcs(cards, (4096, 2048))
    text = gzip.decompress((shared_data / "camera" / "decam.wcs.gz").read_bytes()).decode("ascii", "replace")
    solution = [text[i : i + 80] for i in range(0, len(text), 80)]
    axes = [[float(card[10:30]) for card in solution if card.startswith(f"CRPIX{axis}")] for axis in (1, 2)]
    nearest = min(zip(*axes), key=lambda crpix: abs(crpix[0] - 2151) + abs(crpix[1] - 14826))
    # That solution's images lack one pixel at each edge.
    assert list(wcs.wcs.crpix) == pytest.approx([crpix + 1 for crpix in nearest], abs=0.01)
    assert wcs.wcs.radesys == "FK5"


def test_distortion_of_a_real_header_is_kept(shared_data):
    cards = yaml.safe_load((shared_data / "headers" / "fitsheader-decam-raw_dec050441_25.yaml").read_text())
    wcs = trimmed_wcs(cards, (4096, 2048))
    for x, y in ((0.0, 0.0), (2047.0, 0.0), (1000.0, 4095.0)):
        # TPV by hand: linear, then the two polynomials, then the tangent plane.
        dx, dy = x + 1 - cards["CRPIX1"], y + 1 - cards["CRPIX2"]
        u, v = (cards[f"CD{i}_1"] * dx + cards[f"CD{i}_2"] * dy for i in (1, 2))
        xi, eta = (
            sum(
                cards[f"PV{axis}_{number}"] * term
                for number, term in zip(
                    (0, 1, 2, 4, 5, 6, 7, 8, 9, 10), (1, a, b, a * a, a * b, b * b, a**3, a * a * b, a * b * b, b**3)
                )
            )
            for axis, (a, b) in ((1, (u, v)), (2, (v, u)))
        )
        xi, eta, dec0 = np.radians(xi), np.radians(eta), np.radians(cards["CRVAL2"])
        denominator = np.cos(dec0) - eta * np.sin(dec0)
        ra = cards["CRVAL1"] + np.degrees(np.arctan2(xi, denominator))
        dec = np.degrees(np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, denominator)))
        np.testing.assert_allclose(wcs.all_pix2world(x, y, 0), (ra, dec), atol=1e-8)


def test_prescan_of_the_raw_array_is_not_subtracted():
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 2.0, "CRPIX1": 100.0, "CRPIX2": 200.0,
        "CD1_1": -7e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 7e-5, "LTV1": 56.0, "LTV2": 50.0,
    }  # fmt: skip
    assert list(trimmed_wcs(cards, (100, 100)).wcs.crpix) == [100, 200]


def test_frames_without_sky_have_none():
    assert trimmed_wcs({"OBSTYPE": "zero"}, (4096, 2048)) is None

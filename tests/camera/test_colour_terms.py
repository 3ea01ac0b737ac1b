"""Colour terms: continuous, small where bands are alike, and VR's as black bodies give it."""

import numpy as np
import pytest

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS
from proc_decam_dagster.camera.filters import FILTERS

PASSBANDS = {"g": (4140, 5510), "r": (5500, 7010), "i": (6900, 8200), "VR": (5000, 7600)}
"""Half-power wavelengths, Angstrom: Pan-STARRS1 (Tonry et al. 2012), and 6300 ± 1300 of DECam's VR."""


def black_body(kelvin):
    """Return AB magnitudes of a black body in each passband, taken as a box."""
    wavelength = np.arange(4000.0, 8300.0, 5.0)
    light = wavelength**-5 / np.expm1(1.4388e8 / wavelength / kelvin)
    inside = {name: (wavelength > low) & (wavelength < high) for name, (low, high) in PASSBANDS.items()}
    return {name: -2.5 * np.log10((light * wavelength)[on].sum() / (1 / wavelength)[on].sum())
            for name, on in inside.items()}  # fmt: skip


@pytest.mark.parametrize("kelvin", [3500, 4500, 6000, 8000, 15000])
def test_vr_follows_black_bodies(kelvin):
    mag = black_body(kelvin)
    term = COLOUR_TERMS["VR"]
    assert term.offset(mag[term.blue] - mag[term.red]) == pytest.approx(mag["VR"] - mag[term.primary], abs=0.004)


def test_every_filter_with_stars_has_an_entry():
    opaque = {"opaque"}
    assert {f.band for f in FILTERS.values()} - opaque <= set(COLOUR_TERMS)


@pytest.mark.parametrize("band", ["g", "r", "i", "z", "Y", "VR"])
def test_broad_bands_differ_little_and_colours_beyond_the_range_keep_its_edge(band):
    term = COLOUR_TERMS[band]
    low, high = term.valid
    colours = np.linspace(low, high, 50)
    assert np.abs(term.offset(colours)).max() < 0.25
    assert term.offset(low - 1) == pytest.approx(term.offset(low))
    numeric = np.gradient(term.offset(colours), colours)[1:-1]
    assert term.slope(colours)[1:-1] == pytest.approx(numeric, abs=2e-3)


def test_signs_of_neighbouring_bands():
    """DECam's r reaches farther to the red than Pan-STARRS1's: red stars are brighter in it; its g not so far."""
    assert COLOUR_TERMS["r"].offset(1.5) < -0.05
    assert COLOUR_TERMS["g"].offset(1.5) > 0.02
    assert COLOUR_TERMS["u"].offset(1.5) == 0

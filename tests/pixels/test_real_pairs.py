"""Difference imaging on real DECam stamps: one field in two years (OBS18, OBS04), three aligned exposures of each.

The stamps are cut around the transient: it is at their centre, which is what these tests know of it.
"""

import numpy as np
import pytest
import sep
from astropy.io import fits
from sky_scene import psf_model

from proc_decam_dagster.pixels.coadd import coadd
from proc_decam_dagster.pixels.dia_sources import detect_dia_sources
from proc_decam_dagster.pixels.difference import SubtractionSettings, subtract
from proc_decam_dagster.pixels.image import MaskedImage

GAIN = 4.0


def stamp(path):
    """Return a stamp in its own units, sky subtracted, with a Moffat PSF of the seeing in its header."""
    hdu = next(each for each in fits.open(path) if each.data is not None)
    image = np.nan_to_num(hdu.data.astype(np.float32))
    image -= sep.Background(image, bw=64, bh=64).back()
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    variance = (noise**2 + np.maximum(image, 0) / GAIN).astype(np.float32)
    psf = psf_model(image.shape, hdu.header["FWHM"])
    return MaskedImage(image, variance, np.zeros(image.shape, np.int32), psf=psf, flux_scale=1.0)


def difference_of(folder, science, template):
    """Return the DIA sources of one stamp minus another, and the difference's metadata."""
    new, old = (stamp(folder / f"DEC-OBS{name}.mini.fits") for name in (science, template))
    return sources_of(new, old)


def sources_of(new, old):
    """Return the DIA sources of one image minus another, and the difference's metadata."""
    stars = sep.extract(new.image, 5, err=np.sqrt(np.median(new.variance)), minarea=6)
    snr = stars["flux"] / np.sqrt(stars["npix"] * np.median(new.variance))
    settings = SubtractionSettings(kernel_degree=0, min_snr=20, template_resamplings=1)
    difference = subtract(new, old, stars["x"], stars["y"], snr, settings)
    return detect_dia_sources(difference), difference.metadata


def at_centre(table):
    """Return the sources within 2 pixels of the stamp's centre."""
    return table[np.hypot(table["x"] - 127.5, table["y"] - 127.5) < 2]


@pytest.mark.parametrize("version", ["a", "b", "c"])
def test_the_transient_is_found(shared_data, version):
    """It is there between the epochs, looks like a star, and is the best source away from the stamp's edge."""
    table, metadata = difference_of(shared_data / "sky" / "pairs", "04" + version, "18" + version)
    assert metadata["kernel_sum"] == pytest.approx(1.0, abs=0.05)
    (source,) = at_centre(table)
    assert source["snr"] > 10 and not source["negative"] and not source["dipole"] and source["reliability"] > 0.9
    inner = table[(table["x"] > 20) & (table["x"] < 235) & (table["y"] > 20) & (table["y"] < 235)]
    assert inner["reliability"].max() == source["reliability"]


def test_the_transient_has_faded_the_other_way_round(shared_data):
    """With the epochs exchanged it is negative; within one epoch there is nothing."""
    folder = shared_data / "sky" / "pairs"
    (source,) = at_centre(difference_of(folder, "18a", "04a")[0])
    assert source["negative"] and source["snr"] < -10
    for science, template in (("04b", "04a"), ("18b", "18a")):
        assert not len(at_centre(difference_of(folder, science, template)[0]))


def test_a_template_of_three_exposures_gives_the_transient_one_flux(shared_data):
    """The coadd is as deep as three exposures are; on its differences the transient is better seen, alike in all."""
    folder = shared_data / "sky" / "pairs"
    old = [stamp(folder / f"DEC-OBS18{version}.mini.fits") for version in "abc"]
    template, count = coadd(old, 3, old[0].shape)
    assert (count == 3).mean() > 0.98
    singles = np.array([mad(image.image) for image in old])
    assert mad(template.image) < 1.1 / np.sqrt((1 / singles**2).sum())
    found = []
    for version in "abc":
        table, metadata = sources_of(stamp(folder / f"DEC-OBS04{version}.mini.fits"), template)
        (source,) = at_centre(table)
        assert source["reliability"] > 0.9 and not source["negative"] and not source["dipole"]
        single = at_centre(difference_of(folder, "04" + version, "18" + version)[0])[0]
        assert source["snr"] > 0.95 * single["snr"]
        found.append((source["flux"] / metadata["kernel_sum"], source["flux_err"]))
    flux, error = np.array(found).T
    mean = np.average(flux, weights=error**-2.0)
    assert (((flux - mean) / np.hypot(error, 0.02 * mean)) ** 2).sum() < 11.8  # 3 sigma for two degrees of freedom


def mad(image):
    return 1.4826 * np.median(np.abs(image - np.median(image)))

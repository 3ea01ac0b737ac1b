"""The products against the truth; and the figures change when the data are spoilt."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from proc_decam_dagster.report import truth as against

PARTS = ("2019", "meanclip")


@pytest.fixture(scope="module")
def repo(sample):
    from proc_decam_dagster.repository import open_repository

    return open_repository(sample.repository)


@pytest.fixture(scope="module")
def truth(sample):
    return against.Truth(sample.truth)


@pytest.fixture
def spoil():
    """Change planes of an image file; the file is as it was afterwards."""
    saved = []

    def change(path: str, **planes):
        shutil.copy(path, path + ".saved")
        saved.append(path)
        with fits.open(path, memmap=False) as hdus:
            copy = fits.HDUList([fits.PrimaryHDU()])
            for hdu in hdus[1:]:
                data = hdu.data if hdu.name not in planes else planes[hdu.name](hdu.data.astype(np.float32))
                copy.append(fits.ImageHDU(data, name=hdu.name, header=_cards(hdu.header)))
            copy.writeto(path, overwrite=True)

    yield change
    for path in saved:
        shutil.move(path + ".saved", path)


def _cards(header: fits.Header) -> fits.Header:
    structural = ("XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "BSCALE", "BZERO", "BLANK", "EXTNAME", "Z", "T")
    return fits.Header([c for c in header.cards if not c.keyword.startswith(structural)])


def _first(repo, dataset, collection, certified=False):
    from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of

    refs = find_certified(repo, dataset, collection) if certified else find_refs(repo, dataset, collection)
    return path_of(repo, refs[0])


def test_bias(repo, truth, sample, spoil):
    ratio = against.bias_residual_over_theory(repo, truth, sample.nights)
    assert 0.9 < ratio <= 1.10
    noise = np.random.default_rng(1).normal(0, 3, (4096, 2048)).astype(np.float32)
    spoil(_first(repo, "bias", "20190401/calib/bias", certified=True), IMAGE=lambda image: image + noise)
    assert against.bias_residual_over_theory(repo, truth, sample.nights) > 1.5 * ratio


def test_flat(repo, truth, sample, spoil):
    ratio = against.flat_residual_over_theory(repo, truth, sample.nights)
    assert 0.9 < ratio <= 1.10
    noise = np.random.default_rng(1).normal(1, 0.01, (4096, 2048)).astype(np.float32)
    spoil(_first(repo, "flat", "20190401/calib/flat", certified=True), IMAGE=lambda image: image * noise)
    assert against.flat_residual_over_theory(repo, truth, sample.nights) > 1.5 * ratio


def test_astrometry(repo, truth, sample):
    rms = against.astrometry_mas_rms(repo, truth, sample.nights)
    assert 0 < rms <= 20
    path = _first(repo, "calexp", "20190401/drp")
    shutil.copy(path, path + ".saved")
    try:
        with fits.open(path, mode="update") as hdus:
            hdus["IMAGE"].header["CRVAL2"] += 1 / 3600
        assert against.astrometry_mas_rms(repo, truth, sample.nights) > 100
    finally:
        shutil.move(path + ".saved", path)


def test_photometry(repo, truth, sample):
    figures = against.photometry(repo, truth, sample.nights)
    assert figures["zeropoint_mmag"] <= 15
    assert figures["fwhm_error_percent"] <= 5
    spoilt = against.Truth(sample.truth)
    spoilt.exposures["zero_point"] = np.asarray(spoilt.exposures["zero_point"]) + 0.1
    spoilt.conditions.update({key: value * 1.2 for key, value in spoilt.conditions.items()})
    changed = against.photometry(repo, spoilt, sample.nights)
    assert changed["zeropoint_mmag"] > 80
    assert changed["fwhm_error_percent"] > 10


def test_coadd_noise(repo, spoil):
    from proc_decam_dagster.repository.queries import find_refs, path_of

    ratio = against.coadd_noise_over_expected(repo, *PARTS)
    assert 0.9 < ratio <= 1.10
    rng = np.random.default_rng(1)
    for ref in find_refs(repo, "deepCoadd", "2019/meanclip/coadd"):
        spoil(path_of(repo, ref), IMAGE=lambda i: i + rng.normal(0, 2 * np.nanstd(i[i < np.nanmedian(i)]), i.shape))
    assert against.coadd_noise_over_expected(repo, *PARTS) > 1.2 * ratio


def test_transients_fakes_and_false_detections(repo, truth, sample):
    figures = against.detections(repo, truth, sample.nights[-1:], *PARTS)
    bright = figures["transients"]["snr_over_10"]
    assert bright["injected"] >= 30
    assert bright["recovered"] >= 0.95 * bright["injected"]
    assert figures["fakes"]["injected"] >= 20
    assert figures["fakes"]["recovered"] >= 0.9 * figures["fakes"]["injected"]
    assert figures["false_per_ccd"] <= 30


def test_detections_notice_a_wrong_truth(repo, sample):
    """With every true transient moved by 30 pixels none is recovered, and all that were found are false."""
    good = against.detections(repo, against.Truth(sample.truth), sample.nights[-1:], *PARTS)

    wrong = against.Truth(sample.truth)
    wrong.transients["x"] = np.asarray(wrong.transients["x"]) + 30.0
    moved = against.detections(repo, wrong, sample.nights[-1:], *PARTS)
    assert moved["transients"]["snr_over_10"]["recovered"] < 0.1 * good["transients"]["snr_over_10"]["recovered"]
    assert moved["false_per_ccd"] > good["false_per_ccd"] + 5

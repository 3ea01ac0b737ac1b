"""One detector is read out of a raw file, and nothing else."""

import io

import numpy as np
import pytest
from astropy.io import fits

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.fits_blocks import walk
from proc_decam_dagster.instrument.raw import read_raw, scan_raw

SHAPE = (40, 64)


def pixels(ccd):
    return np.random.default_rng(ccd).integers(1500, 2500, SHAPE).astype(np.uint16)


@pytest.fixture(scope="module")
def raw_bytes():
    """A file as the camera writes it: 62 science CCDs and 8 others, in a scrambled order, compressed."""
    order = np.random.default_rng(3).permutation([*range(1, 63), 63, 64, 69, 70, 71, 72, 73, 74])
    hdus = [fits.PrimaryHDU(header=fits.Header({"NEXTEND": 70, "EXPNUM": 177764, "OBSTYPE": "object"}))]
    for ccd in map(int, order):
        header = fits.Header({"CCDNUM": ccd, "DETPOS": f"X{ccd}"})
        header.update({f"FILLER{n}": n for n in range(60)})  # real headers take more than one block
        hdus.append(fits.CompImageHDU(pixels(ccd), header, name=f"X{ccd}", compression_type="RICE_1"))
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


@pytest.fixture
def raw_file(raw_bytes, tmp_path):
    path = tmp_path / "c4d_190401.fits.fz"
    path.write_bytes(raw_bytes)
    return path


def test_scan_finds_all_science_detectors_whatever_their_order(raw_file):
    primary, detectors = scan_raw(raw_file)
    assert primary["EXPNUM"] == 177764
    assert list(detectors) == list(range(1, 63))
    assert all(header["DETPOS"] == f"X{ccd}" for ccd, header in detectors.items())


@pytest.mark.parametrize("ccd", [1, 25, 62])
def test_pixels_and_headers_of_one_detector(raw_file, ccd):
    raw = read_raw(raw_file, ccd)
    assert raw.data.dtype == np.uint16
    np.testing.assert_array_equal(raw.data, pixels(ccd))
    assert (raw.detector, raw.header["EXTNAME"], raw.primary["OBSTYPE"]) == (ccd, f"X{ccd}", "object")


def test_only_the_wanted_pixels_are_read(raw_file):
    """The data of every other HDU are spoilt, which no reader of them would survive or hide."""
    wanted = 33
    content = bytearray(raw_file.read_bytes())
    for extension in walk(raw_file):
        if extension.number and b"CCDNUM  =                   33" not in extension.cards:
            content[extension.data : extension.end] = b"\xff" * (extension.end - extension.data)
    raw_file.write_bytes(content)
    np.testing.assert_array_equal(read_raw(raw_file, wanted).data, pixels(wanted))
    with pytest.raises(SurveyError, match="detector 34 are damaged"):
        read_raw(raw_file, 34)


def test_truncated_file_names_itself_and_both_sizes(raw_file):
    size = raw_file.stat().st_size
    ends = [extension.end for extension in walk(raw_file)]
    cut = size - 3000
    raw_file.write_bytes(raw_file.read_bytes()[:cut])
    expected = min(end for end in ends if end > cut)
    with pytest.raises(SurveyError, match=rf"{raw_file.name} is truncated: {cut} bytes; expected at least {expected}"):
        scan_raw(raw_file)
    last = list(walk_until_error(raw_file))[-1]
    assert last.end <= cut


def walk_until_error(path):
    try:
        yield from walk(path)
    except SurveyError:
        return


@pytest.mark.parametrize("content", [b"", b"<html>502 Bad Gateway</html>", b"SIMPLE  =" + b" " * 500])
def test_file_that_is_not_fits(tmp_path, content):
    path = tmp_path / "bad.fits.fz"
    path.write_bytes(content)
    with pytest.raises(SurveyError, match=r"bad.fits.fz is (not a FITS file|truncated)"):
        read_raw(path, 1)


def test_detector_that_is_not_in_the_file(tmp_path):
    path = tmp_path / "one.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels(7), fits.Header({"CCDNUM": 7}))]).writeto(path)
    np.testing.assert_array_equal(read_raw(path, 7).data, pixels(7))
    with pytest.raises(SurveyError, match="no detector 8; expected one of those it holds: 7"):
        read_raw(path, 8)
    with pytest.raises(SurveyError, match="cannot be read: No such file"):
        read_raw(tmp_path / "none.fits", 8)

"""An image comes back from its file as it went in, up to a rounding far below its noise."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from proc_decam_dagster.camera.distortion import tpv_header
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.instrument.image_file import read_image, write_image
from proc_decam_dagster.pixels import mask as planes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.psf_model import PsfModel

SHAPE = (300, 200)
SKY = 1600.0


@pytest.fixture
def image():
    rng = np.random.default_rng(5)
    pixels = rng.normal(0, np.sqrt(SKY), SHAPE).astype(np.float32)
    pixels[100:120, 50:70] += 60000
    variance = (SKY + np.clip(pixels, 0, None)).astype(np.float32)
    mask = np.zeros(SHAPE, np.int32)
    mask[100:120, 50:70] = planes.SAT | planes.DETECTED
    mask[rng.random(SHAPE) < 0.01] |= planes.CLIPPED
    pixels[:3] = np.nan
    variance[:3] = np.inf
    mask[:3] |= planes.NODATA
    return MaskedImage(
        pixels, variance, mask,
        wcs=WCS(fits.Header(tpv_header(35, 149.4, 1.7))),
        psf=PsfModel(rng.random((3, 21, 21)), 1, SHAPE),
        flux_scale=12.3456789012,
        metadata={
            "expnum": 845291, "filter": "VR DECam c0007 6300.0 2600.0", "seeing": np.float32(1.25),
            "bad": float("nan"), "good": np.bool_(True), "nothing": None, "a_name_longer_than_eight": [1, 2.5],
            "n": np.int64(3),
        },
    )  # fmt: skip


@pytest.fixture
def path(image, tmp_path):
    write_image(tmp_path / "image.fits", image)
    return tmp_path / "image.fits"


def test_pixels_come_back_with_a_rounding_that_adds_no_noise(image, path):
    back = read_image(path)
    assert (back.image.dtype, back.variance.dtype, back.mask.dtype) == (np.float32, np.float32, np.int32)
    np.testing.assert_array_equal(np.isnan(back.image), np.isnan(image.image))
    np.testing.assert_array_equal(np.isinf(back.variance), np.isinf(image.variance))
    np.testing.assert_array_equal(back.mask, image.mask)
    rounding = (back.image - image.image)[3:]
    assert 0 < rounding.std() < 0.02 * np.sqrt(SKY)  # (1/16)/sqrt(12) = 0.018 of the noise: 0.016 % more in quadrature
    assert abs(rounding.mean()) < 3 * rounding.std() / np.sqrt(rounding.size)
    np.testing.assert_allclose(back.variance[3:], image.variance[3:], rtol=0.003)


def test_everything_else_comes_back(image, path):
    back = read_image(path)
    x, y = np.random.default_rng(1).uniform(0, 200, (2, 50))
    there = image.wcs.all_pix2world(x, y, 0)
    assert np.abs(np.subtract(back.wcs.all_world2pix(*there, 0), (x, y))).max() < 1e-3
    np.testing.assert_array_equal(back.psf.coefficients, image.psf.coefficients)
    assert (back.psf.degree, back.psf.shape) == (1, SHAPE)
    assert back.flux_scale == pytest.approx(image.flux_scale, rel=1e-14)
    assert np.isnan(back.metadata.pop("bad")) and np.isnan(image.metadata.pop("bad"))
    assert back.metadata == image.metadata
    assert type(back.metadata["good"]) is bool


def test_bare_image(tmp_path):
    write_image(tmp_path / "bare.fits", MaskedImage.blank((10, 20)))
    back = read_image(tmp_path / "bare.fits")
    assert back.wcs is None and back.psf is None and np.isnan(back.flux_scale) and back.metadata == {}
    assert not back.image.any() and not back.variance.any() and not back.mask.any()


@pytest.mark.parametrize("component", ["image", "variance", "mask", "wcs", "psf", "metadata"])
def test_components(path, component):
    whole, part = read_image(path), read_image(path, component)
    if component in ("image", "variance", "mask"):
        np.testing.assert_array_equal(part, getattr(whole, component))
    elif component == "psf":
        np.testing.assert_array_equal(part.coefficients, whole.psf.coefficients)
    elif component == "wcs":
        assert part.to_header_string() == whole.wcs.to_header_string()
    else:
        assert part.keys() == whole.metadata.keys()


def test_a_part_of_the_image_keeps_its_place_on_the_sky(path):
    whole, part = read_image(path), read_image(path, bbox=(40, 90, 100, 130))
    np.testing.assert_array_equal(part.image, whole.image[90:130, 40:100])
    np.testing.assert_array_equal(part.mask, whole.mask[90:130, 40:100])
    np.testing.assert_array_equal(part.variance, whole.variance[90:130, 40:100])
    assert part.wcs.all_pix2world([[5, 7]], 0) == pytest.approx(whole.wcs.all_pix2world([[45, 97]], 0), abs=1e-10)


def test_whole_numbers_stay_exact(tmp_path):
    counts = np.random.default_rng(2).integers(0, 40, SHAPE).astype(np.float32)
    counts[0, 0] = np.nan
    write_image(tmp_path / "n.fits", MaskedImage(counts, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.int32)))
    np.testing.assert_array_equal(read_image(tmp_path / "n.fits", "image"), counts)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_any_unit(tmp_path, scale):
    rng = np.random.default_rng(2)
    pixels = (scale * rng.normal(5, 1, SHAPE)).astype(np.float32)
    variance = np.full(SHAPE, scale**2, np.float32)
    write_image(tmp_path / "u.fits", MaskedImage(pixels, variance, np.zeros(SHAPE, np.int32)))
    back = read_image(tmp_path / "u.fits")
    np.testing.assert_allclose(back.image, pixels, atol=0.04 * scale)
    np.testing.assert_allclose(back.variance, variance, rtol=0.003)


def test_range_beyond_integers_is_kept_exactly(tmp_path):
    pixels = np.random.default_rng(2).normal(0, 1e-3, SHAPE).astype(np.float32)
    pixels[5, 5], pixels[6, 6] = 1e30, np.inf
    write_image(tmp_path / "r.fits", MaskedImage(pixels, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.int32)))
    back = read_image(tmp_path / "r.fits", "image")
    assert np.isnan(back[6, 6])
    pixels[6, 6] = np.nan
    np.testing.assert_array_equal(back, pixels)


def test_other_readers_see_the_same_pixels(image, path):
    """astropy opens the file, with nulls, WCS and mask planes."""
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["IMAGE", "VARIANCE", "MASK", "PSF", "METADATA"]
        np.testing.assert_allclose(hdus["IMAGE"].data, read_image(path, "image"), rtol=1e-6)
        there = WCS(hdus["IMAGE"].header).all_pix2world([[10, 20]], 0)
        assert hdus["MASK"].header["MP_SAT"] == 1
        assert hdus["MASK"].data[110, 60] & (1 << hdus["MASK"].header["MP_SAT"])
    assert there == pytest.approx(image.wcs.all_pix2world([[10, 20]], 0), abs=1e-9)


def test_a_file_cut_short_names_itself(path):
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(SurveyError, match=r"image.fits cannot be read"):
        read_image(path)


def test_full_size_ccd(tmp_path):
    """Once at full size: the planes of a CCD fit well below half their uncompressed size."""
    rng = np.random.default_rng(5)
    shape = (4096, 2048)
    pixels = rng.normal(0, 40, shape).astype(np.float32)
    image = MaskedImage(pixels, (1600 + np.clip(pixels, 0, None)).astype(np.float32), np.zeros(shape, np.int32))
    write_image(tmp_path / "full.fits", image)
    assert (tmp_path / "full.fits").stat().st_size < 16e6
    back = read_image(tmp_path / "full.fits")
    assert np.std(back.image - pixels) < 0.02 * 40

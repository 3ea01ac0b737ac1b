"""Our Rice coder and cfitsio's read each other; damage is told, never returned as pixels."""

import contextlib

import fitsio
import numpy as np
import pytest
from astropy.io import fits

from proc_decam_dagster.instrument.compressed import integers, is_ours, read_codes, write_integers
from proc_decam_dagster.instrument.fits_blocks import header_of, walk


def images():
    """Yield int32 images: noise of many widths, stars, constants, the extremes, odd widths."""
    rng = np.random.default_rng(4)
    yield "noise", np.rint(rng.normal(2000, 2.0 ** np.arange(30)[:, None], (30, 100))).astype(np.int32)
    stars = np.rint(rng.normal(0, 16, (40, 64))).astype(np.int32)
    stars[rng.integers(0, 40, 30), rng.integers(0, 64, 30)] += 900_000
    yield "stars", stars
    yield "zeros", np.zeros((5, 70), np.int32)
    yield "any bits", rng.integers(-(2**31), 2**31, (20, 33)).astype(np.int32)
    extremes = np.full((4, 96), 2**31 - 1, np.int32)
    extremes[:, ::2] = -(2**31)
    extremes[3] = -(2**31)
    yield "extremes", extremes
    yield "one column", rng.integers(0, 100, (7, 1)).astype(np.int32)


@pytest.fixture(params=[pytest.param(image, id=name) for name, image in images()])
def image(request):
    return request.param


def last_hdu(path):
    extension = list(walk(path))[-1]
    return extension, header_of(extension)


def test_what_we_write_other_readers_read(image, tmp_path):
    with (tmp_path / "ours.fits").open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        write_integers(file, image, fits.Header({"EXTNAME": "X"}))
    np.testing.assert_array_equal(fitsio.read(tmp_path / "ours.fits", ext="X"), image)
    np.testing.assert_array_equal(fits.getdata(tmp_path / "ours.fits", "X"), image)
    extension, header = last_hdu(tmp_path / "ours.fits")
    np.testing.assert_array_equal(integers(read_codes(tmp_path / "ours.fits", extension, header), np.int32), image)


def test_what_others_write_we_read(image, tmp_path):
    path = tmp_path / "theirs.fits"
    with fitsio.FITS(path, "rw") as file:
        file.write(image, compress="RICE", tile_dims=(1, image.shape[1]))
    extension, header = last_hdu(path)
    assert is_ours(header)
    np.testing.assert_array_equal(integers(read_codes(path, extension, header), np.int32), image)
    ny, nx = image.shape
    rows, columns = slice(ny // 3, ny // 3 + 2), slice(nx // 4, nx)
    part = integers(read_codes(path, extension, header, rows), np.int32, columns=columns)
    np.testing.assert_array_equal(part, image[rows, columns])


@pytest.mark.parametrize("writer", ["fitsio", "astropy"])
def test_unsigned_counts_as_the_camera_packs_them(writer, tmp_path):
    counts = np.random.default_rng(1).integers(0, 65536, (20, 77)).astype(np.uint16)
    counts[5:] = 2000 + counts[5:] % 40
    path = tmp_path / "raw.fits"
    if writer == "fitsio":
        with fitsio.FITS(path, "rw") as file:
            file.write(counts, compress="RICE", tile_dims=(1, 77))
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, compression_type="RICE_1")]).writeto(path)
    extension, header = last_hdu(path)
    assert is_ours(header)
    np.testing.assert_array_equal(integers(read_codes(path, extension, header), np.uint16, header["BZERO"]), counts)


def test_other_compressions_are_left_to_the_library(tmp_path):
    path = tmp_path / "gzip.fits"
    with fitsio.FITS(path, "rw") as file:
        file.write(np.arange(600, dtype=np.float32).reshape(20, 30), compress="GZIP", qlevel=0)
    assert not is_ours(last_hdu(path)[1])


def test_damage_ends_in_an_error_or_in_pixels_but_never_reads_beyond_the_file(tmp_path):
    image = np.rint(np.random.default_rng(3).normal(0, 30, (8, 200))).astype(np.int32)
    path = tmp_path / "damaged.fits"
    with path.open("wb") as file:
        file.write(fits.PrimaryHDU().header.tostring().encode())
        write_integers(file, image, fits.Header())
    content = path.read_bytes()
    extension, header = last_hdu(path)
    table, heap = extension.data, extension.data + 8 * len(image)
    cases = {
        "rows of ones": (heap, b"\xff" * (extension.end - heap)),
        "lengths beyond the file": (table, b"\x7f" * 8),
        "an empty row": (table, bytes(4)),
        "a row cut short": (table, (20).to_bytes(4, "big")),
    }
    for name, (at, new) in cases.items():
        path.write_bytes(content[:at] + new + content[at + len(new) :])
        with pytest.raises(OSError, match="compressed rows|outside the extension"):
            integers(read_codes(path, extension, header), np.int32)
            pytest.fail(name)
    rng = np.random.default_rng(9)
    for _ in range(50):
        noise = rng.bytes(100)
        path.write_bytes(content[:heap] + noise + content[heap + 100 :])
        with contextlib.suppress(OSError):
            assert integers(read_codes(path, extension, header), np.int32).shape == image.shape

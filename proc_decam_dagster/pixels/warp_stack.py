"""A stack of warps given back row by row: in memory while it is small, else in a scratch file."""

import tempfile

import numpy as np

from proc_decam_dagster.pixels.image import MaskedImage

MEMORY_BYTES = 700_000_000
"""Bytes of pixels kept in memory: 12 warps of a patch of 2176² pixels fit."""
_DTYPES = {"image": np.float32, "variance": np.float32, "mask": np.int16}
_BYTES_PER_PIXEL = sum(np.dtype(d).itemsize for d in _DTYPES.values())


class WarpStack:
    """Pixels of many images of one shape.

    Parameters
    ----------
    shape : `tuple` [`int`, `int`]
        Shape of every image.
    expected : `int`
        How many will be added: decides where they are kept.
    memory_bytes : `int`, optional
        Most bytes of pixels to keep in memory.
    """

    def __init__(self, shape: tuple[int, int], expected: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self.shape, self.expected = shape, expected
        self._count = 0
        too_large = expected * shape[0] * shape[1] * _BYTES_PER_PIXEL > memory_bytes
        # closed by `close`: the stack is the context manager
        self._file = tempfile.TemporaryFile(prefix="proc-decam-warps-") if too_large else None  # noqa: SIM115
        kept = 0 if too_large else expected
        self._arrays = {name: np.empty((kept, *shape), dtype) for name, dtype in _DTYPES.items()}

    def __len__(self) -> int:
        return self._count

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are in memory rather than in a scratch file."""
        return self._file is None

    def add(self, image: MaskedImage) -> None:
        """Add an image; a copy is kept, so the caller may drop it."""
        if image.shape != self.shape:
            raise ValueError(f"a warp of shape {image.shape} does not belong to a stack of {self.shape}")
        if self._count == self.expected:
            raise ValueError(f"the stack was made for {self.expected} warps, and here is one more")
        for name, dtype in _DTYPES.items():
            if self._file is None:
                self._arrays[name][self._count] = getattr(image, name)
            else:
                np.ascontiguousarray(getattr(image, name), dtype).tofile(self._file)
        self._count += 1

    def rows(self, start: int, stop: int) -> tuple[dict[str, np.ndarray], int]:
        """Return ``image``, ``variance`` and ``mask``, (n, …, nx), of all images, and where rows start…stop begin.

        What is in memory is returned whole, so that nothing is copied; of a scratch file only these rows are read.
        """
        if self._file is None:
            return {name: array[: self._count] for name, array in self._arrays.items()}, start
        ny, nx = self.shape
        out = {name: np.empty((self._count, stop - start, nx), dtype) for name, dtype in _DTYPES.items()}
        plane = ny * nx
        self._file.flush()
        for k in range(self._count):
            offset = k * plane * _BYTES_PER_PIXEL
            for name, dtype in _DTYPES.items():
                size = np.dtype(dtype).itemsize
                self._file.seek(offset + start * nx * size)
                data = self._file.read((stop - start) * nx * size)
                out[name][k] = np.frombuffer(data, dtype).reshape(stop - start, nx)
                offset += plane * size
        return out, 0

    def close(self) -> None:
        """Free the memory and the scratch file."""
        self._arrays.clear()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "WarpStack":
        return self

    def __exit__(self, *_) -> None:
        self.close()

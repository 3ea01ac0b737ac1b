"""The engine's image container: image, variance, mask, and what is known of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.wcs import WCS

from proc_decam_dagster.pixels.psf_model import PsfModel


@dataclass
class MaskedImage:
    """An image with its variance and mask.

    Attributes
    ----------
    image : `numpy.ndarray`, (ny, nx), float32
        Pixel values: electrons after ISR, nJy in warps, coadds and differences. `flux_scale` converts to nJy.
    variance : `numpy.ndarray`, (ny, nx), float32
        Variance, in the square of the image's unit.
    mask : `numpy.ndarray`, (ny, nx), int32
        Mask bits, see `proc_decam_dagster.pixels.mask`.
    wcs : `astropy.wcs.WCS`, optional
        Celestial WCS (ICRS), TPV or TAN.
    psf : `PsfModel`, optional
    flux_scale : `float`
        nJy per image unit; NaN while not calibrated.
    metadata : `dict`
        Scalars: identifiers, quality figures.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    wcs: WCS | None = None
    psf: PsfModel | None = None
    flux_scale: float = float("nan")
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.image.shape == self.variance.shape == self.mask.shape:
            raise ValueError(
                f"image {self.image.shape}, variance {self.variance.shape} and mask {self.mask.shape} differ in shape"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx)."""
        return self.image.shape

    @classmethod
    def blank(cls, shape: tuple[int, int], **kwargs: Any) -> "MaskedImage":
        """Return an image of zeros with zero variance and no mask bits set."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int32), **kwargs)

    def copy(self) -> "MaskedImage":
        """Return a copy whose arrays and metadata are its own; WCS and PSF are shared."""
        return MaskedImage(
            self.image.copy(), self.variance.copy(), self.mask.copy(),
            self.wcs, self.psf, self.flux_scale, dict(self.metadata),
        )  # fmt: skip

"""DECam's filters: physical filter names as in headers, their bands, wavelengths."""

from dataclasses import dataclass

from proc_decam_dagster.camera._tables import read
from proc_decam_dagster.errors import SurveyError


@dataclass(frozen=True)
class Filter:
    """A filter.

    Attributes
    ----------
    physical_filter : `str`
        FILTER of the header; equal to obs_decam's name.
    band : `str`
        Band, as obs_decam names it: ``y`` for the filter Y, ``opaque`` for the solid plate of zeros.
    wavelength_nm, width_nm : `float`
        Central wavelength and width, as in the name of the filter; 0 for the solid plate.
    """

    physical_filter: str
    band: str

    @property
    def wavelength_nm(self) -> float:
        """Central wavelength, nm."""
        return float(self.physical_filter.split()[-2]) / 10

    @property
    def width_nm(self) -> float:
        """Width, nm."""
        return float(self.physical_filter.split()[-1]) / 10


FILTERS = {row["physical_filter"]: Filter(**row) for row in read("filters.csv")}
"""Every filter by its name in headers."""

BANDS = {each.band: each for each in FILTERS.values()}
"""Every filter by its band."""


def band_of(physical_filter: str) -> str:
    """Return the band of a FILTER header value, or of its first word (``g``, ``Y``, ``VR``).

    Raises
    ------
    SurveyError
        Raised if DECam has no such filter.
    """
    text = " ".join(str(physical_filter).split())
    if text in FILTERS:
        return FILTERS[text].band
    for each in FILTERS.values():
        if text and (text == each.band or text == each.physical_filter.split()[0]):
            return each.band
    known = ", ".join(map(repr, FILTERS))
    raise SurveyError(f"filter {physical_filter!r}", f"one of {known}", "check FILTER in the header")

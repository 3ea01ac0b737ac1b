"""The 62 science CCDs: names, places in the focal plane, amplifiers."""

from dataclasses import dataclass

from proc_decam_dagster.camera._tables import read
from proc_decam_dagster.camera.geometry import Box
from proc_decam_dagster.errors import SurveyError


@dataclass(frozen=True)
class Amplifier:
    """One of the two amplifiers of a CCD.

    Attributes
    ----------
    name : `str`
        ``A`` or ``B``.
    bbox : `Box`
        Its pixels in the trimmed image (4096, 2048).
    raw_data, raw_overscan : `Box`
        Its pixels and its serial overscan in the raw array (4146, 2160), row by row the same. Raw and trimmed
        pixels have the same orientation: trimming is cutting, never flipping.
    gain : `float`
        Electrons per ADU.
    read_noise : `float`
        Electrons.
    saturation : `float`
        ADU of the raw pixel, bias level included, as obs_decam applies it.
    flip_x, flip_y : `bool`
        Whether the first pixel read is the last in x, in y: crosstalk pairs pixels that are read at the same time.
    """

    name: str
    bbox: Box
    raw_data: Box
    raw_overscan: Box
    gain: float
    read_noise: float
    saturation: float
    flip_x: bool
    flip_y: bool


@dataclass(frozen=True)
class Detector:
    """A CCD.

    Attributes
    ----------
    id : `int`
        CCDNUM, 1 to 62.
    name, raft, name_in_raft : `str`
        As obs_decam names them: ``S29`` is ``29`` in raft ``S``.
    center_mm : `tuple` [`float`, `float`]
        Centre in the focal plane, measured, in mm. The axes are those of the pixels: x with columns, y with rows.
    rotation_deg : `float`
        Measured rotation in the focal plane, from x to y.
    amplifiers : `tuple` [`Amplifier`, `Amplifier`]
        A and B.
    """

    id: int
    name: str
    center_mm: tuple[float, float]
    rotation_deg: float
    amplifiers: tuple[Amplifier, Amplifier]
    purpose: str = "SCIENCE"

    @property
    def raft(self) -> str:
        """Half of the focal plane, ``N`` or ``S``."""
        return self.name[0]

    @property
    def name_in_raft(self) -> str:
        """Number in its half of the focal plane."""
        return self.name[1:]

    def amplifier(self, name: str) -> Amplifier:
        """Return amplifier ``A`` or ``B``."""
        return self.amplifiers["AB".index(name)]


def _load() -> dict[int, Detector]:
    amplifiers: dict[int, list[Amplifier]] = {}
    for row in read("amplifiers.csv"):

        def box(prefix: str, row: dict[str, str] = row) -> Box:
            return Box(*(int(row[f"{prefix}_{edge}"]) for edge in ("x0", "y0", "x1", "y1")))

        amplifiers.setdefault(int(row["ccd"]), []).append(
            Amplifier(
                name=row["amplifier"],
                bbox=box("trimmed"),
                raw_data=box("data"),
                raw_overscan=box("overscan"),
                gain=float(row["gain"]),
                read_noise=float(row["read_noise"]),
                saturation=float(row["saturation"]),
                flip_x=row["first_read"][1] == "R",
                flip_y=row["first_read"][0] == "U",
            )
        )
    return {
        (ccd := int(row["ccd"])): Detector(
            id=ccd,
            name=row["name"],
            center_mm=(float(row["x_mm"]), float(row["y_mm"])),
            rotation_deg=float(row["rotation_deg"]),
            amplifiers=tuple(sorted(amplifiers[ccd], key=lambda amplifier: amplifier.name)),
        )
        for row in read("detectors.csv")
    }


DETECTORS = _load()
"""Every science CCD by its CCDNUM."""


def detector(ccd: int) -> Detector:
    """Return a detector by its CCDNUM.

    Raises
    ------
    SurveyError
        Raised if DECam has no such science CCD.
    """
    if ccd not in DETECTORS:
        raise SurveyError(f"detector {ccd!r}", "a CCDNUM from 1 to 62", "guide and focus CCDs are not used")
    return DETECTORS[ccd]

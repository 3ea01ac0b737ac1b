"""What is observed when: the nights of a survey and every exposure's conditions, drawn from the seed."""

from dataclasses import dataclass, field, fields
from datetime import date, timedelta

import numpy as np

from proc_decam_dagster.camera.filters import BANDS, band_of
from proc_decam_dagster.camera.geometry import PIXEL_SCALE
from proc_decam_dagster.errors import SurveyError

OBSERVATORY = {"longitude": -70.81489, "latitude": -30.16606, "elevation": 2215.0}
"""CTIO, degrees east and north, metres; as raw headers give it (there with longitude west)."""
ZERO_POINTS = {
    "u": 24.9, "g": 26.61, "r": 26.82, "i": 26.76, "z": 26.48, "y": 25.2, "VR": 27.3,
    "N964": 23.4, "N708": 24.6, "N419": 23.3, "N540": 24.2,
}  # fmt: skip
"""AB magnitude of 1 e-/s outside the atmosphere (DECam Legacy Survey's values for g r z, others approximate)."""
SKY_BRIGHTNESS = {
    "u": 22.8, "g": 22.0, "r": 20.9, "i": 20.2, "z": 18.9, "y": 17.9, "VR": 21.2,
    "N964": 18.4, "N708": 20.6, "N419": 22.4, "N540": 21.6,
}  # fmt: skip
"""AB magnitude of a square arcsecond of sky."""
AB_OF_NANOJANSKY = 31.4
"""AB magnitude of 1 nJy (Oke & Gunn 1983)."""
SEEING = (0.9, 1.5)
"""Range of the seeing's FWHM, arcsec."""
FIRST_EXPNUM, EXPNUMS_A_NIGHT = 830001, 1000
_ZERO_START, _FLAT_START = 20.5 / 24, 21.2 / 24
_READOUT = 29.0 / 86400


@dataclass(frozen=True)
class SurveyPlan:
    """What `simulate_survey` was asked for; with the seed it determines every pixel.

    Attributes
    ----------
    seed : `int`
    detectors : `tuple` [`int`]
        CCDNUMs that see the sky.
    sky : `tuple` [`float`, `float`]
        RA and Dec (deg, ICRS) of the field's nominal pointing.
    template_nights, science_nights : `int`
        Nights without and with transients.
    exposures_per_night, zeros, flats : `int`
    band : `str`
        Band, as `camera.filters` names it.
    exposure_time : `float`
        Seconds.
    proposal : `str`
        PROPID of the science exposures.
    transients, movers, variables, fakes : `int`
        How many on each detector (fakes: on each detector of each object exposure).
    all_extensions : `bool`
        Whether files hold all 62 science and 8 guide and focus CCDs, or `detectors` and two of the latter.
    linearity : `bool`
        Whether the amplifiers answer as the published table says, or in proportion to the light.
    mishaps : `tuple` [`str`, …]
        What goes wrong, see `mishaps`.
    """

    seed: int = 1
    detectors: tuple[int, ...] = (28, 35)
    sky: tuple[float, float] = (149.4, 1.7)
    template_nights: int = 2
    science_nights: int = 1
    exposures_per_night: int = 4
    zeros: int = 6
    flats: int = 6
    band: str = "r"
    exposure_time: float = 120.0
    proposal: str = "2019A-0337"
    transients: int = 60
    movers: int = 10
    variables: int = 10
    fakes: int = 25
    all_extensions: bool = False
    linearity: bool = True
    mishaps: tuple[str, ...] = ()

    @property
    def physical_filter(self) -> str:
        """FILTER of the header."""
        return BANDS[band_of(self.band)].physical_filter

    @property
    def catalogue_band(self) -> str:
        """The band of the reference catalogues in which the survey's natural magnitudes are given."""
        return self.band if self.band in "grizy" else {"u": "g", "N419": "g", "N540": "g"}.get(self.band, "r")

    @property
    def nominal_zero_point(self) -> float:
        """AB magnitude of 1 e- in an exposure at the zenith on a clear night."""
        return ZERO_POINTS[self.band] + 2.5 * np.log10(self.exposure_time)

    @property
    def nominal_sky(self) -> float:
        """Sky level of an exposure, electrons a pixel."""
        magnitude = SKY_BRIGHTNESS[self.band] - 2.5 * np.log10(PIXEL_SCALE**2)
        return float(10 ** (0.4 * (self.nominal_zero_point - magnitude)))

    def first_day(self) -> date:
        """Return the date on which the field crosses the meridian near midnight, in 2019."""
        after_equinox = ((self.sky[0] - 180.0) % 360.0) / 360.0 * 365.25
        # 20 March, when the Sun stands at RA 0 and RA 180° culminates at midnight, is the year's 79th day.
        return date(2019, 1, 1) + timedelta(days=round(78 + after_equinox) % 365)

    def nights(self) -> list[tuple[str, str]]:
        """Return the nights as (YYYYMMDD, ``template`` or ``science``), in order; science begins a month later."""
        first = self.first_day()
        days = [(first + timedelta(days=n), "template") for n in range(self.template_nights)]
        after = max(28, self.template_nights)
        days += [(first + timedelta(days=after + n), "science") for n in range(self.science_nights)]
        return [(day.strftime("%Y%m%d"), kind) for day, kind in days]

    def to_dict(self) -> dict:
        """Return the values as JSON takes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict) -> "SurveyPlan":
        """Return the plan that `to_dict` wrote."""
        # Surveys made before amplifiers were bent have no word of it: theirs are not.
        values = {"linearity": False} | values
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class Exposure:
    """One exposure and the conditions under which it was taken.

    Attributes
    ----------
    expnum, night, kind, obs_type, mjd, exptime, physical_filter
        ``kind`` is ``template`` or ``science``, ``obs_type`` the archive's word, ``mjd`` the start (UTC).
    ra, dec : `float`
        Pointing that the header gives, deg.
    true_ra, true_dec, rotation_deg, scale : `float`
        Where the telescope really points, its rotation and the factor on its pixel scale.
    distortion : `tuple` [`float`, …]
        Errors of the second- and third-order TPV terms, see `optics.true_cards`.
    seeing, beta : `float`
        FWHM in arcsec, and the Moffat exponent.
    shape : `tuple` [`float`, …]
        Phases and amplitudes of the PSF's variation over a CCD, see `optics.PsfField`.
    zero_point : `float`
        AB magnitude of 1 e- in the exposure.
    sky_e : `float`
        Sky at the centre of a CCD, electrons a pixel.
    gradient : `tuple` [`float`, `float`]
        Relative change of the sky over a CCD in x and in y.
    lamp_e : `float`
        Level of a dome flat, electrons a pixel.
    """

    expnum: int
    night: str
    kind: str
    obs_type: str
    mjd: float
    exptime: float
    physical_filter: str
    propid: str
    sequence: tuple[int, int]
    ra: float
    dec: float
    object_name: str | None = None
    true_ra: float = 0.0
    true_dec: float = 0.0
    rotation_deg: float = 0.0
    scale: float = 1.0
    distortion: tuple[float, ...] = ()
    seeing: float = 0.0
    beta: float = 0.0
    shape: tuple[float, ...] = field(default=())
    zero_point: float = float("nan")
    sky_e: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    lamp_e: float = 0.0


def mjd_of_night(night: str) -> float:
    """Return the MJD at 0h UTC of a night's calendar date."""
    return float((date(int(night[:4]), int(night[4:6]), int(night[6:])) - date(1858, 11, 17)).days)


def local_sidereal_time(mjd: float) -> float:
    """Return the mean sidereal time at the observatory, degrees (IAU 1982, linear term: 0.1 s in this century)."""
    return (280.46061837 + 360.98564736629 * (mjd - 51544.5) + OBSERVATORY["longitude"]) % 360.0


def horizontal(mjd: float, ra: float, dec: float) -> tuple[float, float, float, float]:
    """Return hour angle, zenith distance, azimuth (deg) and airmass (plane-parallel) of a position."""
    hour_angle = (local_sidereal_time(mjd) - ra + 180.0) % 360.0 - 180.0
    h, d, latitude = np.radians([hour_angle, dec, OBSERVATORY["latitude"]])
    cosine = np.sin(latitude) * np.sin(d) + np.cos(latitude) * np.cos(d) * np.cos(h)
    azimuth = np.degrees(
        np.arctan2(-np.cos(d) * np.sin(h), np.sin(d) * np.cos(latitude) - np.cos(d) * np.cos(h) * np.sin(latitude))
    )
    return hour_angle, float(np.degrees(np.arccos(cosine))), float(azimuth % 360), float(1 / max(cosine, 0.05))


def exposures_of_night(plan: SurveyPlan, index: int, night: str, kind: str) -> list[Exposure]:
    """Return a night's exposures: zeros and dome flats before sunset, then the field about its transit.

    Parameters
    ----------
    plan : `SurveyPlan`
    index : `int`
        Number of the night in the survey: it numbers the exposures.
    night, kind : `str`

    Raises
    ------
    SurveyError
        Raised if the field never rises high enough over the observatory.
    """
    if plan.sky[1] - OBSERVATORY["latitude"] > 70.0:
        raise SurveyError(
            f"sky position Dec {plan.sky[1]:+.1f}", "a declination below +39.8, airmass 2.9 at CTIO", "choose another"
        )
    rng = np.random.default_rng([plan.seed, 101, int(night)])
    midnight, expnum = mjd_of_night(night), FIRST_EXPNUM + EXPNUMS_A_NIGHT * index
    calibration = {"propid": "2019A-9999", "night": night, "kind": kind, "ra": 0.0, "dec": OBSERVATORY["latitude"]}
    exposures = []
    for n in range(plan.zeros):
        mjd = midnight + _ZERO_START + n * (30.0 / 86400)
        zero = {**calibration, "ra": local_sidereal_time(mjd), "sequence": (n + 1, plan.zeros)}
        exposures.append(
            Exposure(
                expnum, obs_type="zero", mjd=mjd, exptime=0.0, physical_filter="solid plate 0.0 0.0",
                object_name="pre-night zero", **zero,
            )
        )  # fmt: skip
        expnum += 1
    for n in range(plan.flats):
        mjd = midnight + _FLAT_START + n * (10.0 / 86400 + _READOUT)
        flat = {**calibration, "ra": local_sidereal_time(mjd), "sequence": (n + 1, plan.flats)}
        exposures.append(
            Exposure(
                expnum, obs_type="dome flat", mjd=mjd, exptime=10.0, physical_filter=plan.physical_filter,
                object_name="dome flat", lamp_e=32000.0 * rng.normal(1, 0.02), **flat,
            )
        )  # fmt: skip
        expnum += 1
    exposures += _objects(plan, rng, midnight + 1, expnum, night, kind)
    return exposures


def _objects(plan: SurveyPlan, rng, midnight: float, expnum: int, night: str, kind: str) -> list[Exposure]:
    """Return the object exposures of a night, a quarter of an hour apart, dithered, about the field's transit."""
    count = plan.exposures_per_night
    # Every night has sharp and poor exposures, so that no template is always better than the science image.
    seeing = rng.permutation(np.linspace(SEEING[0] + 0.05, SEEING[1] - 0.1, count)) + rng.uniform(-0.04, 0.04, count)
    start = midnight + 5.0 / 24
    to_transit = (plan.sky[0] - local_sidereal_time(start) + 180.0) % 360.0 - 180.0
    # At most three hours from local midnight, whatever the date: the night must be dark.
    start += np.clip(to_transit / 360.985647, -3 / 24, 3 / 24) - count * 450.0 / 86400
    exposures = []
    for n in range(count):
        mjd = float(start + n * 900.0 / 86400)
        # Under the 39" between transients and the edges of their detector, see scene.MARGIN.
        dither = rng.uniform(-25, 25, 2) / 3600
        ra = (plan.sky[0] + dither[0] / np.cos(np.radians(plan.sky[1]))) % 360
        dec = plan.sky[1] + dither[1]
        airmass = horizontal(mjd, ra, dec)[3]
        error = rng.normal(0, 2.0, 2) / 3600
        transparency = rng.normal(0, 0.03) - (0.15 if rng.random() < 0.15 else 0.0)
        exposures.append(
            Exposure(
                expnum + n, night, kind, "object", mjd, plan.exposure_time, plan.physical_filter, plan.proposal,
                (n + 1, count), float(ra), float(dec),
                # As in the archive, some exposures have no OBJECT.
                object_name=None if rng.random() < 0.2 else "SIM-A0",
                true_ra=float((ra + error[0] / np.cos(np.radians(dec))) % 360), true_dec=float(dec + error[1]),
                rotation_deg=float(rng.normal(0, 0.01)), scale=float(1 + rng.normal(0, 5e-5)),
                distortion=tuple(float(d) for d in rng.normal(0, 1.5e-4, 14)),
                seeing=float(np.clip(seeing[n], *SEEING)), beta=float(rng.uniform(3.5, 4.5)),
                shape=tuple(float(s) for s in rng.uniform(0, 1, 8)),
                zero_point=float(plan.nominal_zero_point - 0.1 * airmass + transparency),
                sky_e=float(plan.nominal_sky * rng.uniform(0.85, 1.2)),
                gradient=tuple(float(g) for g in rng.normal(0, 0.01, 2)),
            )
        )  # fmt: skip
    return exposures

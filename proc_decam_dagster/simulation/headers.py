"""Header cards and file names of raw DECam files, as the real ones have them."""

import numpy as np

from proc_decam_dagster.camera.detectors import Detector
from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE, Box
from proc_decam_dagster.simulation.plan import OBSERVATORY, Exposure, horizontal, local_sidereal_time

FOCUS = {"FS4": 63, "FS3": 64, "FN4": 69, "FN3": 70, "FS2": 71, "FS1": 72, "FN1": 73, "FN2": 74}
"""The eight smaller CCDs that a raw file holds beside the science CCDs, and their number in the focal plane."""
FOCUS_SHAPE = (2098, 2160)
CODES = {"zero": "zri", "dome flat": "fri", "object": "ori"}
"""The three letters in the archive's file names: kind, `r`aw, `i`mage."""


def iso(mjd: float, precision: int = 6) -> str:
    """Return an MJD (UTC) as an ISO date."""
    from astropy.time import Time

    return Time(mjd, format="mjd", scale="utc", precision=precision).isot


def file_name(exposure: Exposure) -> str:
    """Return the archive's name of a raw file, ``c4d_YYMMDD_HHMMSS_{zri,fri,ori}.fits.fz``."""
    day, time = iso(exposure.mjd).split("T")
    return f"c4d_{day[2:].replace('-', '')}_{time[:8].replace(':', '')}_{CODES[exposure.obs_type]}.fits.fz"


def caldat(exposure: Exposure) -> str:
    """Return the calendar date of the night, ``YYYY-MM-DD``."""
    return f"{exposure.night[:4]}-{exposure.night[4:6]}-{exposure.night[6:]}"


def sexagesimal(value: float, digits: int = 3, sign: bool = False) -> str:
    """Return a number of hours or degrees as ``DD:MM:SS.sss``."""
    units = round(abs(value) * 3600 * 10**digits)
    seconds, rest = divmod(units, 10**digits)
    lead = "-" if value < 0 else "+" if sign else ""
    return f"{lead}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:0{digits}d}"


def coordinates(exposure: Exposure) -> tuple[str, str]:
    """Return the pointing as headers and archive give it: RA in hours, Dec in degrees."""
    return sexagesimal(exposure.ra % 360 / 15), sexagesimal(exposure.dec)


def primary(exposure: Exposure, extensions: int) -> list[tuple[str, object, str]]:
    """Return the cards of the primary header.

    Parameters
    ----------
    exposure : `Exposure`
    extensions : `int`
        Number of extensions, NEXTEND.
    """
    ra, dec = coordinates(exposure)
    begin = iso(exposure.mjd)
    dark = exposure.exptime + (1.1 if exposure.exptime else 0.04)
    hour_angle, zenith, azimuth, airmass = horizontal(exposure.mjd, exposure.ra, exposure.dec)
    if exposure.obs_type != "object":
        zenith, azimuth, airmass = 0.0, 0.0, 1.0
    light = exposure.obs_type != "zero"
    archive_path = f"/data_local/images/DTS/{exposure.propid}/DECam_{exposure.expnum:08d}.fits.fz"
    cards = [
        ("NEXTEND", extensions, "Number of extensions"),
        ("PROCTYPE", "RAW", "Data processing level"),
        ("PRODTYPE", "image", "Data product type"),
        ("PIXSCAL1", 0.27, "[arcsec/pixel] Pixel scale, axis 1"),
        ("PIXSCAL2", 0.27, "[arcsec/pixel] Pixel scale, axis 2"),
        ("FILENAME", f"DECam_{exposure.expnum:08d}.fits", "Filename"),
        ("OBS-LONG", -OBSERVATORY["longitude"], "[deg] Observatory west longitude"),
        ("TELESCOP", "CTIO 4.0-m telescope", "Telescope name"),
        ("OBSERVAT", "CTIO", "Observatory name"),
        ("OBS-LAT", OBSERVATORY["latitude"], "[deg] Observatory latitude"),
        ("OBS-ELEV", OBSERVATORY["elevation"], "[m] Observatory elevation"),
        ("INSTRUME", "DECam", "Instrument used to obtain these data"),
        ("EXPREQ", exposure.exptime, "[s] Requested exposure duration"),
        ("EXPTIME", exposure.exptime, "[s] Exposure duration"),
        ("DARKTIME", dark, "[s] Dark time"),
        ("OBSID", "ct4m" + begin[:19].replace("-", "").replace(":", "").lower(), "Unique Observation ID"),
        ("DATE-OBS", begin, "UTC epoch"),
        ("TIME-OBS", begin[11:], "Time of observation start (UTC)"),
        ("MJD-OBS", round(exposure.mjd, 8), "MJD of observation start"),
        ("OPENSHUT", begin, "Time when shutter opened (UTC)"),
        ("TIMESYS", "UTC", "Time system"),
        ("EXPNUM", exposure.expnum, "DECam exposure number"),
        ("OBSTYPE", exposure.obs_type, "Observation type"),
        ("CAMSHUT", "Open" if light else "Closed", "Camera shutter at exposure start"),
        ("PROGRAM", "A simulated survey", "Current observing program"),
        ("OBSERVER", "Simulation", "Observer name(s)"),
        ("PROPOSER", "Simulation", "Proposal Principle Investigator"),
        ("DTPI", "Simulation", "Principal Investigator"),
        ("PROPID", exposure.propid, "Proposal ID"),
        ("EXCLUDED", "", "DECam components not used for this frame"),
        ("SEQID", "simulated sequence", "Sequence name"),
        ("SEQNUM", exposure.sequence[0], "Number of image in sequence"),
        ("SEQTOT", exposure.sequence[1], "Total number of images in sequence"),
        ("AOS", exposure.obs_type == "object", "AOS data available if true"),
        ("BCAM", False, "BCAM data available if true"),
        ("GUIDER", int(exposure.obs_type == "object"), "Guider (0-absent,1-ok,2-lost star)"),
        ("SKYSTAT", True, "Cloud camera (RASICAM) available if true"),
        ("FILTER", exposure.physical_filter, "Unique filter identifier"),
        ("FILTPOS", "cassette_1", "Filter position in FCM"),
        ("INSTANCE", f"DECam_{exposure.night}", "SISPI instance name"),
        ("ERRORS", "None", "SISPI readout errors"),
        ("TELEQUIN", 2000.0, "Equinox of telescope coordinates"),
        ("TELSTAT", "Track", "Telescope tracking status"),
        ("RA", ra, "[HH:MM:SS] Target RA"),
        ("DEC", dec, "[DD:MM:SS] Target DEC"),
        ("TELRA", ra, "[HH:MM:SS] Telescope RA"),
        ("TELDEC", dec, "[DD:MM:SS] Telescope DEC"),
        ("HA", sexagesimal(hour_angle / 15, 2, sign=True), "[HH:MM:SS] Telescope hour angle"),
        ("ZD", round(zenith, 2), "[deg] Telescope zenith distance"),
        ("AZ", round(azimuth, 4), "[deg] Telescope azimuth angle"),
        ("TELFOCUS", "-2407.60,-1843.69,2387.06,28.26,-241.27,-0.00", "DECam hexapod settings"),
        ("VSUB", True, "True if CCD substrate voltage is on"),
        ("LST", sexagesimal(local_sidereal_time(exposure.mjd) / 15, 1), "Local Sidereal Time"),
        ("PMOSTEMP", 14.7, "[deg C] Primary mirror top surface temp"),
        ("OUTTEMP", 14.2, "[deg C] Outside temperature"),
        ("AIRMASS", round(airmass, 2), "Airmass"),
        ("HUMIDITY", 32.0, "[%] Ambient relative humidity (outside)"),
        ("PRESSURE", 779.0, "[Torr] Barometric pressure (outside)"),
        ("DIMMSEE", round(exposure.seeing, 3) if exposure.seeing else 0.898, "[arcsec] DIMM Seeing"),
        ("WINDSPD", 6.437, "[m/s] Wind speed"),
        ("WINDDIR", 270.0, "[deg] Wind direction (from North)"),
        ("MULTIEXP", False, "Frame contains multiple exposures if true"),
        ("LUTVER", "v20160516", "Hexapod Lookup Table version"),
        ("SISPIVER", "trunk", "SISPI software version"),
        ("CONSTVER", "DECAM:69", "SISPI constants version"),
        ("HDRVER", "13", "DECam fits header version"),
        ("DTSITE", "ct", "observatory location"),
        ("DTTELESC", "ct4m", "telescope identifier"),
        ("DTINSTRU", "decam", "instrument identifier"),
        ("DTCALDAT", caldat(exposure), "calendar date from observing schedule"),
        ("ODATEOBS", "", "previous DATE-OBS"),
        ("DTUTC", iso(exposure.mjd + (exposure.exptime + 35) / 86400, 0)[:19], "post exposure UTC epoch from DTS"),
        ("DTOBSERV", "NOAO", "scheduling institution"),
        ("DTPROPID", exposure.propid, "observing proposal ID"),
        ("DTACQNAM", archive_path, "file name supplied at telescope"),
        ("DTNSANAM", file_name(exposure), "file name in NOAO Science Archive"),
        ("DTSTATUS", "done", "data transport status"),
        ("SIMULATE", True, "Pixels are simulated"),
    ]
    if exposure.object_name is not None:
        cards.append(("OBJECT", exposure.object_name, "Object name"))
    return cards


def _mosaic(detector: Detector) -> tuple[int, int]:
    """Return the first pixel of a CCD in the mosaic of DETSIZE: 33.75 mm a column of CCDs, 63.77 mm a CCD's height."""
    ny, nx = TRIMMED_SHAPE
    column = round((detector.center_mm[0] + 185.6) / 33.75) + 1
    return column * nx, round((detector.center_mm[1] + 191.3) / 63.77 * 2) * (ny // 2)


def extension(detector: Detector, wcs_cards: dict[str, object]) -> list[tuple[str, object, str]]:
    """Return the cards of a science CCD's extension.

    Parameters
    ----------
    detector : `Detector`
    wcs_cards : `dict`
        WCS in the trimmed frame. Real raw headers give just these values, beside an LTV that is not applied to them.
    """
    a = detector.amplifiers[0]
    y0 = a.raw_data.y0
    ny, nx = TRIMMED_SHAPE
    full = Box(56, y0, 56 + nx, y0 + ny)
    x_mosaic, y_mosaic = _mosaic(detector)

    def in_mosaic(box: Box) -> str:
        return Box(box.x0 + x_mosaic, box.y0 + y_mosaic, box.x1 + x_mosaic, box.y1 + y_mosaic).section()

    cards: list[tuple[str, object, str]] = [
        ("BUNIT", "adu", "Brightness units for pixel array"),
        ("DETSIZE", "[1:29400,1:29050]", "Detector size"),
        ("TRIMSEC", full.section(), "Section of useful data"),
        ("DATASEC", full.section(), "Data section"),
        ("DETSEC", in_mosaic(Box(0, 0, nx, ny)), "Detector section"),
        ("CCDSEC", f"[1:{nx},1:{ny}]", "CCD section"),
    ]
    for amplifier in detector.amplifiers:
        name, box, data = amplifier.name, amplifier.bbox, amplifier.raw_data
        xs = (box.x1, box.x0 + 1) if amplifier.flip_x else (box.x0 + 1, box.x1)
        ys = (box.y1, box.y0 + 1) if amplifier.flip_y else (box.y0 + 1, box.y1)
        post = Box(data.x0, 0, data.x1, y0) if y0 else Box(data.x0, ny, data.x1, RAW_SHAPE[0])
        prescan = Box(0, y0, 6, y0 + ny) if box.x0 == 0 else Box(RAW_SHAPE[1] - 6, y0, RAW_SHAPE[1], y0 + ny)
        cards += [
            (f"TRIMSEC{name}", data.section(), f"Section of useful data, amp {name}"),
            (f"DETSEC{name}", in_mosaic(box), f"Detector section, amp {name}"),
            (f"CCDSEC{name}", box.section(), f"CCD section, amp {name}"),
            (f"AMPSEC{name}", f"[{xs[0]}:{xs[1]},{ys[0]}:{ys[1]}]", f"CCD section in read order, amp {name}"),
            (f"DATASEC{name}", data.section(), f"Data section, amp {name}"),
            (f"BIASSEC{name}", amplifier.raw_overscan.section(), f"Bias (overscan) section, amp {name}"),
            (f"PRESEC{name}", prescan.section(), f"Prescan section, amp {name}"),
            (f"POSTSEC{name}", post.section(), f"Postscan section, amp {name}"),
        ]
    cards += [
        ("DETECTOR", f"{detector.name}-SIM-{detector.id:02d}", "Detector identifier"),
        ("CCDNUM", detector.id, "CCD number"),
        ("DETPOS", detector.name, "Detector position in the focal plane"),
    ]
    for amplifier in detector.amplifiers:
        name = amplifier.name
        cards += [
            (f"GAIN{name}", amplifier.gain, f"[e/adu] Gain, amp {name}"),
            (f"RDNOISE{name}", amplifier.read_noise, f"[e] Read noise, amp {name}"),
            (f"SATURAT{name}", amplifier.saturation, f"[adu] Saturation level, amp {name}"),
        ]
    cards += [("FPA", "DECAM_BKP1", ""), ("INHERIT", True, ""), ("CCDBIN1", 1, ""), ("CCDBIN2", 1, "")]
    values = {**wcs_cards, "RADESYS": "FK5"}
    cards += [("EQUINOX", 2000.0, ""), ("LTM1_1", 1.0, ""), ("LTM2_2", 1.0, ""), ("LTM1_2", 0.0, "")]
    cards += [("LTM2_1", 0.0, ""), ("LTV1", 56.0, ""), ("LTV2", float(y0), "")]
    cards += [(key, float(value) if isinstance(value, np.floating) else value, "") for key, value in values.items()]
    return cards + [("VALIDA", True, "Amp A is valid"), ("VALIDB", True, "Amp B is valid")]


def focus_extension(name: str) -> list[tuple[str, object, str]]:
    """Return the cards of a focus CCD's extension."""
    return [
        ("BUNIT", "adu", "Brightness units for pixel array"),
        ("DETECTOR", f"{name}-SIM", "Detector identifier"),
        ("CCDNUM", FOCUS[name], "CCD number"),
        ("DETPOS", name, "Detector position in the focal plane"),
    ]

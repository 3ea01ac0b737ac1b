"""Which detectors of a visit are fit for use, and why not: one row of the visit summary against the others."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.pixels.mask import UNUSABLE, fraction

LOST = 0.95
"""Fraction of unusable pixels from which an amplifier is lost: dead, or masked by the survey's list."""


@dataclass(frozen=True)
class QualityLimits:
    """Limits beyond which a detector is not accepted.

    Attributes
    ----------
    zero_point_offset : `float`
        Zero point against the visit's median, mag.
    seeing_ratio : `float`
        Seeing over the visit's median.
    seeing_arcsec : `float`
        Seeing.
    astrometric_rms_mas : `float`
        Astrometric scatter.
    masked_fraction : `float`
        Fraction of unusable pixels on the amplifiers that are not lost: half a CCD is as good as a whole one.
    ellipticity : `float`
        Ellipticity of the PSF: beyond it stars are trailed.
    star_offset : `float`
        Median difference of its stars from their means over all visits, mag; only with at least ``min_stars`` of them.
    min_stars : `int`
    """

    zero_point_offset: float = 0.3
    seeing_ratio: float = 1.5
    seeing_arcsec: float = 4.0
    astrometric_rms_mas: float = 100.0
    masked_fraction: float = 0.5
    ellipticity: float = 0.3
    star_offset: float = 0.15
    min_stars: int = 8


def amplifier_figures(mask: np.ndarray, detector: int) -> dict[str, str | float]:
    """Return what a visit summary says of a detector's amplifiers.

    Parameters
    ----------
    mask : `numpy.ndarray`, (4096, 2048), int32
        Of the calibrated exposure; of a cutout, from its first pixel on.
    detector : `int`

    Returns
    -------
    figures : `dict`
        ``lost_amplifiers``, the letters of those whose pixels are (nearly) all unusable, and ``live_masked_fraction``,
        that of the unusable pixels on the others.
    """
    parts = {a.name: mask[a.bbox.slices] for a in DETECTORS[detector].amplifiers}
    parts = {name: fraction(part, UNUSABLE) for name, part in parts.items() if part.size}
    live = [value for value in parts.values() if value < LOST]
    return {
        "lost_amplifiers": "".join(sorted(name for name, value in parts.items() if value >= LOST)),
        "live_masked_fraction": float(np.mean(live)) if live else 1.0,
    }


def judge(summary: Table, stars: Table, limits: QualityLimits | None = None) -> Table:
    """Return a visit summary with the judgement of each detector.

    Parameters
    ----------
    summary : `astropy.table.Table`
        One row a detector, see `calibrate.Calibrated.summary` and `amplifier_figures`.
    stars : `astropy.table.Table`
        The visit's isolated stars, see `star_association.match_visit`.
    limits : `QualityLimits`, optional

    Returns
    -------
    summary : `astropy.table.Table`
        With ``accepted`` and ``reason`` (empty if accepted), ``zero_point_offset`` (from the visit's median, mag),
        ``star_offset`` and ``star_scatter`` (mag; NaN without stars in other visits), ``n_isolated_stars``.
    """
    limits = limits or QualityLimits()
    out = summary.copy()
    zero_point = np.asarray(out["zero_point"], float)
    seeing = np.asarray(out["fwhm_arcsec"], float)
    offset = zero_point - np.nanmedian(zero_point)
    star_offset, star_scatter, count = (np.full(len(out), np.nan), np.full(len(out), np.nan), np.zeros(len(out), int))
    repeated = stars[np.asarray(stars["n_visits"]) > 1] if len(stars) else stars
    for row, detector in enumerate(out["detector"]):
        own = np.asarray(repeated["delta_mag"], float)[np.asarray(repeated["detector"]) == detector]
        own = own[np.isfinite(own)]
        count[row] = len(own)
        if len(own):
            star_offset[row] = np.median(own)
            star_scatter[row] = 1.4826 * np.median(np.abs(own - np.median(own)))
    reasons = []
    for row in range(len(out)):
        found = []
        if not np.isfinite(zero_point[row]) or abs(offset[row]) > limits.zero_point_offset:
            found.append(f"zero point {offset[row]:+.2f} mag off the visit's median")
        if not seeing[row] <= limits.seeing_arcsec:
            found.append(f"seeing {seeing[row]:.2f} arcsec")
        elif seeing[row] > limits.seeing_ratio * np.nanmedian(seeing):
            found.append(f"seeing {seeing[row]:.2f} arcsec against {np.nanmedian(seeing):.2f} of the visit")
        if not out["astrometric_rms_mas"][row] <= limits.astrometric_rms_mas:
            found.append(f"astrometric scatter {out['astrometric_rms_mas'][row]:.0f} mas")
        ellipticity = float(np.hypot(out["psf_e1"][row], out["psf_e2"][row]))
        if ellipticity > limits.ellipticity:
            found.append(f"stars trailed, ellipticity {ellipticity:.2f}")
        if out["live_masked_fraction"][row] > limits.masked_fraction:
            found.append(f"{100 * out['live_masked_fraction'][row]:.0f} % of the pixels masked")
        if count[row] >= limits.min_stars and abs(star_offset[row]) > limits.star_offset:
            found.append(f"stars {star_offset[row]:+.2f} mag off their means over all visits")
        reasons.append("; ".join(found))
    out["zero_point_offset"] = offset
    out["star_offset"], out["star_scatter"], out["n_isolated_stars"] = star_offset, star_scatter, count
    out["accepted"] = np.array([not reason for reason in reasons], bool)
    out["reason"] = np.array(reasons, dtype="U200") if reasons else np.zeros(0, "U200")
    return out


def mean_direction(ra: np.ndarray, dec: np.ndarray) -> tuple[float, float]:
    """Return the mean of sky positions (degrees), true at every pole and meridian."""
    ra, dec = np.deg2rad(np.asarray(ra, float)), np.deg2rad(np.asarray(dec, float))
    x, y, z = (np.cos(dec) * np.cos(ra)).mean(), (np.cos(dec) * np.sin(ra)).mean(), np.sin(dec).mean()
    return float(np.rad2deg(np.arctan2(y, x)) % 360), float(np.rad2deg(np.arctan2(z, np.hypot(x, y))))


def visit_row(summary: Table) -> dict:
    """Return one row for a visit, from its final visit summary: medians over its accepted detectors."""
    accepted = summary[np.asarray(summary["accepted"], bool)]
    used = accepted if len(accepted) else summary
    ra, dec = mean_direction(used["ra"], used["dec"])
    row = {
        "visit": int(summary["visit"][0]),
        "band": str(summary["band"][0]),
        "physical_filter": str(summary["physical_filter"][0]),
        "exptime": float(summary["exptime"][0]),
        "mjd_mid": float(np.mean(used["mjd_mid"])),
        "ra": ra,
        "dec": dec,
        "n_detectors": len(summary),
        "n_accepted": len(accepted),
    }
    for name in ("fwhm_arcsec", "zero_point", "sky_e", "sky_rms_e", "depth_5sigma_mag", "astrometric_rms_mas"):
        row[name] = float(np.nanmedian(np.asarray(used[name], float)))
    row["zero_point_spread"] = float(np.nanstd(np.asarray(used["zero_point"], float)))
    return row

"""All that shines in a survey's field: stars, variables, galaxies, transients, movers, and the fakes' list."""

from dataclasses import dataclass

import numpy as np

from proc_decam_dagster.camera.colour_terms import COLOUR_TERMS
from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.camera.distortion import detector_outline, field_radius_deg
from proc_decam_dagster.camera.distortion import pixel_to_sky as nominal_sky
from proc_decam_dagster.camera.distortion import sky_to_pixel as nominal_pixel
from proc_decam_dagster.camera.geometry import PIXEL_SCALE, TRIMMED_SHAPE
from proc_decam_dagster.simulation import catalogue
from proc_decam_dagster.simulation.optics import PsfField, pixel_to_sky
from proc_decam_dagster.simulation.plan import AB_OF_NANOJANSKY, Exposure, SurveyPlan, mjd_of_night

MARGIN = 150
"""Transients lie this many pixels inside a detector at the nominal pointing, more than dithers move them."""
BRIGHT = 16.5
"""Stars brighter than this (AB) hide what is near: nothing is placed there."""
HIDDEN_ARCSEC = 8.0
SPARSE = 0.03
"""Fraction of the stars that exist in htm7 pixels of the field that no simulated detector sees."""
TRANSIENT = np.dtype(
    [("id", "i8"), ("ra", "f8"), ("dec", "f8"), ("flux_njy", "f8"), ("slope", "f8"), ("mjd_reference", "f8")]
    + [("snr_nominal", "f8"), ("host_id", "i8"), ("host_distance_arcsec", "f8"), ("detector", "i4")]
)
"""Flux (nJy) at the reference time and its relative change a day; the host is 0 for those far from galaxies."""
MOVER = np.dtype(
    [("id", "i8"), ("ra", "f8"), ("dec", "f8"), ("mjd_reference", "f8"), ("rate_ra", "f8"), ("rate_dec", "f8")]
    + [("flux_njy", "f8"), ("detector", "i4")]
)
"""Position at the reference time (deg) and rates in arcsec/h, in RA times cos Dec."""


@dataclass(frozen=True)
class Scene:
    """What a survey sees, the same in every process.

    Attributes
    ----------
    plan : `SurveyPlan`
    stars, galaxies : `numpy.ndarray`
        Arrays of `catalogue.STAR` and `catalogue.GALAXY` in the htm7 pixels that the simulated detectors touch.
    transients : `numpy.ndarray`
        Array of `TRANSIENT`.
    """

    plan: SurveyPlan
    stars: np.ndarray
    galaxies: np.ndarray
    transients: np.ndarray


def seen_trixels(plan: SurveyPlan) -> list[int]:
    """Return the htm7 pixels that the simulated detectors touch, dithers included."""
    seen: set[int] = set()
    for detector in plan.detectors:
        outline = detector_outline(detector, *plan.sky)
        center = outline.mean(axis=0)
        if np.ptp(outline[:, 0]) > 180:
            center[0] = np.degrees(np.angle(np.exp(1j * np.radians(outline[:, 0])).sum())) % 360
        # 0.2° from the centre reach the corners (0.168°) and 100" beyond.
        seen.update(catalogue.trixels_of_circle(center[0], center[1], 0.2))
    return sorted(seen)


def sky_tables(plan: SurveyPlan) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Return stars and galaxies of every htm7 pixel that DECam's field touches; pixels not seen have few."""
    seen = set(seen_trixels(plan))
    everywhere = seen | set(catalogue.trixels_of_circle(*plan.sky, field_radius_deg + 0.1))
    tables = {}
    rng = np.random.default_rng([plan.seed, 501])
    for trixel in sorted(everywhere):
        thinning = 1.0 if trixel in seen else SPARSE
        stars = catalogue.stars(plan.seed, trixel, thinning)
        if trixel in seen:
            _make_variable(plan, stars, rng)
        tables[trixel] = (stars, catalogue.galaxies(plan.seed, trixel, thinning))
    return tables


def _make_variable(plan: SurveyPlan, stars: np.ndarray, rng) -> None:
    """Let a few stars a detector vary, in place."""
    low, high = catalogue.VARIABLE_FRACTION_RANGE
    candidates = np.flatnonzero((stars["r"] > low) & (stars["r"] < high))
    # A trixel is about seven CCDs large.
    chosen = rng.choice(candidates, min(7 * plan.variables, candidates.size), replace=False)
    stars["amplitude"][chosen] = rng.uniform(0.1, 0.5, chosen.size)
    stars["period"][chosen] = 10 ** rng.uniform(-0.7, 1.5, chosen.size)
    stars["phase"][chosen] = rng.uniform(0, 1, chosen.size)


def make_scene(plan: SurveyPlan, tables: dict[int, tuple[np.ndarray, np.ndarray]]) -> Scene:
    """Return the scene of a survey from the tables of `sky_tables`."""
    seen = seen_trixels(plan)
    stars = np.concatenate([tables[t][0] for t in seen])
    galaxies = np.concatenate([tables[t][1] for t in seen])
    science = [night for night, kind in plan.nights() if kind == "science"]
    reference = mjd_of_night(science[0]) + 1.2 if science else mjd_of_night(plan.nights()[-1][0]) + 1.2
    transients = [_transients(plan, detector, stars, galaxies, reference) for detector in plan.detectors]
    return Scene(plan, stars, galaxies, np.concatenate(transients) if transients else np.zeros(0, TRANSIENT))


def flux_for_snr(snr, area: float, background: float) -> np.ndarray:
    """Return the electrons of a point source that reaches an SNR over a background of electrons a pixel."""
    snr = np.asarray(snr, float)
    return 0.5 * (snr**2 + np.sqrt(snr**4 + 4 * snr**2 * area * background))


def snr_of_flux(flux, area: float, background: float) -> np.ndarray:
    """Return the SNR of an optimal PSF flux, ``flux / sqrt(area · background + flux)``."""
    flux = np.asarray(flux, float)
    return flux / np.sqrt(area * background + np.abs(flux))


def background_of(exposure_sky: float, detector: int) -> float:
    """Return the variance of a blank pixel, electrons²: sky and read noise."""
    return exposure_sky + float(np.mean([a.read_noise**2 for a in known_detector(detector).amplifiers]))


def nanojansky(electrons, zero_point: float) -> np.ndarray:
    """Return nJy from electrons and the AB magnitude of 1 e-."""
    return np.asarray(electrons) * 10 ** (0.4 * (AB_OF_NANOJANSKY - zero_point))


def _clear_of_bright_stars(ra, dec, stars: np.ndarray) -> np.ndarray:
    """Whether positions are farther than `HIDDEN_ARCSEC` from every bright star."""
    bright = stars[stars["r"] < BRIGHT]
    if not bright.size:
        return np.ones(np.shape(ra), bool)
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(catalogue.vector(bright["ra"], bright["dec"])).query(catalogue.vector(ra, dec))
    return distance > np.radians(HIDDEN_ARCSEC / 3600)


def _apart(x, y, distance: float) -> np.ndarray:
    """Return the indices of positions that keep a distance from all chosen before them."""
    chosen: list[int] = []
    for i in range(len(x)):
        if all((x[i] - x[j]) ** 2 + (y[i] - y[j]) ** 2 > distance**2 for j in chosen):
            chosen.append(i)
    return np.array(chosen, int)


def _transients(plan: SurveyPlan, detector: int, stars, galaxies, reference: float) -> np.ndarray:
    """Return the transients of a detector: half of them in galaxies, SNR from 4 to 60 on a nominal exposure."""
    rng = np.random.default_rng([plan.seed, 502, detector])
    ny, nx = TRIMMED_SHAPE
    number = 3 * plan.transients
    x, y = rng.uniform(MARGIN, nx - MARGIN, number), rng.uniform(MARGIN, ny - MARGIN, number)
    ra, dec = nominal_sky(detector, x, y, *plan.sky)
    host, distance = np.zeros(number, np.int64), np.zeros(number)
    gx, gy = nominal_pixel(detector, galaxies["ra"], galaxies["dec"], *plan.sky)
    hosts = np.flatnonzero(
        (gx > MARGIN) & (gx < nx - MARGIN) & (gy > MARGIN) & (gy < ny - MARGIN) & (galaxies["r"] < 22.5)
    )
    inside = np.flatnonzero(rng.random(number) < 0.5) if hosts.size else np.zeros(0, int)
    if inside.size:
        chosen = galaxies[rng.choice(hosts, inside.size)]
        reach = chosen["radius"] * np.sqrt(-np.log(1 - rng.random(inside.size) * 0.95))
        angle = rng.uniform(0, 2 * np.pi, inside.size)
        dec[inside] = chosen["dec"] + reach * np.sin(angle) / 3600
        ra[inside] = (chosen["ra"] + reach * np.cos(angle) / 3600 / np.cos(np.radians(chosen["dec"]))) % 360
        host[inside], distance[inside] = chosen["id"], reach
    x, y = nominal_pixel(detector, ra, dec, *plan.sky)
    clear = np.flatnonzero(_clear_of_bright_stars(ra, dec, stars))
    keep = clear[_apart(x[clear], y[clear], 12.0)][: plan.transients]
    table = np.zeros(keep.size, TRANSIENT)
    table["id"] = detector * 100_000 + np.arange(keep.size)
    table["ra"], table["dec"], table["host_id"] = ra[keep], dec[keep], host[keep]
    table["host_distance_arcsec"] = distance[keep]
    # Evenly spread in the logarithm, so that every survey has as many strong ones.
    snr = np.geomspace(4, 60, max(plan.transients, 1))[: keep.size]
    table["snr_nominal"] = rng.permutation(snr)
    area = PsfField(1.15 / PIXEL_SCALE, 4.0).effective_area()
    electrons = flux_for_snr(table["snr_nominal"], area, background_of(plan.nominal_sky, detector))
    table["flux_njy"] = nanojansky(electrons, plan.nominal_zero_point - 0.12)
    table["slope"] = rng.uniform(-0.05, 0.05, keep.size)
    table["mjd_reference"], table["detector"] = reference, detector
    return table


def transient_fluxes(transients: np.ndarray, mjd: float, kind: str) -> np.ndarray:
    """Return the transients' fluxes (nJy) at a time; none shines in template nights."""
    if kind != "science":
        return np.zeros(transients.size)
    return transients["flux_njy"] * np.clip(1 + transients["slope"] * (mjd - transients["mjd_reference"]), 0.3, 2.0)


def movers(plan: SurveyPlan, night: str, start: float, detector: int, stars: np.ndarray) -> np.ndarray:
    """Return a science night's moving objects on a detector, an array of `MOVER`: 2 to 20 arcsec/h, SNR 12 to 50."""
    rng = np.random.default_rng([plan.seed, 503, detector, int(night)])
    ny, nx = TRIMMED_SHAPE
    number = 3 * plan.movers
    x, y = rng.uniform(MARGIN, nx - MARGIN, number), rng.uniform(MARGIN, ny - MARGIN, number)
    ra, dec = nominal_sky(detector, x, y, *plan.sky)
    keep = np.flatnonzero(_clear_of_bright_stars(ra, dec, stars))[: plan.movers]
    table = np.zeros(keep.size, MOVER)
    table["id"] = (int(night) * 100 + detector) * 100 + np.arange(keep.size)
    table["ra"], table["dec"], table["mjd_reference"], table["detector"] = ra[keep], dec[keep], start, detector
    rate, angle = rng.uniform(2, 20, keep.size), rng.uniform(0, 2 * np.pi, keep.size)
    table["rate_ra"], table["rate_dec"] = rate * np.cos(angle), rate * np.sin(angle)
    area = PsfField(1.15 / PIXEL_SCALE, 4.0).effective_area()
    electrons = flux_for_snr(10 ** rng.uniform(np.log10(12), np.log10(50), keep.size), area,
                             background_of(plan.nominal_sky, detector))  # fmt: skip
    table["flux_njy"] = nanojansky(electrons, plan.nominal_zero_point - 0.12)
    return table


def mover_positions(table: np.ndarray, mjd) -> tuple[np.ndarray, np.ndarray]:
    """Return the movers' positions (deg) at an MJD."""
    hours = (mjd - table["mjd_reference"]) * 24
    dec = table["dec"] + table["rate_dec"] * hours / 3600
    return (table["ra"] + table["rate_ra"] * hours / 3600 / np.cos(np.radians(table["dec"]))) % 360, dec


def star_magnitudes(plan: SurveyPlan, stars: np.ndarray, mjd: float) -> np.ndarray:
    """Return the stars' magnitudes in DECam's own band at a time; variables follow a sine."""
    term = COLOUR_TERMS[plan.band]
    magnitude = stars[term.primary] + term.offset(stars[term.blue] - stars[term.red])
    variable = stars["amplitude"] > 0
    v = stars[variable]
    magnitude[variable] += v["amplitude"] * np.sin(2 * np.pi * (mjd / v["period"] + v["phase"]))
    return magnitude


def fakes(plan: SurveyPlan, exposure: Exposure, detector: int, cards: dict, stars: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fakes to be injected into a detector of an exposure: x, y, ra, dec, snr, flux_e, mag."""
    rng = np.random.default_rng([plan.seed, 504, detector, exposure.expnum])
    ny, nx = TRIMMED_SHAPE
    x, y = rng.uniform(40, nx - 40, 2 * plan.fakes), rng.uniform(40, ny - 40, 2 * plan.fakes)
    ra, dec = pixel_to_sky(cards, x, y)
    keep = np.flatnonzero(_clear_of_bright_stars(ra, dec, stars))[: plan.fakes]
    snr = 10 ** rng.uniform(1, np.log10(50), keep.size)
    flux = flux_for_snr(snr, PsfField.of(exposure).effective_area(), background_of(exposure.sky_e, detector))
    return {
        "x": x[keep], "y": y[keep], "ra": ra[keep], "dec": dec[keep], "snr": snr, "flux_e": flux,
        "mag": exposure.zero_point - 2.5 * np.log10(flux),
    }  # fmt: skip

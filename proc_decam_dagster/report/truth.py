"""How good a simulated survey's products are: figures from the data on disk and the truth tables alone.

The engine never reads the truth, and no figure is taken from what the engine believes of its own quality. What is
compared are the calibrated quantities themselves (WCS, zero point, FWHM) and the sample of DIA sources that its
real/bogus score and flags select.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.report.figures import dia_sources, sample, visit_summary
from proc_decam_dagster.report.images import read_plane
from proc_decam_dagster.report.recovery import MATCH_PIXELS
from proc_decam_dagster.repository.queries import find_certified, find_refs, path_of
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.proc_types import PROC_TYPES

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository

ASTROPHYSICAL_PIXELS = 5.0
"""A detection this near something that truly changed is not false, whatever its shape."""

UNUSABLE_PLANES = ("BAD", "SAT", "CR", "EDGE", "NODAT")
APERTURE_RADIUS = 4.0
SNR_BINS = {"snr_5_10": (5.0, 10.0), "snr_over_10": (10.0, np.inf)}


@dataclass(frozen=True)
class Truth:
    """The truth tables of a simulated survey."""

    folder: Path

    @cached_property
    def exposures(self) -> Table:
        """One row an exposure: EXPNUM, night, obs_type, zero_point, lamp_e …"""
        return Table.read(self.folder / "exposures.ecsv", format="ascii.ecsv")

    @cached_property
    def conditions(self) -> dict[tuple[int, int], float]:
        """FWHM of the PSF in pixels by (EXPNUM, detector)."""
        columns = [c for c in self.exposures.colnames if c.startswith("fwhm_px_")]
        return {
            (int(row["EXPNUM"]), int(column.removeprefix("fwhm_px_"))): float(row[column])
            for row in self.exposures
            for column in columns
        }

    def of_night(self, night: str, obs_type: str) -> Table:
        """Return a night's exposures of one observation type."""
        table = self.exposures
        keep = (np.asarray(table["night"]).astype(str) == night) & (np.asarray(table["obs_type"]) == obs_type)
        return table[keep]

    def pattern(self, name: str) -> np.ndarray:
        """Return a true fixed pattern, such as ``bias_28``, (4096, 2048)."""
        with fits.open(self.folder / f"{name}.fits", memmap=False) as hdus:
            return next(h.data for h in hdus if h.data is not None).astype(np.float32)

    def wcs(self, expnum: int, detector: int) -> WCS:
        """Return the true WCS of a CCD in an exposure."""
        path = self.folder / "wcs" / f"{expnum}_{detector:02d}.hdr"
        return WCS(fits.Header.fromtextfile(path))

    @cached_property
    def transients(self) -> Table:
        """Transients on each CCD of each science exposure: EXPNUM, detector, x, y, snr …"""
        return Table.read(self.folder / "transient_fluxes.ecsv", format="ascii.ecsv")

    def changing(self, expnum: int, detector: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions (x, y) of all that truly changes on a CCD: transients, movers, variable stars."""
        movers = Table.read(self.folder / "movers.ecsv", format="ascii.ecsv")
        rows = [_of_ccd(t, expnum, detector) for t in (self.transients, movers)]
        stars = Table.read(self.folder / "stars.fits")
        stars = stars[np.asarray(stars["amplitude"]) > 0]
        wcs = self.wcs(expnum, detector)
        # Far from the CCD the distortion has no inverse.
        ra, dec = wcs.all_pix2world(1023.5, 2047.5, 0)
        d_ra = ((np.asarray(stars["ra"]) - ra + 180) % 360 - 180) * np.cos(np.radians(dec))
        stars = stars[np.hypot(d_ra, np.asarray(stars["dec"]) - dec) < 0.25]
        x, y = wcs.all_world2pix(stars["ra"], stars["dec"], 0, quiet=True) if len(stars) else ([], [])
        found = [_xy(t) for t in rows] + [(np.asarray(x, float), np.asarray(y, float))]
        return tuple(np.concatenate([f[axis] for f in found]) for axis in (0, 1))


def robust_rms(values: np.ndarray) -> float:
    """Return 1.4826 times the median absolute deviation of the finite values."""
    values = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else float("nan")


def _amplifier_map(detector: int, attribute: str) -> np.ndarray:
    """Return a map, (4096, 2048), of an amplifier property."""
    image = np.empty((4096, 2048), np.float32)
    for amplifier in DETECTORS[detector].amplifiers:
        box = amplifier.bbox
        image[box.y0 : box.y1, box.x0 : box.x1] = getattr(amplifier, attribute)
    return image


def bias_residual_over_theory(repo: "Repository", truth: Truth, nights: Iterable[str]) -> float:
    """Return the worst ratio of a master bias's residual scatter to read and quantisation noise over √n."""
    ratios = []
    for night in nights:
        n = len(truth.of_night(night, "zero"))
        for ref in find_certified(repo, datasets.BIAS, names.calib_collection(night, datasets.BIAS)):
            detector, path = int(ref.dataId["detector"]), path_of(repo, ref)
            noise = _amplifier_map(detector, "read_noise") / _amplifier_map(detector, "gain")
            theory = np.sqrt((noise**2 + 1 / 12) / n)
            residual = (read_plane(path) - truth.pattern(f"bias_{detector:02d}")) / theory
            ratios.append(robust_rms(residual[read_plane(path, "MASK") == 0]))
    return _worst(ratios)


def flat_residual_over_theory(repo: "Repository", truth: Truth, nights: Iterable[str]) -> float:
    """Return the worst ratio of a master flat's residual scatter to photon and read noise of its frames."""
    ratios = []
    for night in nights:
        lamps = np.asarray(truth.of_night(night, "dome flat")["lamp_e"], float)
        for ref in find_certified(repo, datasets.FLAT, names.calib_collection(night, datasets.FLAT)):
            detector, path = int(ref.dataId["detector"]), path_of(repo, ref)
            band = str(ref.dataId["physical_filter"]).split(" ")[0]
            true = truth.pattern(f"flat_{band}_{detector:02d}")
            good = (read_plane(path, "MASK") == 0) & (true > 0.5)
            ratio = np.where(good, read_plane(path) / np.where(good, true, 1), np.nan)
            ratio /= np.nanmedian(ratio)
            signal = lamps.mean() * true
            noise = _amplifier_map(detector, "read_noise")
            theory = np.sqrt(np.where(good, signal + noise**2, 1) / len(lamps)) / np.where(good, signal, 1)
            ratios.append(robust_rms((ratio - 1) / theory))
    return _worst(ratios)


def _worst(values: list[float]) -> float:
    return float(np.max(values)) if values else float("nan")


def astrometry_mas_rms(repo: "Repository", truth: Truth, nights: Iterable[str]) -> float:
    """Return the rms, per axis, of the calexps' WCS against the truth on a grid over each CCD (mas)."""
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(20, 2027, 9), np.linspace(20, 4075, 17)))
    squares = []
    for night in nights:
        for ref in find_refs(repo, datasets.CALEXP, PROC_TYPES["drp"].chain(night)):
            with fits.open(path_of(repo, ref), memmap=False) as hdus:
                header = next(h.header for h in hdus if h.name == "IMAGE")
            true = truth.wcs(int(ref.dataId["visit"]), int(ref.dataId["detector"]))
            ra, dec = WCS(header).all_pix2world(x, y, 0)
            true_ra, true_dec = true.all_pix2world(x, y, 0)
            d_ra = ((ra - true_ra + 180) % 360 - 180) * np.cos(np.radians(true_dec))
            squares.append((d_ra**2 + (dec - true_dec) ** 2) / 2)
    return float(np.sqrt(np.mean(squares)) * 3.6e6) if squares else float("nan")


def photometry(repo: "Repository", truth: Truth, nights: Iterable[str]) -> dict[str, float]:
    """Return the rms of the zero points (mmag) and the worst error of the FWHM (%) against the truth."""
    zero_points = {int(r["EXPNUM"]): float(r["zero_point"]) for r in truth.exposures}
    offsets, widths = [], []
    for night in nights:
        for row in visit_summary(repo, night):
            visit, detector = int(row["visit"]), int(row["detector"])
            offsets.append(float(row["zero_point"]) - zero_points[visit])
            widths.append(float(row["seeing_fwhm_px"]) / truth.conditions[visit, detector] - 1)
    if not offsets:
        return {"zeropoint_mmag": float("nan"), "fwhm_error_percent": float("nan")}
    return {
        "zeropoint_mmag": float(np.sqrt(np.mean(np.square(offsets))) * 1e3),
        "fwhm_error_percent": float(np.max(np.abs(widths)) * 100),
    }


def coadd_noise_over_expected(repo: "Repository", coadd_subset: str, template_type: str, seed: int = 0) -> float:
    """Return a coadd's aperture noise on blank sky over what its warps' own aperture noises promise.

    The promise is that of the inverse-variance mean, ``1/√(Σ 1/σ²)``, with each warp's σ measured in the same
    apertures: single-pixel scatter would flatter a resampled image, whose pixels are correlated. The patch with the
    most pixels of full depth is measured.
    """
    chain = PROC_TYPES["coadd"].chain("", coadd_subset, template_type)
    depths = find_refs(repo, datasets.named(datasets.COADD_NIMAGE), chain)
    if not depths:
        return float("nan")
    maps = {(r.dataId["tract"], r.dataId["patch"]): read_plane(path_of(repo, r)) for r in depths}
    deepest = max(m.max() for m in maps.values())
    patch = max(maps, key=lambda k: int((maps[k] == deepest).sum()))
    where = f"skymap='{repo.settings.skymap}' AND tract={patch[0]} AND patch={patch[1]}"
    (coadd,) = find_refs(repo, datasets.named(datasets.COADD), chain, where)
    inputs = names.coadd_inputs_collection(coadd_subset, template_type)
    warps = find_refs(repo, datasets.named(datasets.DIRECT_WARP), inputs, f"instrument='DECam' AND {where}")
    image = read_plane(path_of(repo, coadd)).astype(np.float32)
    x, y = _blank_positions(image, maps[patch] == deepest, np.random.default_rng(seed))
    if len(x) < 100:
        return float("nan")
    singles = []
    for ref in warps:
        warp = read_plane(path_of(repo, ref)).astype(np.float32)
        noise = robust_rms(_aperture_sums(warp, x, y))
        if np.isfinite(noise):
            singles.append(noise)
    return robust_rms(_aperture_sums(image, x, y)) * float(np.sqrt(np.sum(1 / np.square(singles))))


def _blank_positions(image: np.ndarray, deep: np.ndarray, rng, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return random positions of full depth whose apertures hold no source."""
    from scipy.ndimage import binary_dilation, gaussian_filter

    filled = np.where(np.isfinite(image), image, 0)
    smooth = gaussian_filter(filled, 2.0)
    sources = smooth > np.median(smooth[deep]) + 2.0 * robust_rms(smooth[deep])
    blank = ~binary_dilation(sources | ~deep, iterations=int(APERTURE_RADIUS) + 3)
    blank[:40], blank[-40:], blank[:, :40], blank[:, -40:] = False, False, False, False
    y, x = np.nonzero(blank)
    chosen = rng.choice(len(x), min(count, len(x)), replace=False) if len(x) else np.array([], int)
    return x[chosen].astype(float), y[chosen].astype(float)


def _aperture_sums(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return sums in apertures, NaN where one holds a pixel without a value."""
    import sep

    finite = np.isfinite(image)
    sums, _, _ = sep.sum_circle(np.where(finite, image, 0).astype(np.float32), x, y, APERTURE_RADIUS)
    holes, _, _ = sep.sum_circle((~finite).astype(np.float32), x, y, APERTURE_RADIUS)
    return np.where(holes == 0, sums, np.nan)


def unusable(path: str) -> np.ndarray:
    """Return the pixels of an image file that no measurement uses (bool)."""
    with fits.open(path, memmap=False) as hdus:
        mask = next(h for h in hdus if h.name == "MASK")
        bits = sum(1 << int(mask.header[f"MP_{plane}"]) for plane in UNUSABLE_PLANES)
        image = next(h for h in hdus if h.name == "IMAGE").data
        return ((np.asarray(mask.data) & bits) != 0) | ~np.isfinite(image)


def _usable_at(bad: np.ndarray, x: np.ndarray, y: np.ndarray, margin: int = 15) -> np.ndarray:
    """Return which positions lie inside the image with no unusable pixel in their 3 × 3 neighbourhood."""
    ny, nx = bad.shape
    xi, yi = np.round(x).astype(int), np.round(y).astype(int)
    inside = (xi >= margin) & (yi >= margin) & (xi < nx - margin) & (yi < ny - margin)
    usable = inside.copy()
    for index in np.flatnonzero(inside):
        usable[index] = not bad[yi[index] - 1 : yi[index] + 2, xi[index] - 1 : xi[index] + 2].any()
    return usable


def _distance(x: np.ndarray, y: np.ndarray, to_x: np.ndarray, to_y: np.ndarray) -> np.ndarray:
    """Return the distance of each position to the nearest of others (infinite if there are none)."""
    if not len(to_x):
        return np.full(len(x), np.inf)
    from scipy.spatial import cKDTree

    return cKDTree(np.stack([to_x, to_y], 1)).query(np.stack([x, y], 1))[0] if len(x) else np.array([])


def _of_ccd(table: Table, visit: int, detector: int, visit_column: str = "EXPNUM") -> Table:
    if not len(table):
        return table
    return table[(np.asarray(table[visit_column]) == visit) & (np.asarray(table["detector"]) == detector)]


def _xy(table: Table) -> tuple[np.ndarray, np.ndarray]:
    if not len(table):
        return np.array([]), np.array([])
    return np.asarray(table["x"], float), np.asarray(table["y"], float)


def detections(
    repo: "Repository", truth: Truth, nights: Iterable[str], coadd_subset: str, template_type: str
) -> dict[str, Any]:
    """Return how many transients and fakes were recovered, on usable pixels, and the false detections a CCD.

    Transients count by their true signal-to-noise ratio on the science image alone. Fakes are looked for in the
    differences of injected images; false detections are counted in those of the clean ones. See `sample`.
    """
    counts = {name: {"injected": 0, "recovered": 0} for name in SNR_BINS}
    fakes, false, ccds = {"injected": 0, "recovered": 0}, 0, 0
    for night in nights:
        parts = (night, coadd_subset, template_type)
        chain = PROC_TYPES["diff_drp"].chain(*parts)
        clean, injected = dia_sources(repo, *parts), dia_sources(repo, *parts, injected=True)
        catalogues = _injected_catalogues(repo, PROC_TYPES["drp"].chain(night))
        for ref in find_refs(repo, datasets.named(datasets.DIFFERENCE), chain):
            visit, detector = int(ref.dataId["visit"]), int(ref.dataId["detector"])
            bad, ccds = unusable(path_of(repo, ref)), ccds + 1
            sources = sample(_of_ccd(clean, visit, detector, "visit"))
            here = _of_ccd(truth.transients, visit, detector)
            near = _distance(*_xy(here), *_xy(sources))
            usable = _usable_at(bad, *_xy(here)) if len(here) else np.array([], bool)
            for name, (low, high) in SNR_BINS.items():
                chosen = usable & (np.asarray(here["snr"]) > low) & (np.asarray(here["snr"]) <= high)
                counts[name]["injected"] += int(chosen.sum())
                counts[name]["recovered"] += int((near[chosen] < MATCH_PIXELS).sum())
            real = _distance(*_xy(sources), *truth.changing(visit, detector))
            false += int((real > ASTROPHYSICAL_PIXELS).sum())
            catalogue = catalogues.get((visit, detector), Table())
            usable = _usable_at(bad, *_xy(catalogue)) if len(catalogue) else np.array([], bool)
            found = _distance(*_xy(catalogue), *_xy(sample(_of_ccd(injected, visit, detector, "visit"))))
            fakes["injected"] += int(usable.sum())
            fakes["recovered"] += int((found[usable] < MATCH_PIXELS).sum())
    return {"transients": counts, "fakes": fakes, "false_per_ccd": false / ccds if ccds else float("nan")}


def _injected_catalogues(repo: "Repository", chain: str) -> Mapping[tuple[int, int], Table]:
    refs = find_refs(repo, datasets.INJECTED_CATALOG, chain)
    return {(int(r.dataId["visit"]), int(r.dataId["detector"])): repo.butler().get(r) for r in refs}


def compare(
    repo: "Repository",
    truth_folder: Path,
    nights: list[str],
    science_nights: list[str],
    coadd_subset: str,
    template_type: str,
) -> dict[str, Any]:
    """Return all figures of a simulated survey.

    Parameters
    ----------
    repo : `Repository`
    truth_folder : `pathlib.Path`
        The survey's ``truth`` folder.
    nights, science_nights : `list` [`str`]
        All nights, and those that were differenced.
    coadd_subset, template_type : `str`
        The template that was used.
    """
    truth = Truth(Path(truth_folder))
    kinds = {"zeros": "zero", "flats": "dome flat", "science": "object"}
    chains = [
        *(PROC_TYPES[name].chain(night) for night in nights for name in ("bias", "flat", "drp")),
        PROC_TYPES["coadd"].chain("", coadd_subset, template_type),
        *(PROC_TYPES["diff_drp"].chain(night, coadd_subset, template_type) for night in science_nights),
    ]
    return {
        "exposures": {k: sum(len(truth.of_night(n, obs_type)) for n in nights) for k, obs_type in kinds.items()},
        "bias_residual_over_theory": bias_residual_over_theory(repo, truth, nights),
        "flat_residual_over_theory": flat_residual_over_theory(repo, truth, nights),
        "astrometry_mas_rms": astrometry_mas_rms(repo, truth, nights),
        **photometry(repo, truth, nights),
        "coadd_noise_over_expected": coadd_noise_over_expected(repo, coadd_subset, template_type),
        **detections(repo, truth, science_nights, coadd_subset, template_type),
        "collections": chains,
    }

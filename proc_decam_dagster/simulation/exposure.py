"""One exposure from its plan to its raw file, with what is true of it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.geometry import RAW_SHAPE, TRIMMED_SHAPE
from proc_decam_dagster.simulation import catalogue, headers, mishaps, optics, readout, rendering
from proc_decam_dagster.simulation.ccd import SUSPECT, ccd
from proc_decam_dagster.simulation.plan import AB_OF_NANOJANSKY, Exposure, SurveyPlan, horizontal
from proc_decam_dagster.simulation.scene import (
    Scene,
    background_of,
    fakes,
    mover_positions,
    movers,
    snr_of_flux,
    star_magnitudes,
    transient_fluxes,
)

REACH = 0.21
"""Sources within this distance (deg) of a CCD's centre are drawn: its corner is 0.168° off."""
CLEAN_HALF = 2
"""A point source is clean if no pixel within this many of its own is spoilt."""


@dataclass
class Truth:
    """What is true of an exposure: the server's row and rows of the truth tables."""

    row: dict = field(default_factory=dict)
    exposure: dict = field(default_factory=dict)
    transients: list[dict] = field(default_factory=list)
    movers: list[dict] = field(default_factory=list)
    fakes: list[dict] = field(default_factory=list)
    seconds: float = 0.0


def random_state(plan: SurveyPlan, exposure: Exposure, detector: int) -> np.random.Generator:
    """Return the generator of a detector's noise; bit streams differ between detectors and exposures."""
    return np.random.Generator(np.random.SFC64([plan.seed, 601, exposure.expnum, detector]))


def expected_charge(scene: Scene, exposure: Exposure, detector: int, cards: dict[str, object]) -> np.ndarray:
    """Return the electrons that light is expected to leave, (4096, 2048): sky and sources times the flat field."""
    plan = scene.plan
    ny, nx = TRIMMED_SHAPE
    pattern = ccd(plan.seed, detector, plan.band)
    if exposure.obs_type == "zero":
        return np.zeros(TRIMMED_SHAPE, np.float32)
    if exposure.obs_type == "dome flat":
        return np.float32(exposure.lamp_e) * pattern.flat + np.float32(exposure.exptime) * pattern.hot
    u, v = (np.arange(nx) / nx - 0.5).astype(np.float32), (np.arange(ny) / ny - 0.5).astype(np.float32)[:, None]
    image = exposure.sky_e * (1 + exposure.gradient[0] * u + exposure.gradient[1] * v + 0.004 * np.cos(2 * u + 3 * v))
    image = image.astype(np.float32)
    psf = optics.PsfField.of(exposure)

    def electrons(magnitude) -> np.ndarray:
        return 10 ** (0.4 * (exposure.zero_point - magnitude))

    middle = exposure.mjd + 0.5 * exposure.exptime / 86400
    ra, dec = catalogue.moved(scene.stars, middle)
    x, y = optics.sky_to_pixel(cards, ra, dec, REACH)
    inside = _near(x, y)
    flux = electrons(star_magnitudes(plan, scene.stars[inside], middle))
    rendering.draw_stars(image, x[inside], y[inside], flux, psf)

    x, y = optics.sky_to_pixel(cards, scene.galaxies["ra"], scene.galaxies["dec"], REACH)
    inside = _near(x, y)
    g = scene.galaxies[inside]
    scale = optics.PIXEL_SCALE
    rendering.draw_galaxies(
        image, x[inside], y[inside], electrons(g[plan.catalogue_band]),
        g["radius"] / scale, g["axis_ratio"], g["angle"], g["bulge"], psf,
    )  # fmt: skip
    for x, y, flux in _moving_and_changing(scene, exposure, detector, cards):
        rendering.draw_stars(image, x, y, flux, psf)
    return image * pattern.flat + np.float32(exposure.exptime) * pattern.hot


def _near(x, y, margin: float = 60.0) -> np.ndarray:
    ny, nx = TRIMMED_SHAPE
    with np.errstate(invalid="ignore"):
        return (x > -margin) & (x < nx + margin) & (y > -margin) & (y < ny + margin)


def _to_electrons(flux_njy, exposure: Exposure) -> np.ndarray:
    return np.asarray(flux_njy) * 10 ** (0.4 * (exposure.zero_point - AB_OF_NANOJANSKY))


def _night_movers(scene: Scene, exposure: Exposure, detector: int) -> np.ndarray:
    # The night's first exposure is the reference time, whichever exposure asks.
    start = exposure.mjd - (exposure.sequence[0] - 1) * 900.0 / 86400
    return movers(scene.plan, exposure.night, round(start, 6), detector, scene.stars)


def _moving_and_changing(scene: Scene, exposure: Exposure, detector: int, cards: dict):
    """Yield positions (pixels) and electrons of transients and of movers, the latter at five moments."""
    if exposure.kind != "science":
        return
    flux = transient_fluxes(scene.transients, exposure.mjd, exposure.kind)
    x, y = optics.sky_to_pixel(cards, scene.transients["ra"], scene.transients["dec"], REACH)
    inside = _near(x, y)
    yield x[inside], y[inside], _to_electrons(flux[inside], exposure)
    table = _night_movers(scene, exposure, detector)
    for moment in (0.1, 0.3, 0.5, 0.7, 0.9):
        ra, dec = mover_positions(table, exposure.mjd + moment * exposure.exptime / 86400)
        x, y = optics.sky_to_pixel(cards, ra, dec, REACH)
        inside = _near(x, y)
        yield x[inside], y[inside], _to_electrons(table["flux_njy"][inside], exposure) / 5


def take(scene: Scene, exposure: Exposure, directory: Path) -> Truth:
    """Simulate an exposure, write its raw file and its truth.

    Parameters
    ----------
    scene : `Scene`
    exposure : `Exposure`
    directory : `pathlib.Path`
        The survey's folder; the file goes to ``archive``, WCS and cosmic rays to ``truth``.

    Returns
    -------
    truth : `Truth`
    """
    import time

    started = time.process_time()
    plan, truth = scene.plan, Truth()
    signals, streams, wcs = {}, {}, {}
    light = exposure.obs_type == "object"
    spoils = {detector: mishaps.of(plan, exposure, detector) for detector in plan.detectors}
    exposure = mishaps.clouded(exposure, set.intersection(*spoils.values()) if spoils else set())
    for detector in plan.detectors:
        rng = streams[detector] = random_state(plan, exposure, detector)
        cards = wcs[detector] = optics.true_cards(detector, exposure) if light else {}
        charge = expected_charge(scene, exposure, detector, cards)
        if spoils[detector]:
            well = max(readout.full_well(amplifier) for amplifier in DETECTORS[detector].amplifiers)
            mishaps.spoil_light(charge, spoils[detector], exposure.sky_e, well, np.random.default_rng(exposure.expnum))
        # A zero collects cosmic rays while it is read out, half of the readout on the average.
        rays = readout.cosmic_rays(exposure.exptime + 10.0, rng)
        if light:
            _write_wcs(directory, exposure, detector, cards)
            _write_cosmic_rays(directory, exposure, detector, rays)
        charge += rays
        readout.add_photon_noise(charge, rng)
        readout.bleed(charge, detector)
        signals[detector] = readout.to_adu(charge, detector)
        if plan.linearity:
            readout.bend(signals[detector], detector)
        if light:
            _add_point_sources(truth, scene, exposure, detector, cards, _spoilt(plan, detector, charge, rays))
    readout.add_crosstalk(signals)
    raws = {}
    for detector in list(signals):
        bias = ccd(plan.seed, detector, plan.band).bias
        raws[detector] = readout.digitise(signals.pop(detector), bias, detector, streams[detector])
        mishaps.spoil_raw(raws[detector], detector, spoils[detector])
    path = directory / "archive" / headers.file_name(exposure)
    write_raw(path, plan, exposure, raws)
    truth.row = archive_row(plan, exposure, path)
    truth.exposure = _exposure_row(plan, exposure)
    truth.seconds = time.process_time() - started
    return truth


def write_raw(path: Path, plan: SurveyPlan, exposure: Exposure, raws: dict[int, np.ndarray]) -> None:
    """Write a raw file: RICE-compressed, one row a tile; extensions in no order that a reader could rely on."""
    import fitsio

    rng = np.random.default_rng([plan.seed, 602, exposure.expnum])
    if plan.all_extensions:
        science, focus = list(DETECTORS), list(headers.FOCUS)
    else:
        science, focus = list(raws), ["FS1", "FN1"]
    order: list = [*science[::-1]]
    for n, name in enumerate(focus):
        order.insert((n * len(order)) // len(focus) + 1, name)
    partial = path.with_name(path.name + ".part")
    partial.unlink(missing_ok=True)
    with fitsio.FITS(str(partial), "rw", clobber=True) as file:
        file.write(None, header=_cards(headers.primary(exposure, len(order))))
        for item in order:
            if isinstance(item, int):
                data = raws.get(item)
                cards = headers.extension(DETECTORS[item], optics.header_cards(item, exposure))
                name = DETECTORS[item].name
                if data is None:
                    data = _blank(RAW_SHAPE, rng)
            else:
                data = _blank(headers.FOCUS_SHAPE, rng)
                cards, name = headers.focus_extension(item), item
            file.write(
                data, extname=name, compress="rice", tile_dims=(1, data.shape[1]), header=_cards(cards), qlevel=0
            )  # fmt: skip
    partial.rename(path)


def _blank(shape: tuple[int, int], rng) -> np.ndarray:
    """Return a CCD that sees no sky: a bias level, with noise in its first rows only, so that it costs little."""
    data = np.full(shape, 2000, np.uint16)
    data[:64] += rng.integers(0, 8, (64, shape[1]), dtype=np.uint16)
    return data


def _cards(cards: list[tuple[str, object, str]]) -> list[dict]:
    return [{"name": name, "value": value, "comment": comment} for name, value, comment in cards]


def archive_row(plan: SurveyPlan, exposure: Exposure, path: Path) -> dict:
    """Return what the archive says of a file, its md5 read from the file itself."""
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    ra, dec = headers.coordinates(exposure)
    airmass = horizontal(exposure.mjd, exposure.ra, exposure.dec)[3] if exposure.obs_type == "object" else 1.0
    folder = f"/net/archive/mtn/{exposure.night}/ct4m/{exposure.propid}"
    return {
        "md5sum": md5,
        "archive_filename": f"{folder}/{path.name}",
        "original_filename": f"/data_local/images/DTS/{exposure.propid}/DECam_{exposure.expnum:08d}.fits.fz",
        "instrument": "decam",
        "telescope": "ct4m",
        "proc_type": "raw",
        "prod_type": "image",
        "obs_type": exposure.obs_type,
        "caldat": headers.caldat(exposure),
        "dateobs_min": headers.iso(exposure.mjd, 3),
        "dateobs_max": headers.iso(exposure.mjd, 3),
        "dateobs_center": headers.iso(exposure.mjd, 3),
        "exposure": exposure.exptime,
        "ifilter": exposure.physical_filter,
        "proposal": exposure.propid,
        "ra_center": round(exposure.ra, 6),
        "dec_center": round(exposure.dec, 6),
        "filesize": path.stat().st_size,
        "release_date": "2019-01-01",
        "EXPNUM": exposure.expnum,
        "FILTER": exposure.physical_filter,
        "RA": ra,
        "DEC": dec,
        "OBJECT": exposure.object_name or "",
        "PROPID": exposure.propid,
        "AIRMASS": round(airmass, 2),
        "path": path.name,
    }


def _exposure_row(plan: SurveyPlan, exposure: Exposure) -> dict:
    row = {
        "EXPNUM": exposure.expnum,
        "night": exposure.night,
        "kind": exposure.kind,
        "obs_type": exposure.obs_type,
        "band": plan.band if exposure.obs_type != "zero" else "opaque",
        "mjd": exposure.mjd,
        "exptime": exposure.exptime,
        "seeing_arcsec": exposure.seeing,
        "seeing_px": float("nan"),
        "beta": exposure.beta,
        "effective_area_px": float("nan"),
        "zero_point": exposure.zero_point,
        "sky_e": exposure.sky_e,
        "lamp_e": exposure.lamp_e,
        "pointing_error_ra_arcsec": float("nan"),
        "pointing_error_dec_arcsec": float("nan"),
        "rotation_arcsec": exposure.rotation_deg * 3600,
        "scale_error": exposure.scale - 1,
    }
    if exposure.obs_type == "object":
        psf = optics.PsfField.of(exposure)
        # All CCDs share the PSF's variation, so one figure holds for each.
        row.update(seeing_px=psf.pixel_fwhm(), effective_area_px=psf.effective_area())
        turn = (exposure.true_ra - exposure.ra + 180) % 360 - 180
        row["pointing_error_ra_arcsec"] = turn * 3600 * np.cos(np.radians(exposure.dec))
        row["pointing_error_dec_arcsec"] = (exposure.true_dec - exposure.dec) * 3600
    for detector in plan.detectors:
        row[f"fwhm_px_{detector:02d}"] = row["seeing_px"]
    return row


def _spoilt(plan: SurveyPlan, detector: int, charge: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return the pixels that tell nothing of the sky: defects, saturation, cosmic rays."""
    spoilt = (ccd(plan.seed, detector, plan.band).defects & ~np.uint8(SUSPECT)) != 0
    spoilt |= rays > 30
    for amplifier in DETECTORS[detector].amplifiers:
        where = amplifier.bbox.slices
        spoilt[where] |= charge[where] >= 0.999 * readout.full_well(amplifier)
    return spoilt


def _clean(spoilt: np.ndarray, x, y) -> np.ndarray:
    """Whether no pixel near positions is spoilt or outside the CCD."""
    ny, nx = spoilt.shape
    h, result = CLEAN_HALF, []
    for cx, cy in zip(np.rint(x).astype(int), np.rint(y).astype(int)):
        inside = h <= cx < nx - h and h <= cy < ny - h
        result.append(bool(inside and not spoilt[cy - h : cy + h + 1, cx - h : cx + h + 1].any()))
    return np.array(result, bool)


def _add_point_sources(truth: Truth, scene: Scene, exposure: Exposure, detector: int, cards: dict, spoilt) -> None:
    """Add the rows of transients, movers and fakes on a detector to the truth."""
    psf = optics.PsfField.of(exposure)
    area, background = psf.effective_area(), background_of(exposure.sky_e, detector)
    ny, nx = TRIMMED_SHAPE

    def rows(identifiers, ra, dec, x, y, flux_njy) -> list[dict]:
        flux_e = _to_electrons(flux_njy, exposure)
        on = (x >= 0) & (x <= nx - 1) & (y >= 0) & (y <= ny - 1)
        found = zip(identifiers[on], ra[on], dec[on], x[on], y[on], flux_njy[on], flux_e[on],
                    snr_of_flux(flux_e[on], area, background), _clean(spoilt, x[on], y[on]))  # fmt: skip
        names = ("id", "ra", "dec", "x", "y", "flux_njy", "flux_e", "snr", "clean")
        start = {"EXPNUM": exposure.expnum, "detector": detector}
        return [start | {k: v.item() if hasattr(v, "item") else v for k, v in zip(names, each)} for each in found]

    if exposure.kind == "science":
        table = scene.transients
        x, y = (np.nan_to_num(v, nan=-1e9) for v in optics.sky_to_pixel(cards, table["ra"], table["dec"], REACH))
        flux = transient_fluxes(table, exposure.mjd, exposure.kind)
        truth.transients += rows(table["id"], table["ra"], table["dec"], x, y, flux)
        table = _night_movers(scene, exposure, detector)
        ra, dec = mover_positions(table, exposure.mjd + 0.5 * exposure.exptime / 86400)
        x, y = (np.nan_to_num(v, nan=-1e9) for v in optics.sky_to_pixel(cards, ra, dec, REACH))
        moving = rows(table["id"], ra, dec, x, y, table["flux_njy"])
        rate = {m["id"].item(): (m["rate_ra"].item(), m["rate_dec"].item()) for m in table}
        truth.movers += [r | dict(zip(("rate_ra", "rate_dec"), rate[r["id"]])) for r in moving]
    f = fakes(scene.plan, exposure, detector, cards, scene.stars)
    flux_njy = f["flux_e"] * 10 ** (0.4 * (AB_OF_NANOJANSKY - exposure.zero_point))
    identifiers = (exposure.expnum * 100 + detector) * 1000 + np.arange(f["x"].size)
    named = rows(identifiers, f["ra"], f["dec"], f["x"], f["y"], flux_njy)
    truth.fakes += [r | {"mag": m.item(), "band": scene.plan.band} for r, m in zip(named, f["mag"])]


def _write_wcs(directory: Path, exposure: Exposure, detector: int, cards: dict) -> None:
    from astropy.io import fits

    path = directory / "truth" / "wcs" / f"{exposure.expnum}_{detector:02d}.hdr"
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.Header(cards).totextfile(path, overwrite=True)


def _write_cosmic_rays(directory: Path, exposure: Exposure, detector: int, rays: np.ndarray) -> None:
    from astropy.table import Table

    path = directory / "truth" / "cosmic_rays" / f"{exposure.expnum}_{detector:02d}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.nonzero(rays > 1)
    Table({"x": x.astype(np.int16), "y": y.astype(np.int16), "charge_e": rays[y, x]}).write(path, overwrite=True)

"""A whole simulated survey on disk: raw files, reference catalogues, masks, fakes, and the truth about them."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from proc_decam_dagster.camera.detectors import detector as known_detector
from proc_decam_dagster.camera.filters import band_of
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation.catalogue import STAR
from proc_decam_dagster.simulation.plan import SKY_BRIGHTNESS, Exposure, SurveyPlan, exposures_of_night
from proc_decam_dagster.simulation.scene import Scene, make_scene, sky_tables

FILES = "archive/files.ecsv"
HELD_BACK = "archive/held_back.txt"
"""Nights that the archive does not show yet, one a line."""
PLAN = "truth/plan.json"

_scene: Scene | None = None


def simulate_survey(
    directory: str | os.PathLike,
    *,
    seed: int = 1,
    detectors: Iterable[int] = (28, 35),
    sky: tuple[float, float] = (149.4, 1.7),
    template_nights: int = 2,
    science_nights: int = 1,
    exposures_per_night: int = 4,
    zeros: int = 6,
    flats: int = 6,
    band: str = "r",
    exposure_time: float = 120.0,
    hold_back: Iterable[str] = (),
    jobs: int = 2,
    progress: Callable[[int, int, str], None] | None = None,
    **more,
) -> Path:
    """Simulate a survey.

    Parameters
    ----------
    directory : path-like
        Folder to write; made if it does not exist.
    seed : `int`, optional
        Everything follows from it: the same call writes the same bytes.
    detectors : iterable of `int`, optional
        CCDNUMs that see the sky.
    sky : `tuple` [`float`, `float`], optional
        RA and Dec (deg) of the field.
    template_nights, science_nights : `int`, optional
        Nights without and with transients.
    exposures_per_night, zeros, flats : `int`, optional
    band : `str`, optional
        A DECam filter's band; the survey's natural magnitudes are those of the catalogues' band (VR: r).
    exposure_time : `float`, optional
        Seconds.
    hold_back : iterable of `str`, optional
        Nights (YYYYMMDD) that the archive server does not show until they are released.
    jobs : `int`, optional
        Processes.
    progress : callable, optional
        Called with exposures done, exposures in all, and the name of the file just written.
    **more
        Further values of `SurveyPlan`: ``proposal``, ``transients``, ``movers``, ``fakes``, ``all_extensions`` …

    Returns
    -------
    directory : `pathlib.Path`

    Notes
    -----
    Written are ``archive/`` (raw files and ``files.ecsv``, the archive's rows), ``refcats/`` (LSST-format shards),
    ``bpm/`` (bad-pixel masks), ``fakes.fits``, and ``truth/``:

    - ``exposures.ecsv``: conditions of every exposure; ``zero_point`` is the AB magnitude of 1 e- in the exposure
      where the flat is 1, ``seeing_px`` (and ``fwhm_px_NN``, per detector) the FWHM in pixels with the pixel's own
      width, ``sky_e`` electrons a pixel, ``effective_area_px`` the PSF's 1/Σp²;
    - ``bias_NN.fits`` in ADU above the overscan; ``flat_BAND_NN.fits`` with median 1 over the CCD, dead pixels in it;
      ``defects_NN.fits`` with the bits of `ccd`;
    - ``wcs/EXPNUM_NN.hdr``: true TPV cards of the trimmed CCD; ``cosmic_rays/EXPNUM_NN.fits``: their pixels;
    - ``stars.fits`` (magnitudes of Pan-STARRS1: stars shine with the colour terms of `camera.colour_terms` added),
      ``galaxies.fits``, ``transients.fits``; ``transient_fluxes.ecsv``, ``movers.ecsv`` and
      ``fakes.ecsv`` with positions (0-based), fluxes, and ``snr``, that of an optimal PSF flux on the single science
      image without regard to a host; ``clean`` says that no defect, saturation or cosmic ray is within 2 pixels.

    Raises
    ------
    SurveyError
        Raised for a detector or band that DECam lacks, a sky position that CTIO cannot see, or too small a disk.
    """
    for number in detectors:
        known_detector(number)
    plan = SurveyPlan(
        seed=seed, detectors=tuple(detectors), sky=(float(sky[0]) % 360, float(sky[1])),
        template_nights=template_nights, science_nights=science_nights,
        exposures_per_night=exposures_per_night, zeros=zeros, flats=flats,
        band=band_of(band), exposure_time=exposure_time, **more,
    )  # fmt: skip
    if plan.band not in SKY_BRIGHTNESS:
        raise SurveyError(f"band {band!r} cannot be simulated", f"one of {', '.join(SKY_BRIGHTNESS)}")
    root = Path(directory)
    exposures = [e for n, (night, kind) in enumerate(plan.nights()) for e in exposures_of_night(plan, n, night, kind)]
    _make_room(root, len(exposures), len(plan.detectors))
    _write_json(root / PLAN, plan.to_dict() | {"nights": plan.nights()})
    tables = sky_tables(plan)
    scene = make_scene(plan, tables)
    _write_sky(root, scene, tables)
    _write_ccds(root, plan)
    _append(root, _observe(root, scene, exposures, jobs, progress), replace=True)
    (root / HELD_BACK).write_text("".join(f"{night}\n" for night in hold_back))
    return root


def read_plan(directory: str | os.PathLike) -> tuple[SurveyPlan, list[tuple[str, str]]]:
    """Return the plan of a survey on disk and its nights.

    Raises
    ------
    SurveyError
        Raised if the folder holds no simulated survey.
    """
    path = Path(directory) / PLAN
    if not path.is_file():
        raise SurveyError(f"{directory} holds no simulated survey", f"the file {PLAN}", "make one first")
    values = json.loads(path.read_text())
    nights = [tuple(night) for night in values.pop("nights")]
    return SurveyPlan.from_dict(values), nights


def add_night(
    directory: str | os.PathLike, *, kind: str = "science", night: str | None = None, jobs: int = 2, progress=None
) -> str:
    """Observe one more night of a survey on disk: a running server shows it as soon as its rows are written.

    Parameters
    ----------
    directory : path-like
    kind : `str`, optional
        ``science`` or ``template``.
    night : `str`, optional
        YYYYMMDD; by default the day after the last night.
    jobs, progress : optional
        As in `simulate_survey`.

    Returns
    -------
    night : `str`
    """
    from datetime import datetime, timedelta

    root = Path(directory)
    plan, nights = read_plan(root)
    if night is None:
        night = (datetime.strptime(max(n for n, _ in nights), "%Y%m%d") + timedelta(days=1)).strftime("%Y%m%d")
    if night in dict(nights):
        raise SurveyError(f"night {night} is in the survey already", "a new night", f"the nights are in {PLAN}")
    scene = make_scene(plan, sky_tables(plan))
    exposures = exposures_of_night(plan, len(nights), night, kind)
    _append(root, _observe(root, scene, exposures, jobs, progress), replace=False)
    _write_json(root / PLAN, plan.to_dict() | {"nights": [*nights, (night, kind)]})
    return night


def _make_room(root: Path, exposures: int, detectors: int) -> None:
    """Make the survey's folders, empty: an earlier survey's files must not stand beside the new truth."""
    if (root / PLAN).is_file():
        for folder in ("archive", "truth", "refcats", "bpm"):
            shutil.rmtree(root / folder, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    needed, free = detectors * (14e6 * exposures + 80e6) + 50e6, shutil.disk_usage(root).free
    if free < needed:
        raise SurveyError(
            f"{root} has {free / 1e9:.1f} GB free", f"{needed / 1e9:.1f} GB for {exposures} exposures",
            "free some, or simulate fewer detectors or nights",
        )  # fmt: skip
    for folder in ("archive", "truth/wcs", "truth/cosmic_rays", "refcats", "bpm"):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _start(scene: Scene) -> None:
    global _scene
    _scene = scene


def _take(exposure: Exposure, root: Path):
    from proc_decam_dagster.simulation.exposure import take

    return take(_scene, exposure, root)


def _observe(root: Path, scene: Scene, exposures: list[Exposure], jobs: int, progress) -> list:
    """Take all exposures, in several processes, and return their truths in the order of the exposures."""
    done: dict[int, object] = {}

    def note(expnum: int, truth) -> None:
        done[expnum] = truth
        if progress:
            progress(len(done), len(exposures), truth.row["path"])

    if jobs <= 1 or len(exposures) == 1:
        _start(scene)
        for exposure in exposures:
            note(exposure.expnum, _take(exposure, root))
    else:
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(jobs, context, initializer=_start, initargs=(scene,)) as pool:
            # Object exposures take longest: they go first, so that no process waits for the last one.
            order = sorted(exposures, key=lambda e: e.obs_type != "object")
            waiting = {pool.submit(_take, exposure, root): exposure.expnum for exposure in order}
            try:
                for future in as_completed(waiting):
                    note(waiting[future], future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [done[e.expnum] for e in exposures]


def _append(root: Path, truths: list, *, replace: bool) -> None:
    """Write the tables of new exposures, after those that there are; the server's rows last."""
    from astropy.table import Table, vstack

    tables = {
        "truth/exposures.ecsv": [t.exposure for t in truths],
        "truth/transient_fluxes.ecsv": [r for t in truths for r in t.transients],
        "truth/movers.ecsv": [r for t in truths for r in t.movers],
        "truth/fakes.ecsv": [r for t in truths for r in t.fakes],
        FILES: [t.row for t in truths],
    }
    for name, rows in tables.items():
        table = Table(rows) if rows else Table()
        if not replace and (root / name).is_file():
            old = Table.read(root / name, format="ascii.ecsv")
            table = vstack([old, table]) if len(table) else old
        if name == "truth/fakes.ecsv":
            _write_fakes(root, table)
        _write_table(table, root / name)


def _write_fakes(root: Path, table) -> None:
    """Write the list of fakes for injection, with the columns that a user's own list has."""
    from astropy.table import Table

    out = Table(dtype=[("RA", "f8"), ("DEC", "f8"), ("MAG", "f8"), ("BAND", "U8"), ("EXPNUM", "i8")])
    if len(table):
        names = {"RA": "ra", "DEC": "dec", "MAG": "mag", "BAND": "band", "EXPNUM": "EXPNUM"}
        out = Table({new: table[old] for new, old in names.items()})
    out.write(root / "fakes.fits", overwrite=True)


def _write_table(table, path: Path) -> None:
    partial = path.with_name(path.name + ".part")
    table.write(partial, format="ascii.ecsv", overwrite=True)
    os.replace(partial, path)


def _write_json(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n")


def _write_sky(root: Path, scene: Scene, tables: dict) -> None:
    """Write the reference catalogues and the true sky."""
    from astropy.table import Table

    from proc_decam_dagster.simulation.refcats import write_shards

    write_shards(root / "refcats", scene.plan.seed, tables)
    assert scene.stars.dtype == STAR
    for name in ("stars", "galaxies", "transients"):
        Table(getattr(scene, name)).write(root / "truth" / f"{name}.fits", overwrite=True)


def _write_ccds(root: Path, plan: SurveyPlan) -> None:
    """Write the masks, and the true bias, flat and defects of every CCD."""
    from astropy.io import fits

    from proc_decam_dagster.simulation.ccd import ccd, write_masks

    write_masks(root / "bpm", plan.seed, plan.detectors, plan.band)
    for number in plan.detectors:
        pattern = ccd(plan.seed, number, plan.band)
        for name, image, unit in (
            (f"bias_{number:02d}", pattern.bias, "adu"),
            (f"flat_{plan.band}_{number:02d}", pattern.flat, ""),
            (f"defects_{number:02d}", pattern.defects, ""),
        ):
            hdu = fits.PrimaryHDU(image)
            hdu.header["BUNIT"] = unit
            hdu.header["CCDNUM"] = number
            hdu.writeto(root / "truth" / f"{name}.fits", overwrite=True)

"""CPU seconds of the stages of one CCD, against ccdproc, astroscrappy and photutils on the same pixels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from science_peers import peer_seconds
from science_sample import Sample
from science_timing import cpu_of, cpu_seconds, figure, speed

from proc_decam_dagster.camera.linearity import linearity
from proc_decam_dagster.pixels.combine import Frame, combine_frames
from proc_decam_dagster.pixels.cosmic_rays import repair
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import Master, correct, measure_overscans
from proc_decam_dagster.pixels.mask import UNUSABLE
from proc_decam_dagster.pixels.photometry import psf_fluxes
from proc_decam_dagster.pixels.readout import Readout
from proc_decam_dagster.tasks.curated import crosstalk_matrix, linearity_tables
from proc_decam_dagster.tasks.raw import amplifiers

SOURCES, RADIUS = 5000, 10


def figures(
    sample: Sample, bytes_per_second: float, python: Path | None, folder: Path, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Yield the figures of bias combination, ISR, cosmic rays and PSF photometry."""
    yield from _bias(sample, bytes_per_second, python, folder)
    say("bias combination timed")
    detrended = yield from _isr(sample, bytes_per_second, python, folder)
    yield from _cosmic_rays(detrended, bytes_per_second, python, folder)
    say("ISR and cosmic rays timed")
    yield from _photometry(sample, bytes_per_second, python, folder)


def _bias(sample, bytes_per_second, python, folder) -> Iterator[dict[str, Any]]:
    raws = [sample.raw(number) for number in sample.expnums("zero", "template")]
    readouts, _ = amplifiers(raws[0])

    def work():
        frames = (Frame(raw.data, measure_overscans(raw.data, readouts)) for raw in raws)
        return combine_frames(frames, len(raws), readouts)

    seconds, combined = cpu_of(work)
    overscans = [measure_overscans(raw.data, readouts) for raw in raws]
    frames = [Frame(raw.data, each) for raw, each in zip(raws, overscans)]
    alone, _ = cpu_of(lambda: combine_frames(frames, len(raws), readouts))
    arrays, parts = {"stack": np.stack([raw.data for raw in raws])}, [_regions(part) for part in readouts]

    def peers(whole: bool, wanted: float | None) -> dict[str, tuple[float | None, float | None]]:
        options = {"amplifiers": parts, "whole": whole}
        return {
            name: (peer_seconds(python, "bias", folder, arrays, bottleneck=fast, **options), aim)
            for name, fast, aim in (("ccdproc", False, wanted), ("ccdproc with bottleneck", True, None))
        }

    name = f"bias combine of {len(raws)}"
    moved = arrays["stack"].nbytes + combined.mean.nbytes + combined.variance.nbytes
    yield from speed(name, seconds, 0.35, moved, bytes_per_second, peers(True, 100.0))
    yield from speed(f"{name}, overscans measured before", alone, None, moved, bytes_per_second, peers(False, None))


def _regions(part: Readout) -> dict[str, list[int]]:
    """Return where an amplifier lies, as the peers' program takes it."""
    return {name: [int(v) for v in getattr(part, name)] for name in ("data", "overscan", "box")}


def _isr(sample, bytes_per_second, python, folder):
    raw = sample.raw(sample.expnums("object")[0])
    readouts, _ = amplifiers(raw)
    bias, flat, leaks = Master.bias(sample.bias), Master.flat(sample.flat), crosstalk_matrix(sample.crosstalk)
    options = {"bias": bias, "flat": flat, "crosstalk": leaks, "linearity": linearity_tables(sample.linearizer)}
    seconds, image = cpu_of(lambda: correct(raw.data, readouts, **options), 5)
    tables = linearity(sample.detector)
    parts = [
        {**_regions(part), "gain": part.gain, "read_noise": part.read_noise, "saturation": part.saturation,
         "leak": float(leaks[k, 1 - k][0]), "adu": np.asarray(tables[part.name].adu, float).tolist(),
         "correction": np.asarray(tables[part.name].correction, float).tolist()}
        for k, part in enumerate(readouts)
    ]  # fmt: skip
    response = np.where(flat.image > 0, flat.image, 1)
    arrays = {
        "raw": raw.data, "bias": bias.image, "bias_noise": np.sqrt(sample.bias.variance), "flat": response,
        "flat_noise": np.sqrt(flat.variance) * response, "bad": flat.image <= 0,
    }  # fmt: skip
    peers = {
        name: (peer_seconds(python, "isr", folder, arrays, amplifiers=parts, whole=whole), wanted)
        for name, whole, wanted in (("ccdproc", True, 20.0), ("ccdproc, its own steps alone", False, None))
    }
    moved = raw.data.nbytes + bias.image.nbytes + flat.image.nbytes + 12 * image.image.size
    yield from speed("ISR of a CCD", seconds, 0.06, moved, bytes_per_second, peers)
    return image


def _cosmic_rays(image: MaskedImage, bytes_per_second, python, folder) -> Iterator[dict[str, Any]]:
    taken = []
    for _ in range(4):  # each on a copy of its own: a repaired image has none left
        fresh = image.copy()
        start = cpu_seconds()
        repair(fresh)
        taken.append(cpu_seconds() - start)
    arrays = {"image": image.image, "variance": image.variance, "mask": (image.mask & UNUSABLE) != 0}
    peer = peer_seconds(python, "cosmic_rays", folder, arrays)
    moved = 2 * 12.0 * image.image.size
    yield from speed("cosmic rays of a CCD", float(np.median(taken[1:])), 1.0, moved, bytes_per_second,
                     {"astroscrappy": (peer, 12.0)})  # fmt: skip


def _photometry(sample, bytes_per_second, python, folder) -> Iterator[dict[str, Any]]:
    exposure = sample.visit(sample.expnums("object")[0]).exposure
    ny, nx = exposure.shape
    x, y = np.random.default_rng(1).uniform(0, 1, (2, SOURCES)) * [[nx - 60], [ny - 60]] + 30
    seconds, _ = cpu_of(lambda: psf_fluxes(exposure, x, y, radius=RADIUS), 5)
    arrays = {"image": exposure.image, "psf": exposure.psf.kernel(nx / 2, ny / 2), "x": x[:500], "y": y[:500]}
    peer = peer_seconds(python, "photometry", folder, arrays, radius=RADIUS)
    moved = 12.0 * SOURCES * (2 * RADIUS + 1) ** 2
    # photutils' time is proportional to the number of sources: a tenth of them are fitted
    yield from speed(f"PSF photometry of {SOURCES} sources", seconds, 0.1, moved, bytes_per_second,
                     {"photutils (PSF constant)": (None if peer is None else peer * SOURCES / 500, None)})  # fmt: skip
    yield figure("PSF photometry, microseconds a source", 1e6 * seconds / SOURCES, "us")

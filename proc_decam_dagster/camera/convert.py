"""Makes the files of ``data/`` from the published tables named in ``data/SOURCES.md``: run by hand, not at run time.

``python -m proc_decam_dagster.camera.convert FOLDER`` with the folder that holds ``camGeom/*.fits``,
``chipcenters.txt``, ``DECam_xtalk_20130606.txt``, ``linearizer/*.yaml``, ``decam.wcs.gz`` and
``rpmunoz_ctio_decam.ahead``.
"""

import gzip
import re
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"
CORNERS = ("LL", "LR", "UR", "UL")
"""Readout corners by their number in the amplifier tables."""

PV = [f"PV{axis}_{term}" for axis in (1, 2) for term in range(11) if term != 3]
LINEAR = ["CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2"]
MISSING = 61
LINEARITY_KNOTS = np.concatenate([
    [0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 60, 80, 100, 150], np.arange(200, 1000, 100), np.arange(1000, 9000, 250),
    np.arange(9000, 65536, 500),
])  # fmt: skip
"""ADU at which the linearity table is kept: straight lines between them miss it by 2e-4 of the signal, or 0.4 ADU."""


def write(name: str, comment: str, columns: list[str], rows: list[list]) -> None:
    lines = [f"# {comment}; origin: SOURCES.md", ",".join(columns), *(",".join(map(str, row)) for row in rows)]
    (DATA / name).write_text("\n".join(lines) + "\n")


def chip_centers(folder: Path) -> dict[int, tuple[str, float, float, float]]:
    """Return name, centre x and y (mm) and rotation (deg) of each science CCD."""
    chips = {}
    for line in (folder / "chipcenters.txt").read_text().splitlines()[1:]:
        number, name, *values = line.split()
        x0, x1, y0, y1, rotation = map(float, values[:5])
        if int(number) <= 62:
            chips[int(number)] = (name, round((x0 + x1) / 2, 4), round((y0 + y1) / 2, 4), rotation)
    return chips


def amplifiers(folder: Path, chips: dict) -> list[list]:
    """Return the rows of ``amplifiers.csv``: sections 0-based and half-open."""
    from astropy.io import fits

    rows = []
    for number, (name, *_) in chips.items():
        for row in fits.getdata(folder / "camGeom" / f"{name}.fits"):
            boxes = []
            for prefix in ("bbox", "raw_databbox", "raw_horizontaloverscanbbox"):
                x, y = row[f"{prefix}_min_x"], row[f"{prefix}_min_y"]
                boxes += [x, y, x + row[f"{prefix}_extent_x"], y + row[f"{prefix}_extent_y"]]
            values = [row["gain"], row["readnoise"], row["saturation"]]
            rows.append([number, row["name"], *boxes, *map(float, values), CORNERS[row["readoutcorner"]]])
    return rows


def solutions(folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Return both distortion solutions by CCD, their reference pixel moved to the trimmed frame.

    The Community Pipeline cuts one pixel off each edge (LTV = -1); both files are in its frame.
    """
    text = gzip.decompress((folder / "decam.wcs.gz").read_bytes()).decode()
    blocks = re.split(r"END {77}", "\n".join(text[i : i + 80] for i in range(0, len(text), 80)))
    number = re.compile(r"^([\w-]+)\s*=\s*(-?[\d.E+-]+)", re.M)
    instcal = {}
    for block in blocks:
        cards = dict(number.findall(block))
        if "CCDNUM" in cards:
            assert (float(cards["LTV1"]), float(cards["LTV2"])) == (-1, -1)
            instcal[int(cards["CCDNUM"])] = {key: float(cards[key]) for key in LINEAR + PV}
    ahead = {}
    blocks = (folder / "rpmunoz_ctio_decam.ahead").read_text().split("END")
    for ccd, block in zip(instcal, (b for b in blocks if "CRPIX1" in b), strict=True):
        ahead[ccd] = {key: float(value) for key, value in number.findall(block)}
    result = {"instcal2017": instcal, "scamp": ahead}
    for key in ("CRPIX1", "CRPIX2"):
        # The second file does not name its detectors: equal reference pixels prove that the order is the same.
        assert all(abs(ahead[ccd][key] - instcal[ccd][key]) < 1e-3 for ccd in instcal)
        for solution in result.values():
            for cards in solution.values():
                cards[key] = round(cards[key] + 1, 4)
    return result


def derived(chips: dict, solution: dict[int, dict[str, float]]) -> dict[str, float]:
    """Return cards for the CCD that no solution has: a cubic in measured focal-plane mm through all the others."""
    from proc_decam_dagster.camera.distortion import intermediate, polynomial

    y, x = (grid.ravel() + 0.0 for grid in np.mgrid[0:4095:9j, 0:2047:5j])

    def millimetres(ccd: int) -> np.ndarray:
        _, x0, y0, rotation = chips[ccd]
        c, s = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
        dx, dy = (x - 1023.5) * 0.015, (y - 2047.5) * 0.015
        return np.array([x0 + c * dx - s * dy, y0 + s * dx + c * dy])

    def terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.stack([u ** (n - k) * v**k for n in range(4) for k in range(n + 1)], -1)

    places = np.concatenate([millimetres(ccd) for ccd in solution], axis=1)
    planes = np.concatenate([polynomial(cards, *intermediate(cards, x, y)) for cards in solution.values()], axis=1)
    fit = np.linalg.lstsq(terms(*places / 200), planes.T, rcond=None)[0]
    target = (terms(*millimetres(MISSING) / 200) @ fit).T

    cards = dict.fromkeys(LINEAR + PV, 0.0) | {key: solution[60][key] for key in LINEAR}  # N29: the same columns
    cards["CRPIX2"] = solution[53]["CRPIX2"]  # N22: the same rows
    u, v = intermediate(cards, x, y)
    for axis, (a, b) in enumerate(((u, v), (v, u))):
        columns = np.stack([a**0, a, b, a * a, a * b, b * b, a**3, a * a * b, a * b * b, b**3], -1)
        scale = np.abs(columns).max(0)
        values = np.linalg.lstsq(columns / scale, target[axis], rcond=None)[0] / scale
        cards |= dict(zip((key for key in PV if key.startswith(f"PV{axis + 1}")), map(float, values)))
    return cards


def linearity(folder: Path) -> list[list]:
    """Return the rows of ``linearity.csv``: the correction (ADU) at each knot up to the end of the table."""
    rows = []
    for path in folder.glob("linearizer/*.yaml"):
        head, _, body = path.read_text().partition("tableData:")
        detector = int(re.search(r"^detectorId: (\d+)", head, re.M)[1])
        if detector == MISSING:  # a CCD without light: its table is noise
            continue
        for name, table in zip("AB", np.array(re.findall(r"^[- ] - (\S+)$", body, re.M), float).reshape(2, -1)):
            # The table is zero beyond the largest signal that was measured.
            knots = LINEARITY_KNOTS[: np.searchsorted(LINEARITY_KNOTS, np.flatnonzero(table).max(), side="right")]
            rows.append([detector, name, *(f"{table[adu]:.2f}" for adu in knots), *[""] * len(LINEARITY_KNOTS)])
    return [row[: 2 + len(LINEARITY_KNOTS)] for row in sorted(rows, key=lambda row: row[:2])]


def main(folder: Path) -> None:
    """Write all data files made from tables; ``filters.csv`` is written by hand."""
    chips = chip_centers(folder)
    rows = [[number, *chip] for number, chip in chips.items()]
    write("detectors.csv", "Science CCDs, measured places", ["ccd", "name", "x_mm", "y_mm", "rotation_deg"], rows)
    boxes = [f"{box}_{edge}" for box in ("trimmed", "data", "overscan") for edge in ("x0", "y0", "x1", "y1")]
    columns = ["ccd", "amplifier", *boxes, "gain", "read_noise", "saturation", "first_read"]
    write("amplifiers.csv", "Sections 0-based, half-open; e-/ADU, e-, ADU", columns, amplifiers(folder, chips))

    rows = []
    for line in (folder / "DECam_xtalk_20130606.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            victim, source, value, error, onset, *nonlinear = line.split()
            ends = [int(victim[3:5]), victim[5], int(source[3:5]), source[5]]
            rows.append([*ends, value, error, float(onset), *map(float, nonlinear)])
    columns = ["victim", "victim_amplifier", "source", "source_amplifier", "coefficient", "error", "onset"]
    write("crosstalk.csv", "Fraction of the source; above onset (ADU) p1..p3", [*columns, "p1", "p2", "p3"], rows)

    columns = ["ccd", "amplifier", *map(str, LINEARITY_KNOTS)]
    write("linearity.csv", "ADU above bias; what is added to them", columns, linearity(folder))

    rows = []
    for name, solution in solutions(folder).items():
        solution[MISSING] = derived(chips, solution)
        rows += [[name, ccd, *(solution[ccd].get(key, 0.0) for key in LINEAR + PV)] for ccd in sorted(solution)]
    write("distortion.csv", "TPV cards in the trimmed frame", ["solution", "ccd", *LINEAR, *PV], rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

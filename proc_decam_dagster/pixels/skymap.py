"""Sky maps: the tracts and patches on whose pixels visits are warped and added.

A tract is one tangent plane; its patches tile it. Patches overlap by their borders and never leave their tract.
Tracts are computed when asked for: a sky map of the whole sky costs nothing to make.
"""

import hashlib
import json
import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from proc_decam_dagster.pixels.tract import Patch, Tract

__all__ = ["DiscreteSkyMap", "Patch", "RingsSkyMap", "SkyMap", "Tract", "belongs_to"]


class SkyMap:
    """A named set of tracts that never changes; made by `rings`, `discrete` or `from_dict`.

    Attributes
    ----------
    name, kind : `str`
        Kind is ``rings`` or ``discrete``.
    tracts : sequence of `Tract`
        All tracts, by id, computed when asked for.
    """

    kind = ""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        self.name, self.parameters = name, parameters

    @staticmethod
    def rings(name: str = "decam_rings_v1", **parameters: Any) -> "RingsSkyMap":
        """Return the whole-sky map of obs_decam: the same tracts, patches, numbers and hash as the science stack's."""
        return RingsSkyMap(name, RingsSkyMap.DEFAULTS | parameters)

    @staticmethod
    def discrete(
        name: str, fields: Iterable, *, pixel_scale: float = 0.263, patch_inner: int = 2048, border: int = 64,
        margin_arcsec: float = 60,
    ) -> "DiscreteSkyMap":  # fmt: skip
        """Return a map of one tract a connected group of fields; see `proc_decam_dagster.pixels.footprint`."""
        from proc_decam_dagster.pixels.footprint import fit_tracts

        grid = {"pixel_scale": float(pixel_scale), "patch_inner": int(patch_inner), "border": int(border)}
        return DiscreteSkyMap(name, {**grid, "tracts": fit_tracts(fields, margin_arcsec=margin_arcsec, **grid)})

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "SkyMap":
        """Return the map that `to_dict` wrote."""
        kinds = {each.kind: each for each in (RingsSkyMap, DiscreteSkyMap)}
        if values.get("kind") not in kinds:
            raise ValueError(f"sky map of kind {values.get('kind')!r}: expected one of {sorted(kinds)}")
        return kinds[values["kind"]](values["name"], values["parameters"])

    def to_dict(self) -> dict[str, Any]:
        """Return everything that defines the map, ready for JSON."""
        return {"name": self.name, "kind": self.kind, "parameters": self.parameters}

    @property
    def sha1(self) -> str:
        """Hash, in hexadecimal, of what defines the tracts; the name is no part of it."""
        return hashlib.sha1(json.dumps([self.kind, self.parameters], sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SkyMap) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.name, self.sha1))

    def __len__(self) -> int:
        raise NotImplementedError

    def tract(self, tract_id: int) -> Tract:
        """Return a tract by its id.

        Raises
        ------
        IndexError
            Raised if there is no such tract.
        """
        raise NotImplementedError

    def _candidates(self, ra: float, dec: float) -> Iterable[int]:
        raise NotImplementedError

    @property
    def tracts(self) -> Sequence[Tract]:
        """All tracts, by id."""
        return _Tracts(self)

    def find(self, ra: float, dec: float) -> list[tuple[int, int]]:
        """Return (tract id, patch index) of every tract that holds a position, with the patch whose inner box does.

        Where tracts overlap, the one to which the position belongs comes first.
        """
        return list(self._holding(ra, dec))

    def home(self, ra: float, dec: float) -> tuple[int, int] | None:
        """Return (tract id, patch index) to which a position belongs, the same whoever asks; `None` off the map."""
        return next(self._holding(float(ra), float(dec)), None)

    def _holding(self, ra: float, dec: float) -> Iterator[tuple[int, int]]:
        for each in self._candidates(ra, dec):
            patch = self.tract(each).patch_at(ra, dec)
            if patch is not None:
                yield each, patch

    def overlapping(self, polygon) -> list[tuple[int, int]]:
        """Return (tract id, patch index) of every patch that a convex polygon touches.

        Parameters
        ----------
        polygon : array-like, (n, 2)
            Corners in order, RA and Dec: at most as large as a tract.
        """
        polygon = np.asarray(polygon, float)
        tracts = sorted({tract for ra, dec in polygon for tract in self._candidates(ra, dec)})
        return [(tract, patch.index) for tract in tracts for patch in self.tract(tract).patches_overlapping(polygon)]


class _Tracts(Sequence):
    def __init__(self, skymap: SkyMap) -> None:
        self._skymap = skymap

    def __len__(self) -> int:
        return len(self._skymap)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._skymap.tract(each) for each in range(*index.indices(len(self)))]
        return self._skymap.tract(index if index >= 0 else len(self) + index)


class RingsSkyMap(SkyMap):
    """The whole sky in rings of declination, with a cap on each pole, as ``lsst.skymap.RingsSkyMap`` (version 1).

    Tract 0 is the south cap; numbers grow with RA along a ring, then from ring to ring to the north.
    """

    kind = "rings"
    DEFAULTS = {
        "num_rings": 120,
        "tract_overlap": 1 / 60,
        "pixel_scale": 0.262,
        "patch_inner": 4000,
        "border": 100,
        "ra_start": 0.0,
    }
    """Configuration of obs_decam (``makeSkyMap.py``), degrees and arcseconds."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(name, parameters)
        rings = parameters["num_rings"]
        self._size = math.pi / (rings + 1)
        edges = [self._size * (ring + 0.5) - math.pi / 2 for ring in range(rings)]
        nearest = [min(abs(edge), abs(edge + self._size)) for edge in edges]
        self._numbers = [int(2 * math.pi * math.cos(dec) / self._size) + 1 for dec in nearest]
        self._first = [1]
        for number in self._numbers:
            self._first.append(self._first[-1] + number)
        # Every tract reaches equally far from its tangent point, so all have the same pixels.
        reach = self._size / 2 + math.radians(parameters["tract_overlap"])
        half = math.tan(reach) / math.radians(parameters["pixel_scale"] / 3600)
        low, high = math.floor(-half + 0.5), math.ceil(half - 0.5)
        self._patches = -(-(high - low + 1) // parameters["patch_inner"])
        self._origin = (self._patches * parameters["patch_inner"] - (high - low + 1)) // 2 - low

    def __len__(self) -> int:
        return self._first[-1] + 1

    @property
    def sha1(self) -> str:
        """Hash of the configuration, equal to the science stack's for the same map."""
        p = self.parameters
        sizes = (p["patch_inner"], p["patch_inner"], p["border"], p["tract_overlap"], p["pixel_scale"], b"TAN", 0.0)
        packed = struct.pack("<iiidd3sd", *sizes) + struct.pack("<id", p["num_rings"], p["ra_start"])
        return hashlib.sha1(b"RingsSkyMap" + packed).hexdigest()

    def tract(self, tract_id: int) -> Tract:
        """Return a tract by its id."""
        if not 0 <= tract_id < len(self):
            raise IndexError(f"sky map {self.name} has tracts 0 to {len(self) - 1}, not {tract_id}")
        if tract_id in (0, len(self) - 1):
            ra, dec = 0.0, -90.0 if tract_id == 0 else 90.0
        else:
            ring = bisect_right(self._first, tract_id) - 1
            ra = (360 * (tract_id - self._first[ring]) / self._numbers[ring] + self.parameters["ra_start"]) % 360
            dec = math.degrees(self._size * (ring + 1)) - 90
        p, n, origin = self.parameters, self._patches, float(self._origin)
        return Tract(tract_id, ra, dec, n, n, p["patch_inner"], p["border"], p["pixel_scale"], (origin, origin))

    def _candidates(self, ra: float, dec: float) -> list[int]:
        rings = len(self._numbers)
        ring = math.floor((math.radians(dec) + math.pi / 2) / self._size - 0.5)
        found = []
        for each in (ring, ring - 1, ring + 1):
            if not 0 <= each < rings:
                found.append(0 if each < 0 else len(self) - 1)
                continue
            number = self._numbers[each]
            nearest = math.floor((ra - self.parameters["ra_start"]) % 360 / 360 * number + 0.5)
            # Tracts of a ring grow closer to each other towards the pole: more than the neighbours may hold a position.
            width = 360 / number * math.cos(math.radians(min(90, abs(dec))))
            steps = min(number // 2, max(1, math.ceil(1.2 * math.degrees(self._size) / max(width, 1e-6))))
            order = sorted(range(-steps, steps + 1), key=abs)
            found += [self._first[each] + (nearest + step) % number for step in order]
        return list(dict.fromkeys(found))


class DiscreteSkyMap(SkyMap):
    """Some tracts, each of its own size, fitted to the fields of a survey."""

    kind = "discrete"

    def __len__(self) -> int:
        return len(self.parameters["tracts"])

    def tract(self, tract_id: int) -> Tract:
        """Return a tract by its id."""
        if not 0 <= tract_id < len(self):
            raise IndexError(f"sky map {self.name} has tracts 0 to {len(self) - 1}, not {tract_id}")
        p, own = self.parameters, self.parameters["tracts"][tract_id]
        return Tract(
            tract_id, own["ra"], own["dec"], own["nx"], own["ny"], p["patch_inner"], p["border"], p["pixel_scale"],
            tuple(own["origin"]),
        )  # fmt: skip

    def _candidates(self, ra: float, dec: float) -> list[int]:
        def distance(tract: int) -> float:
            own = self.parameters["tracts"][tract]
            a, d, d0 = math.radians(ra - own["ra"]), math.radians(dec), math.radians(own["dec"])
            return -(math.sin(d0) * math.sin(d) + math.cos(d0) * math.cos(d) * math.cos(a))

        return sorted(range(len(self)), key=distance)


def belongs_to(skymap: SkyMap, tract: int, ra, dec) -> np.ndarray:
    """Return which positions, (n,) degrees, belong to a tract: where tracts overlap, to one of them alone."""
    homes = (skymap.home(a, d) for a, d in zip(ra, dec))
    return np.array([home is not None and home[0] == tract for home in homes], bool)

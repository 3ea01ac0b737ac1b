"""Skymaps: square tracts of one patch, TAN, around the configured centres."""

import hashlib

import numpy as np

from lsst.daf.butler import DatasetType
from lsst.pex.config import Config, Field, ListField
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d


class BaseSkyMapConfig(Config):
    """What all skymaps share; the builder of patches is left as it is."""

    tractBuilder = Field(doc="builder", dtype=str, default="legacy")
    tractOverlap = Field(doc="deg", dtype=float, default=1.0)
    pixelScale = Field(doc="arcsec", dtype=float, default=0.333)
    projection = Field(doc="WCS code", dtype=str, default="STG")
    rotation = Field(doc="deg", dtype=float, default=0.0)
    patchInnerDimensions = (4000, 4000)
    patchBorder = 100


class TractInfo:
    """A square on a tangent plane, of half-width `radius` (deg)."""

    def __init__(self, number, ra, dec, radius):
        self.number, self.center, self.half = number, np.radians([ra, dec]), np.tan(np.radians(radius))

    def contains(self, coord):
        (ra0, dec0), (ra, dec) = self.center, np.radians([coord.longitude, coord.latitude])
        depth = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
        if depth <= 0:
            return False
        x = np.cos(dec) * np.sin(ra - ra0) / depth
        y = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / depth
        return bool(max(abs(x), abs(y)) <= self.half)

    def region(self):
        ra0, dec0 = self.center
        east = np.array([-np.sin(ra0), np.cos(ra0), 0])
        north = np.array([-np.sin(dec0) * np.cos(ra0), -np.sin(dec0) * np.sin(ra0), np.cos(dec0)])
        axis = np.array(UnitVector3d(LonLat.fromRadians(ra0, dec0)))
        corners = [axis + self.half * (x * east + y * north) for x, y in ((1, -1), (1, 1), (-1, 1), (-1, -1))]
        return ConvexPolygon([UnitVector3d(*c) for c in corners])


class BaseSkyMap:
    """Tracts that never change."""

    ConfigClass = BaseSkyMapConfig

    def __init__(self, config=None):
        config.validate()
        config.freeze()
        self.config = config

    def __reduce__(self):
        return type(self), (self.config,)

    def __len__(self):
        return len(list(iter(self)))

    def getSha1(self):
        return hashlib.sha1(repr((type(self).__name__, self.config.toDict())).encode()).digest()

    def register(self, name, butler):
        registry = butler.registry
        registry.registerRun("skymaps")
        kind = DatasetType("skyMap", ["skymap"], "SkyMap", universe=butler.dimensions)
        registry.registerDatasetType(kind)
        record = {"skymap": name, "hash": self.getSha1(), "tract_max": len(self), "patch_nx_max": 1, "patch_ny_max": 1}
        with butler.transaction():
            if registry.syncDimensionData("skymap", record):
                for tract in self:
                    where = {"skymap": name, "tract": tract.number, "region": tract.region()}
                    registry.insertDimensionData("tract", where)
                    registry.insertDimensionData("patch", where | {"patch": 0, "cell_x": 0, "cell_y": 0})
                butler.put(self, kind, {"skymap": name}, run="skymaps")


class DiscreteSkyMapConfig(BaseSkyMapConfig):
    """Centres and radii."""

    raList = ListField(dtype=float, default=[], doc="deg")
    decList = ListField(dtype=float, default=[], doc="deg")
    radiusList = ListField(dtype=float, default=[], doc="deg")


class DiscreteSkyMap(BaseSkyMap):
    """A square tract around each centre."""

    ConfigClass = DiscreteSkyMapConfig

    def __init__(self, config, version=0):
        super().__init__(config)

    def __iter__(self):
        c = self.config
        return (TractInfo(i, *each) for i, each in enumerate(zip(c.raList, c.decList, c.radiusList)))

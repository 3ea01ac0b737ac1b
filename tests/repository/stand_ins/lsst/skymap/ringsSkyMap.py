"""The whole sky, which has eight tracts here. The package does not pass these names on."""

from lsst.pex.config import Field
from lsst.skymap import BaseSkyMap, BaseSkyMapConfig, TractInfo


class RingsSkyMapConfig(BaseSkyMapConfig):
    """Rings of declination."""

    numRings = Field(dtype=int, doc="Number of rings", check=lambda x: x > 0)
    raStart = Field(dtype=float, default=0.0, doc="deg")


class RingsSkyMap(BaseSkyMap):
    """The whole sky."""

    ConfigClass = RingsSkyMapConfig

    def __init__(self, config, version=1):
        super().__init__(config)

    def __iter__(self):
        return (TractInfo(i, 45.0 + 90 * (i % 4), 45.0 if i > 3 else -45.0, 44.0) for i in range(8))

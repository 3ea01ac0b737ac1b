"""Defects: boxes with metadata, written as a FITS table."""

from astropy.table import Table

from lsst.geom import Box2I, Extent2I, Point2I


class IsrCalib:
    """A calibration with metadata."""

    def __init__(self):
        self.metadata = {}

    def updateMetadata(
        self, camera=None, detector=None, filterName=None, setCalibId=False, setCalibInfo=False, setDate=False, **kwargs
    ):
        if camera:
            self.metadata["INSTRUME"] = camera.getName()
        if detector:
            self.metadata |= {"DETECTOR": detector.getId(), "DET_NAME": detector.getName()}
        self.metadata |= kwargs

    def getMetadata(self):
        return self.metadata


class Defects(IsrCalib):
    """Boxes of bad pixels."""

    def __init__(self, defectList=None, metadata=None, *, normalize_on_init=True, **kwargs):
        super().__init__(**kwargs)
        self.boxes = list(defectList or ())
        if any(not isinstance(box, Box2I) for box in self.boxes):
            raise ValueError("Defects must be of type Defect, BoxI, or PointI")
        self.normalized = normalize_on_init

    def toTable(self):
        rows = [(b.minimum.x, b.minimum.y, b.dimensions.x, b.dimensions.y) for b in self.boxes]
        table = Table(rows=rows or None, names=("x0", "y0", "width", "height"), dtype=("i4",) * 4)
        table.meta = dict(self.metadata)
        return [table]

    def writeFits(self, path):
        self.toTable()[0].write(path, format="fits")

    @classmethod
    def readFits(cls, path):
        table = Table.read(path, hdu=1)
        boxes = [Box2I(Point2I(x, y), Extent2I(w, h)) for x, y, w, h in table.iterrows()]
        defects = cls(boxes, normalize_on_init=False)
        defects.metadata = dict(table.meta)
        return defects

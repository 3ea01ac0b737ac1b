"""`CalibrateImageTask`: a detrended exposure becomes a calibrated one, with its sources and its figures."""

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import Field, ListField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.calibrate import CalibrationSettings, calibrate
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.visit_quality import amplifier_figures
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.failure import CalibrationFailure, algorithm_errors

DIMENSIONS = ("instrument", "visit", "detector")


class CalibrateImageConnections(pipe_base.PipelineTaskConnections, dimensions=DIMENSIONS):
    """Detrended exposure and reference catalogues in; calibrated exposure, sources and summary out."""

    astrometry_ref_cat = connectionTypes.PrerequisiteInput(
        name=datasets.REFCAT_ASTROMETRY,
        doc="Reference catalogue for the WCS.",
        storageClass="DecamRefcat",
        dimensions=("htm7",),
        multiple=True,
        deferLoad=True,
    )
    photometry_ref_cat = connectionTypes.PrerequisiteInput(
        name=datasets.REFCAT_PHOTOMETRY,
        doc="Reference catalogue for the zero point.",
        storageClass="DecamRefcat",
        dimensions=("htm7",),
        multiple=True,
        deferLoad=True,
    )
    exposures = connectionTypes.Input(
        name=datasets.POST_ISR,
        doc="Detrended exposure of the visit: one.",
        storageClass="DecamImage",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
    )
    exposure = connectionTypes.Output(
        name=datasets.CALEXP,
        doc="Calibrated exposure: sky subtracted, electrons, with WCS, PSF and flux scale.",
        storageClass="DecamImage",
        dimensions=DIMENSIONS,
    )
    sources = connectionTypes.Output(
        name=datasets.PRE_SOURCE_TABLE,
        doc="Sources, with fluxes in nJy.",
        storageClass="ArrowAstropy",
        dimensions=DIMENSIONS,
    )
    summary = connectionTypes.Output(
        name=datasets.CALEXP_SUMMARY,
        doc="Figures of the exposure: one row of the visit summary.",
        storageClass="StructuredDataDict",
        dimensions=DIMENSIONS,
    )


class CalibrateImageConfig(pipe_base.PipelineTaskConfig, pipelineConnections=CalibrateImageConnections):
    """What a survey may change; the defaults are those of `CalibrationSettings`."""

    detectionSnr = Field[float](doc="Detection threshold.", default=CalibrationSettings.detection_snr)
    backgroundBox = Field[int](doc="Box of the background mesh, pixels.", default=CalibrationSettings.background_box)
    psfDegree = Field[int](doc="Degree of the PSF's variation.", default=CalibrationSettings.psf_degree)
    psfMinStars = Field[int](doc="Fewest PSF stars.", default=CalibrationSettings.psf_min_stars)
    astrometryMinStars = Field[int](doc="Fewest matches.", default=CalibrationSettings.astrometry_min_stars)
    astrometryDegree = Field[int](doc="Highest degree.", default=CalibrationSettings.astrometry_degree)
    astrometryMaxRmsMas = Field[float](
        doc="Largest scatter that is a match.", default=CalibrationSettings.astrometry_max_rms_mas
    )
    searchArcsec = ListField[float](
        doc="Pointing errors tried, one after the other.", default=list(CalibrationSettings.search_arcsec)
    )
    colourTerms = Field[bool](
        doc="Bring Pan-STARRS1 magnitudes to DECam's own system; off: zero points are in the catalogue's system.",
        default=CalibrationSettings.colour_terms,
    )
    zeroPointMinStars = Field[int](doc="Fewest stars.", default=CalibrationSettings.zero_point_min_stars)

    def settings(self) -> CalibrationSettings:
        """Return the configuration as the algorithms take it."""
        return CalibrationSettings(
            detection_snr=self.detectionSnr,
            background_box=self.backgroundBox,
            psf_degree=self.psfDegree,
            psf_min_stars=self.psfMinStars,
            astrometry_min_stars=self.astrometryMinStars,
            zero_point_min_stars=self.zeroPointMinStars,
            search_arcsec=tuple(self.searchArcsec),
            astrometry_degree=self.astrometryDegree,
            astrometry_max_rms_mas=self.astrometryMaxRmsMas,
            colour_terms=self.colourTerms,
        )


def source_ids(visit: int, detector: int, count: int) -> np.ndarray:
    """Return ids of a detector's sources, unique over the survey: visit, detector (7 bits), number (24 bits)."""
    return (np.int64(visit * 128 + detector) << np.int64(24)) + np.arange(1, count + 1, dtype=np.int64)


def identify(sources: Table, visit: int, detector: int, band: str) -> Table:
    """Return a source table with the columns that tell where it is from: ``source_id, visit, detector, band``."""
    count = len(sources)
    sources.add_column(source_ids(visit, detector, count), name="source_id", index=0)
    sources.add_column(np.full(count, visit, np.int64), name="visit", index=1)
    sources.add_column(np.full(count, detector, np.int32), name="detector", index=2)
    sources.add_column(np.full(count, band, "U8"), name="band", index=3)
    return sources


class CalibrateImageTask(pipe_base.PipelineTask):
    """Subtract the sky, fit the PSF, measure sources, solve the WCS and the zero point."""

    ConfigClass = CalibrateImageConfig
    _DefaultName = "calibrateImage"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the inputs, run, write the outputs."""
        exposures = butlerQC.get(inputRefs.exposures)
        if len(exposures) != 1:
            raise CalibrationFailure(f"visit has {len(exposures)} exposures; one is expected",
                                     {"n_exposures": len(exposures)})  # fmt: skip
        outputs = self.run(
            exposures[0],
            [handle.get() for handle in butlerQC.get(inputRefs.astrometry_ref_cat)],
            [handle.get() for handle in butlerQC.get(inputRefs.photometry_ref_cat)],
            visit=int(butlerQC.quantum.dataId["visit"]),
            detector=int(butlerQC.quantum.dataId["detector"]),
        )
        butlerQC.put(outputs, outputRefs)

    def run(
        self, exposure: MaskedImage, astrometric: list[Table], photometric: list[Table], visit: int, detector: int
    ) -> pipe_base.Struct:
        """Return ``exposure``, ``sources`` and ``summary``.

        Parameters
        ----------
        exposure : `MaskedImage`
            Electrons; ``metadata`` holds ``band``, ``physical_filter``, ``mjd`` (middle, TAI) and ``exptime``.
        astrometric, photometric : `list` [`astropy.table.Table`]
            Reference shards.
        visit, detector : `int`

        Raises
        ------
        CalibrationFailure
            If PSF, WCS or zero point cannot be measured or trusted.
        """
        known = exposure.metadata
        with algorithm_errors():
            result = calibrate(
                exposure, astrometric, photometric, known["band"], float(known["mjd"]), self.config.settings()
            )
        identifiers = {
            "visit": visit,
            "detector": detector,
            "band": str(known["band"]),
            "physical_filter": str(known["physical_filter"]),
            "exptime": float(known["exptime"]),
        }
        result.exposure.metadata |= identifiers
        summary = identifiers | result.summary | amplifier_figures(result.exposure.mask, detector)
        self.log.info(
            "visit %d detector %d: seeing %.2f arcsec, zero point %.3f, astrometry %.1f mas with %d stars, %d sources",
            visit, detector, summary["fwhm_arcsec"], summary["zero_point"], summary["astrometric_rms_mas"],
            summary["n_matched"], summary["n_sources"],
        )  # fmt: skip
        return pipe_base.Struct(
            exposure=result.exposure,
            sources=identify(result.sources, visit, detector, str(known["band"])),
            summary=summary,
        )

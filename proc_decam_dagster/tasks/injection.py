"""Synthetic sources: put into calibrated exposures, and measured again there."""

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.calibrate import CalibrationSettings
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.injection import inject, magnitude_to_njy, measure_injected
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.calibrate_image import DIMENSIONS, identify
from proc_decam_dagster.tasks.failure import algorithm_errors


class InjectExposureConnections(pipe_base.PipelineTaskConnections, dimensions=DIMENSIONS):
    """Calibrated exposure and the survey's fakes in; exposure with fakes and their catalogue out."""

    fakes = connectionTypes.PrerequisiteInput(
        name=datasets.FAKES,
        doc="Synthetic sources of the band: `ra, dec, mag, expnum` (0: every exposure), `fake_id`. May be absent.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "band"),
        multiple=True,
        minimum=0,
    )
    exposure = connectionTypes.Input(
        name=datasets.CALEXP, doc="Calibrated exposure.", storageClass="DecamImage", dimensions=DIMENSIONS
    )
    injected = connectionTypes.Output(
        name=datasets.INJECTED_CALEXP,
        doc="The exposure with its synthetic sources; a copy of it where there are none.",
        storageClass="DecamImage",
        dimensions=DIMENSIONS,
    )
    catalogue = connectionTypes.Output(
        name=datasets.INJECTED_CATALOG,
        doc="The synthetic sources that fell on the detector.",
        storageClass="ArrowAstropy",
        dimensions=DIMENSIONS,
    )


class InjectExposureConfig(pipe_base.PipelineTaskConfig, pipelineConnections=InjectExposureConnections):
    """The seed of the photon noise."""

    seed = Field[int](doc="First number of the seed, beside visit and detector.", default=0)


class InjectExposureTask(pipe_base.PipelineTask):
    """Put the synthetic sources of a visit into its exposures."""

    ConfigClass = InjectExposureConfig
    _DefaultName = "inject_exposure"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the inputs, run with the numbers of visit and detector, write the outputs."""
        data_id = butlerQC.quantum.dataId
        outputs = self.run(
            butlerQC.get(inputRefs.exposure), butlerQC.get(inputRefs.fakes), int(data_id["visit"]),
            int(data_id["detector"]),
        )  # fmt: skip
        butlerQC.put(outputs, outputRefs)

    def run(self, exposure: MaskedImage, fakes: list[Table], visit: int, detector: int) -> pipe_base.Struct:
        """Return ``injected`` and ``catalogue``.

        Parameters
        ----------
        exposure : `MaskedImage`
        fakes : `list` [`astropy.table.Table`]
            At most one table.
        visit, detector : `int`
        """
        # EXPNUM 0 asks for a position on the sky: the source is put into every exposure that covers it
        own = [table[np.isin(np.asarray(table["expnum"]), (visit, 0))] for table in fakes]
        ra, dec, mag, number = (
            np.concatenate([np.asarray(table[name]) for table in own]) if own else np.zeros(0, kind)
            for name, kind in (("ra", float), ("dec", float), ("mag", float), ("fake_id", np.int64))
        )
        result = inject(exposure, ra, dec, mag, (self.config.seed, visit, detector))
        flux = magnitude_to_njy(mag[result.index])
        catalogue = Table(
            {
                "fake_id": number[result.index].astype(np.int64),
                "visit": np.full(len(flux), visit, np.int64),
                "detector": np.full(len(flux), detector, np.int32),
                "ra": ra[result.index], "dec": dec[result.index], "x": result.x, "y": result.y,
                "mag": mag[result.index], "flux": flux, "flux_e": flux / exposure.flux_scale,
                "usable": result.usable,
            }
        )  # fmt: skip
        result.exposure.metadata["n_injected"] = len(catalogue)
        return pipe_base.Struct(injected=result.exposure, catalogue=catalogue)


class InjectedCalibrateImageConnections(pipe_base.PipelineTaskConnections, dimensions=DIMENSIONS):
    """Exposure with synthetic sources and their catalogue in, source table out."""

    exposure = connectionTypes.Input(
        name=datasets.INJECTED_CALEXP, doc="Exposure with fakes.", storageClass="DecamImage", dimensions=DIMENSIONS
    )
    catalogue = connectionTypes.Input(
        name=datasets.INJECTED_CATALOG, doc="The fakes.", storageClass="ArrowAstropy", dimensions=DIMENSIONS
    )
    sources = connectionTypes.Output(
        name=datasets.INJECTED_SOURCE_TABLE,
        doc="Sources measured again, each with the fake that it is.",
        storageClass="ArrowAstropy",
        dimensions=DIMENSIONS,
    )


class InjectedCalibrateImageConfig(pipe_base.PipelineTaskConfig, pipelineConnections=InjectedCalibrateImageConnections):
    """Threshold and matching radius."""

    detectionSnr = Field[float](doc="Detection threshold.", default=CalibrationSettings.detection_snr)
    radiusArcsec = Field[float](doc="Matching radius.", default=1.0)


class InjectedCalibrateImageTask(pipe_base.PipelineTask):
    """Measure the sources of an exposure with fakes, with the PSF, WCS and zero point that it has."""

    ConfigClass = InjectedCalibrateImageConfig
    _DefaultName = "injected_calibrateImage"

    def run(self, exposure: MaskedImage, catalogue: Table) -> pipe_base.Struct:
        """Return ``sources``, see `proc_decam_dagster.pixels.injection.measure_injected`."""
        with algorithm_errors():
            sources = measure_injected(exposure, catalogue, self.config.detectionSnr, self.config.radiusArcsec)
        known = exposure.metadata
        self.log.info("%d of %d fakes recovered", int(np.sum(sources["fake_id"] >= 0)), len(catalogue))
        return pipe_base.Struct(
            sources=identify(sources, int(known["visit"]), int(known["detector"]), str(known["band"]))
        )

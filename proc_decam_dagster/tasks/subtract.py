"""`SubtractImagesTask`: a matched template subtracted from an exposure."""

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import ChoiceField, Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.difference import SubtractionSettings, subtract
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME
from proc_decam_dagster.tasks.failure import algorithm_errors

DETECTOR = ("instrument", "visit", "detector")
SPOILING_FLAGS = ("flag_saturated", "flag_bad", "flag_edge", "flag_suspect", "flag_cosmic_ray")
FIGURES = (
    "direction", "kernel_sum", "n_stamps", "n_stamps_rejected", "match_chi2", "pixel_noise_scale",
    "psf_flux_noise_scale", "science_fwhm_px", "template_fwhm_px", "difference_fwhm_px", "template_noise_ratio",
    "covered_fraction", "visit", "detector", "band", "mjd",
)  # fmt: skip


class SubtractImagesConnections(
    pipe_base.PipelineTaskConnections, dimensions=DETECTOR, defaultTemplates={"coadd": COADD_NAME, "injected": ""}
):
    """Exposure, its template and its sources in; difference and its figures out.

    ``injected`` is the prefix of the exposure's and of the outputs' names; template and stars are always the clean
    ones.
    """

    science = connectionTypes.Input(
        name="{injected}" + datasets.CALEXP, doc="Exposure.", storageClass="DecamImage", dimensions=DETECTOR
    )
    template = connectionTypes.Input(
        name=datasets.TEMPLATE, doc="Template on its pixels.", storageClass="DecamImage", dimensions=DETECTOR
    )
    sources = connectionTypes.Input(
        name=datasets.PRE_SOURCE_TABLE, doc="Stars to match on.", storageClass="ArrowAstropy", dimensions=DETECTOR
    )
    difference = connectionTypes.Output(
        name="{injected}" + datasets.DIFFERENCE,
        doc="Exposure minus matched template, nJy.",
        storageClass="DecamImage",
        dimensions=DETECTOR,
    )
    summary = connectionTypes.Output(
        name="{injected}" + datasets.DIFFERENCE_SUMMARY,
        doc="Figures of the subtraction.",
        storageClass="StructuredDataDict",
        dimensions=DETECTOR,
    )


class SubtractImagesConfig(pipe_base.PipelineTaskConfig, pipelineConnections=SubtractImagesConnections):
    """See `SubtractionSettings`."""

    kernelDegree = RangeField[int](doc="Of the kernel's variation.", default=2, min=0, max=3)
    backgroundDegree = RangeField[int](doc="Of the background difference.", default=1, min=0, max=3)
    minSnr = Field[float](doc="Of the stars matched on.", default=SubtractionSettings.min_snr)
    brightStarError = Field[float](
        doc="Relative error of the matched template.", default=SubtractionSettings.bright_star_error
    )
    maxFluxMismatch = Field[float](
        doc="Largest departure of the kernel's sum from 1.", default=SubtractionSettings.max_flux_mismatch
    )
    direction = ChoiceField[str](
        doc="Which image is convolved.",
        allowed={"auto": "The sharper one.", "template": "The template.", "science": "The exposure."},
        default="auto",
        optional=False,
    )

    def settings(self) -> SubtractionSettings:
        """Return the configuration as the algorithm takes it."""
        return SubtractionSettings(
            kernel_degree=self.kernelDegree,
            background_degree=self.backgroundDegree,
            min_snr=self.minSnr,
            bright_star_error=self.brightStarError,
            max_flux_mismatch=self.maxFluxMismatch,
            direction=self.direction,
        )


class SubtractImagesTask(pipe_base.PipelineTask):
    """Match the template to the exposure and subtract it."""

    ConfigClass = SubtractImagesConfig
    _DefaultName = "subtractImages"

    def run(self, science: MaskedImage, template: MaskedImage, sources: Table) -> pipe_base.Struct:
        """Return ``difference`` and ``summary``.

        Parameters
        ----------
        science, template : `MaskedImage`
        sources : `astropy.table.Table`
            ``x, y, snr`` and the flags of the source table.

        Raises
        ------
        lsst.pipe.base.AlgorithmError
            If there are too few stars, or if the fluxes disagree.
        """
        spoilt = np.zeros(len(sources), bool)
        for name in SPOILING_FLAGS:
            if name in sources.colnames:
                spoilt |= np.asarray(sources[name], bool)
        x, y, snr = (np.asarray(sources[name], float)[~spoilt] for name in ("x", "y", "snr"))
        with algorithm_errors():
            difference = subtract(science, template, x, y, snr, self.config.settings())
        figures = difference.metadata
        difference.metadata = figures | {"template_visits": str(template.metadata.get("visits", ""))}
        self.log.info(
            "convolved %s, %d stars (%d rejected), kernel sum %.4f, chi2 %.2f, noise %.3f",
            figures["direction"], figures["n_stamps"], figures["n_stamps_rejected"], figures["kernel_sum"],
            figures["match_chi2"], figures["psf_flux_noise_scale"],
        )  # fmt: skip
        return pipe_base.Struct(
            difference=difference, summary={name: figures[name] for name in FIGURES if name in figures}
        )

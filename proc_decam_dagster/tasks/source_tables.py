"""`TransformSourceTableTask`: the final source table of a detector."""

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.psf_model import AB_ZERO_POINT
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.calibrate_image import DIMENSIONS
from proc_decam_dagster.tasks.failure import CalibrationFailure


class TransformSourceTableConnections(pipe_base.PipelineTaskConnections, dimensions=DIMENSIONS):
    """Preliminary sources and final visit summary in, final sources out."""

    sources = connectionTypes.Input(
        name=datasets.PRE_SOURCE_TABLE, doc="Sources as measured.", storageClass="ArrowAstropy", dimensions=DIMENSIONS
    )
    summary = connectionTypes.Input(
        name=datasets.VISIT_SUMMARY,
        doc="Final visit summary.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
    table = connectionTypes.Output(
        name=datasets.SOURCE_TABLE,
        doc="Sources with magnitudes and the judgement of their detector.",
        storageClass="ArrowAstropy",
        dimensions=DIMENSIONS,
    )


class TransformSourceTableConfig(pipe_base.PipelineTaskConfig, pipelineConnections=TransformSourceTableConnections):
    """Nothing to configure."""


class TransformSourceTableTask(pipe_base.PipelineTask):
    """Make the final source table of a detector."""

    ConfigClass = TransformSourceTableConfig
    _DefaultName = "transformSourceTable"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the inputs, run for this detector, write the output."""
        inputs = butlerQC.get(inputRefs)
        butlerQC.put(self.run(**inputs, detector=int(butlerQC.quantum.dataId["detector"])), outputRefs)

    def run(self, sources: Table, summary: Table, detector: int) -> pipe_base.Struct:
        """Return ``table``: the sources with ``flux_scale``'s final value applied.

        Parameters
        ----------
        sources : `astropy.table.Table`
            Fluxes in electrons (``…_flux_e``) and nJy.
        summary : `astropy.table.Table`
            Final visit summary.
        detector : `int`

        Raises
        ------
        CalibrationFailure
            If the summary has no row of the detector.
        """
        rows = summary[np.asarray(summary["detector"]) == detector]
        if len(rows) != 1:
            raise CalibrationFailure(f"the visit summary has {len(rows)} rows of detector {detector}; one is expected",
                                     {"n_rows": len(rows)})  # fmt: skip
        table = sources.copy()
        scale = float(rows["flux_scale"][0])
        for name in ("psf_flux", "psf_flux_err", "ap_flux", "ap_flux_err"):
            table[name] = np.asarray(table[name.replace("_flux", "_flux_e")]) * scale
        with np.errstate(all="ignore"):
            table["psf_mag"] = AB_ZERO_POINT - 2.5 * np.log10(np.asarray(table["psf_flux"]))
            table["psf_mag_err"] = 2.5 / np.log(10) * np.asarray(table["psf_flux_err"] / table["psf_flux"])
        table["mjd"] = np.full(len(table), float(rows["mjd_mid"][0]))
        table["detector_accepted"] = np.full(len(table), bool(rows["accepted"][0]))
        return pipe_base.Struct(table=table)

"""`IsolatedStarAssociationTask`: the stars of a tract over its visits."""

from collections.abc import Iterable

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.skymap import SkyMap, belongs_to
from proc_decam_dagster.pixels.star_association import associate
from proc_decam_dagster.survey import datasets


class IsolatedStarAssociationConnections(
    pipe_base.PipelineTaskConnections, dimensions=("instrument", "skymap", "tract")
):
    """Source tables of visits in, isolated stars out."""

    tables = connectionTypes.Input(
        name=datasets.PRE_SOURCE_TABLE_VISIT,
        doc="Sources of the visits that overlap the tract.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        multiple=True,
        deferLoad=True,
    )
    skymap = connectionTypes.Input(
        name=datasets.SKYMAP, doc="Which tract a star belongs to.", storageClass="DecamSkyMap", dimensions=("skymap",)
    )
    stars = connectionTypes.Output(
        name=datasets.ISOLATED_STARS,
        doc="One row a star of the tract and band, with the scatter of its measurements.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "skymap", "tract"),
    )


class IsolatedStarAssociationConfig(
    pipe_base.PipelineTaskConfig, pipelineConnections=IsolatedStarAssociationConnections
):
    """Radii and the faintest star."""

    radiusArcsec = Field[float](doc="Sources within it are one star.", default=1.0)
    isolationArcsec = Field[float](doc="Stars with another within it are left out.", default=3.0)
    minSnr = Field[float](doc="Least signal-to-noise ratio.", default=15.0)


class IsolatedStarAssociationTask(pipe_base.PipelineTask):
    """Associate the isolated stars of visits."""

    ConfigClass = IsolatedStarAssociationConfig
    _DefaultName = "isolatedStarAssociation"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Read the tables in the order of the visits, one at a time."""
        refs = sorted(inputRefs.tables, key=lambda ref: ref.dataId["visit"])
        tables = (handle.get() for handle in butlerQC.get(refs))
        tract = int(butlerQC.quantum.dataId["tract"])
        butlerQC.put(self.run(tables, butlerQC.get(inputRefs.skymap), tract), outputRefs)

    def run(self, tables: Iterable[Table], skymap: SkyMap | None = None, tract: int = 0) -> pipe_base.Struct:
        """Return ``stars``, see `proc_decam_dagster.pixels.star_association.associate`.

        Parameters
        ----------
        tables : iterable of `astropy.table.Table`
            Source tables of visits, taken one at a time.
        skymap : `SkyMap`, optional
            Stars that belong to another tract are left to it; without a sky map all stay.
        tract : `int`, optional
        """
        stars = associate(
            tables, radius_arcsec=self.config.radiusArcsec, isolation_arcsec=self.config.isolationArcsec,
            min_snr=self.config.minSnr,
        )  # fmt: skip
        if skymap is not None:
            stars = stars[belongs_to(skymap, tract, stars["ra"], stars["dec"])]
        repeated = stars[np.asarray(stars["n_visits"]) > 1]
        if len(repeated):
            self.log.info(
                "%d stars in more than one visit repeat to %.1f mmag and %.1f mas (median)",
                len(repeated), np.median(repeated["scatter_mmag"]), np.median(repeated["position_scatter_mas"]),
            )  # fmt: skip
        return pipe_base.Struct(stars=stars)

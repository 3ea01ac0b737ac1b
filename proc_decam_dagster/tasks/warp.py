"""`MakeDirectWarpTask`: the calibrated detectors of a visit resampled onto the pixels of a patch."""

from collections.abc import Iterator, Mapping
from typing import Any

import lsst.pipe.base as pipe_base
import numpy as np
from astropy.table import Table
from lsst.pex.config import Field, RangeField
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.pixels.failure import MeasurementFailure
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.psf_match import match_psf
from proc_decam_dagster.pixels.psf_model import AB_ZERO_POINT
from proc_decam_dagster.pixels.skymap import SkyMap
from proc_decam_dagster.pixels.warp import warp
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.survey.datasets import COADD_NAME


class MakeDirectWarpConnections(
    pipe_base.PipelineTaskConnections,
    dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    defaultTemplates={"coadd": COADD_NAME},
):
    """Calibrated exposures in, warp out. Only clean ones are ever warped: no synthetic source gets into a coadd."""

    exposures = connectionTypes.Input(
        name=datasets.CALEXP,
        doc="Calibrated exposures of the visit that overlap the patch.",
        storageClass="DecamImage",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    summary = connectionTypes.Input(
        name=datasets.VISIT_SUMMARY,
        doc="Which detectors are accepted.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )
    skymap = connectionTypes.Input(
        name=datasets.SKYMAP, doc="Geometry of the patch.", storageClass="DecamSkyMap", dimensions=("skymap",)
    )
    warp = connectionTypes.Output(
        name=datasets.DIRECT_WARP,
        doc="The visit on the patch's pixels, nJy.",
        storageClass="DecamImage",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    )
    psf_matched = connectionTypes.Output(
        name=datasets.PSF_MATCHED_WARP,
        doc="The same with one round Gaussian PSF, if asked for and if the visit's seeing allows it.",
        storageClass="DecamImage",
        dimensions=("instrument", "skymap", "tract", "patch", "visit"),
    )

    def __init__(self, *, config=None) -> None:
        super().__init__(config=config)
        if config is not None and not config.doPsfMatched:
            self.outputs.remove("psf_matched")


class MakeDirectWarpConfig(pipe_base.PipelineTaskConfig, pipelineConnections=MakeDirectWarpConnections):
    """How little of a patch is still worth a warp, and whether PSF-matched ones are made."""

    minCoverage = Field[float](doc="Least fraction of the patch that the visit must cover.", default=0.001)
    doPsfMatched = Field[bool](doc="Make PSF-matched warps too?", default=False)
    psfMatchedFwhm = RangeField[float](
        doc="FWHM of the PSF-matched warps, arcsec; a visit of worse seeing has none.", default=1.8, min=0.5, max=5.0
    )


class MakeDirectWarpTask(pipe_base.PipelineTask):
    """Warp the accepted detectors of a visit onto a patch."""

    ConfigClass = MakeDirectWarpConfig
    _DefaultName = "makeDirectWarp"

    def runQuantum(self, butlerQC, inputRefs, outputRefs) -> None:
        """Hand the exposures over unread, run, write the warp."""
        handles = {int(handle.dataId["detector"]): handle for handle in butlerQC.get(inputRefs.exposures)}
        data_id = butlerQC.quantum.dataId
        outputs = self.run(
            handles, butlerQC.get(inputRefs.summary), butlerQC.get(inputRefs.skymap),
            tract=int(data_id["tract"]), patch=int(data_id["patch"]), visit=int(data_id["visit"]),
        )  # fmt: skip
        butlerQC.put(outputs.warp, outputRefs.warp)
        if outputs.psf_matched is not None:
            butlerQC.put(outputs.psf_matched, outputRefs.psf_matched)

    def run(
        self, exposures: Mapping[int, Any], summary: Table, skymap: SkyMap, *, tract: int, patch: int, visit: int
    ) -> pipe_base.Struct:
        """Return ``warp`` and ``psf_matched``, the latter `None` if not asked for or if the seeing is too bad.

        Parameters
        ----------
        exposures : mapping [`int`, handle]
            By detector; ``get()`` returns a `MaskedImage`. Read one at a time.
        summary : `astropy.table.Table`
            Final visit summary: ``detector``, ``accepted``.
        skymap : `SkyMap`
        tract, patch, visit : `int`

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If no accepted detector reaches the patch.
        """
        accepted = {int(row["detector"]) for row in summary if bool(row["accepted"])}
        chosen = sorted(set(exposures) & accepted)
        if not chosen:
            raise pipe_base.NoWorkFound(
                f"visit {visit}: none of detectors {sorted(exposures)} is accepted by the visit summary"
            )
        used: list[dict[str, Any]] = []
        where = skymap.tract(tract).patch(patch)
        image = warp(_read(exposures, chosen, used), where.wcs(), where.shape)
        coverage = float(np.isfinite(image.image).mean())
        if not coverage or coverage < self.config.minCoverage:
            raise pipe_base.NoWorkFound(f"visit {visit} covers {coverage:.2%} of tract {tract} patch {patch}")
        image.metadata = {
            "visit": visit, "tract": tract, "patch": patch, "detectors": ",".join(map(str, chosen)),
            "coverage": coverage,
            "zero_point": AB_ZERO_POINT,
            **_averages(used),
        }  # fmt: skip
        self.log.info("visit %d on tract %d patch %d: %d detectors, %.0f %% covered", visit, tract, patch,
                      len(chosen), 100 * coverage)  # fmt: skip
        return pipe_base.Struct(warp=image, psf_matched=self._matched(image) if self.config.doPsfMatched else None)

    def _matched(self, image: MaskedImage) -> MaskedImage | None:
        """Return the PSF-matched warp, or `None`, with a warning, if the seeing is too bad for it."""
        pixel_arcsec = float(np.sqrt(abs(np.linalg.det(image.wcs.pixel_scale_matrix)))) * 3600
        try:
            return match_psf(image, self.config.psfMatchedFwhm / pixel_arcsec)
        except MeasurementFailure as failure:
            self.log.warning("no PSF-matched warp of visit %s: %s", image.metadata["visit"], failure)
            return None


def _read(exposures: Mapping[int, Any], chosen: list[int], used: list[dict[str, Any]]) -> Iterator[MaskedImage]:
    """Read exposures one by one, keeping what is known of each."""
    for detector in chosen:
        exposure = exposures[detector].get()
        ny, nx = exposure.shape
        used.append(exposure.metadata | {
            "seeing_fwhm_px": exposure.psf.fwhm(nx / 2, ny / 2),
            "exposure_zero_point": AB_ZERO_POINT - 2.5 * np.log10(exposure.flux_scale),
        })  # fmt: skip
        yield exposure


def _averages(used: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the detectors have in common, and the means of what they have not."""
    shared = {name: used[0][name] for name in ("band", "physical_filter", "mjd", "exptime") if name in used[0]}
    means = {name: float(np.mean([u[name] for u in used])) for name in ("seeing_fwhm_px", "exposure_zero_point")}
    return shared | means

"""`IsrTask`: a raw frame becomes electrons with variance and mask, its defects and cosmic rays filled."""

import lsst.pipe.base as pipe_base
import numpy as np
from lsst.pex.config import Field
from lsst.pipe.base import connectionTypes

from proc_decam_dagster.camera.crosstalk import source_detectors
from proc_decam_dagster.pixels.cosmic_rays import CONTRAST, THRESHOLD, repair
from proc_decam_dagster.pixels.crosstalk import remove_leaks
from proc_decam_dagster.pixels.defects import interpolate, paint_boxes
from proc_decam_dagster.pixels.fringe import remove_fringes
from proc_decam_dagster.pixels.image import MaskedImage
from proc_decam_dagster.pixels.isr import Master, correct
from proc_decam_dagster.pixels.mask import BAD, CR, CROSSTALK, INTERP, NODATA, SAT, STREAK, SUSPECT, UNUSABLE, fraction
from proc_decam_dagster.pixels.raw_statistics import dead_amplifiers
from proc_decam_dagster.pixels.raw_wcs import trimmed_wcs
from proc_decam_dagster.pixels.trails import find_trails, mask_bleed_tails
from proc_decam_dagster.survey import datasets
from proc_decam_dagster.tasks.curated import crosstalk_matrix, crosstalk_of_others, linearity_tables
from proc_decam_dagster.tasks.failure import CalibrationFailure, algorithm_errors
from proc_decam_dagster.tasks.raw import amplifiers, describe
from proc_decam_dagster.tasks.raw_statistics import bright_pixels_of


class IsrConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "exposure", "detector")):
    """Raw frame and calibrations in, corrected frame out."""

    raw = connectionTypes.Input(
        name=datasets.RAW, doc="Raw frame.", storageClass="DecamRaw", dimensions=("instrument", "exposure", "detector")
    )
    statistics = connectionTypes.Input(
        name=datasets.RAW_STATISTICS,
        doc="Health of the frame.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "exposure", "detector"),
    )
    bias = connectionTypes.PrerequisiteInput(
        name=datasets.BIAS,
        doc="Master bias.",
        storageClass="DecamImage",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    flat = connectionTypes.PrerequisiteInput(
        name=datasets.FLAT,
        doc="Master flat of the exposure's filter.",
        storageClass="DecamImage",
        dimensions=("instrument", "physical_filter", "detector"),
        isCalibration=True,
    )
    crosstalk = connectionTypes.PrerequisiteInput(
        name=datasets.CROSSTALK,
        doc="Crosstalk coefficients.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
    )
    linearizer = connectionTypes.PrerequisiteInput(
        name=datasets.LINEARIZER,
        doc="Non-linearity of the amplifiers; without it signals are taken as proportional to the light.",
        storageClass="StructuredDataDict",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    crosstalkSources = connectionTypes.Input(
        name=datasets.CROSSTALK_SOURCES,
        doc="Bright pixels of the detectors that leak into this one, as far as they are in the graph.",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        minimum=0,
        deferGraphConstraint=True,
    )
    defects = connectionTypes.PrerequisiteInput(
        name=datasets.DEFECTS,
        doc="Bad pixels; a survey without mask files has none.",
        storageClass="DecamDefects",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    suspectMask = connectionTypes.PrerequisiteInput(
        name=datasets.SUSPECT_MASK,
        doc="Suspect pixels; a survey without mask files has none.",
        storageClass="DecamDefects",
        dimensions=("instrument", "detector"),
        isCalibration=True,
        minimum=0,
    )
    fringe = connectionTypes.PrerequisiteInput(
        name=datasets.FRINGE,
        doc="Pattern of the fringes, z and Y; without one they stay.",
        storageClass="DecamImage",
        dimensions=("instrument", "physical_filter", "detector"),
        isCalibration=True,
        minimum=0,
    )
    outputExposure = connectionTypes.Output(
        name=datasets.POST_ISR,
        doc="Corrected frame, electrons.",
        storageClass="DecamImage",
        dimensions=("instrument", "exposure", "detector"),
    )

    def adjust_all_quanta(self, adjuster) -> None:
        """Give each detector the bright pixels of those that leak into it, where the graph holds them."""
        detectors = {}
        for data_id in adjuster.iter_data_ids():
            if adjuster.get_inputs(data_id)["crosstalkSources"]:
                detectors[data_id["exposure"], data_id["detector"]] = data_id
        for (exposure, detector), data_id in detectors.items():
            for source in source_detectors([detector]):
                if (exposure, source) in detectors:
                    adjuster.add_input(data_id, "crosstalkSources", detectors[exposure, source])


class IsrConfig(pipe_base.PipelineTaskConfig, pipelineConnections=IsrConnections):
    """What is looked for in a frame, and how strict the search for cosmic rays is."""

    doTrails = Field[bool](doc="Find and flag trails of satellites?", default=True)
    doCosmicRays = Field[bool](doc="Find, flag and fill cosmic rays?", default=True)
    cosmicRayThreshold = Field[float](doc="Laplacian significance of a hit.", default=THRESHOLD)
    cosmicRayContrast = Field[float](doc="Least Laplacian over fine structure of a hit.", default=CONTRAST)


class IsrTask(pipe_base.PipelineTask):
    """Remove the instrument's signature from a raw frame."""

    ConfigClass = IsrConfig
    _DefaultName = "isr"

    def run(
        self, raw, statistics, bias, flat, crosstalk, defects=None, suspectMask=None, linearizer=None,
        crosstalkSources=(), fringe=None,
    ) -> pipe_base.Struct:  # fmt: skip
        """Return ``outputExposure``: electrons, with the raw header's WCS.

        Parameters
        ----------
        raw : `proc_decam_dagster.instrument.raw.RawImage`
        statistics : mapping
            ``rawStatistics`` of the frame.
        bias, flat : `proc_decam_dagster.pixels.image.MaskedImage`
        crosstalk : mapping
            The ``crosstalk`` dataset.
        defects, suspectMask : `astropy.table.Table`, optional
            Boxes ``x0, y0, width, height``.
        linearizer : mapping, optional
            The ``linearizer`` dataset.
        crosstalkSources : iterable of `astropy.table.Table`, optional
            The ``crosstalkSources`` of this and of other detectors.
        fringe : `proc_decam_dagster.pixels.image.MaskedImage`, optional
            Pattern of the fringes.

        Raises
        ------
        CalibrationFailure
            Raised if no amplifier works: nothing could be calibrated.
        """
        readouts, overscans = amplifiers(raw)
        dead = dead_amplifiers(statistics["amplifiers"])
        if len(dead) == len(readouts):
            causes = "; ".join(f"{name}: {statistics['amplifiers'][name].get('cause', 'dead')}" for name in dead)
            raise CalibrationFailure(
                f"exposure {describe(raw)['exposure']} detector {describe(raw)['detector']} shows no sky on either "
                f"amplifier ({causes})",
                {"dead_amplifiers": len(dead)},
            )
        response = Master.flat(flat)
        image = correct(
            raw.data, readouts, bias=Master.bias(bias), flat=response, crosstalk=crosstalk_matrix(crosstalk),
            linearity=linearity_tables(linearizer), overscans=overscans, dead=dead, metadata=describe(raw),
        )  # fmt: skip
        leaks = crosstalk_of_others(crosstalk)
        sources = bright_pixels_of(crosstalkSources)
        remove_leaks(image, readouts, leaks, sources, response)
        np.bitwise_or(image.mask, (bias.mask | flat.mask) & BAD, out=image.mask)
        if defects is not None:
            paint_boxes(image.mask, defects, BAD)
        if suspectMask is not None:
            paint_boxes(image.mask, suspectMask, SUSPECT)
        if not dead:
            interpolate(image.image, image.variance, image.mask, BAD, SAT | NODATA)
        mask_bleed_tails(image)
        if self.config.doCosmicRays:
            repair(image, threshold=self.config.cosmicRayThreshold, contrast=self.config.cosmicRayContrast)
        trails = find_trails(image) if self.config.doTrails else []
        if fringe is not None:
            with algorithm_errors():
                image.metadata["fringe_scale"], _ = remove_fringes(image, fringe.image)
        image.wcs = trimmed_wcs(raw.header, image.shape)
        image.metadata |= _quality(image)
        image.metadata["dead_amplifiers"] = "".join(dead)
        image.metadata["n_trails"] = len(trails)
        image.metadata["linearized"] = linearizer is not None
        absent = {source for _, source, _, _ in leaks} - {detector for detector, _ in sources}
        image.metadata["crosstalk_not_corrected"] = ",".join(map(str, sorted(absent)))
        image.metadata["has_defects"], image.metadata["has_suspect_mask"] = defects is not None, suspectMask is not None
        for readout, overscan in zip(readouts, overscans):
            image.metadata[f"gain_{readout.name}"] = readout.gain
            image.metadata[f"read_noise_{readout.name}"] = readout.read_noise
            image.metadata[f"measured_noise_{readout.name}"] = overscan.noise * readout.gain
        if defects is None:
            self.log.warning("detector %d has no defects in the input collections", image.metadata["detector"])
        return pipe_base.Struct(outputExposure=image)


def _quality(image: MaskedImage) -> dict[str, float]:
    """Return sky level and noise (electrons) and the fraction of the pixels in each mask plane."""
    part = slice(None, None, 8), slice(None, None, 8)
    usable = image.image[part][(image.mask[part] & UNUSABLE) == 0]
    sky = float(np.median(usable)) if usable.size else float("nan")
    noise = float(1.4826 * np.median(np.abs(usable - sky))) if usable.size else float("nan")
    planes = {
        "BAD": BAD, "SAT": SAT, "CR": CR, "SUSPECT": SUSPECT, "INTERP": INTERP, "CROSSTALK": CROSSTALK,
        "STREAK": STREAK,
    }  # fmt: skip
    return {"sky": sky, "sky_noise": noise} | {
        f"fraction_{name.lower()}": fraction(image.mask, bits) for name, bits in planes.items()
    }

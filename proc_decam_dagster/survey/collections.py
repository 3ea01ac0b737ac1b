"""Names of Butler collections: one pure function makes each kind, one parses the processing chains."""

from dataclasses import dataclass
from datetime import UTC, datetime

RAW_ALL = "DECam/raw/all"
CALIB = "DECam/calib"
CALIB_BPM = "DECam/calib_bpm"
REFCATS = "refcats"
SKYMAPS = "skymaps"
FAKES = "fakes"
STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Chain:
    """The parts of a chain's name `{subset}/{coadd_subset}/{template_type}/{proc_type}`, empty ones dropped."""

    proc_type: str
    subset: str = ""
    coadd_subset: str = ""
    template_type: str = ""

    def __str__(self) -> str:
        return "/".join(p for p in (self.subset, self.coadd_subset, self.template_type, self.proc_type) if p)


def chain_name(proc_type: str, subset: str = "", coadd_subset: str = "", template_type: str = "") -> str:
    """Return the name of the CHAINED collection of a proc type.

    Examples: ``20190401/bias``, ``2019/meanclip/coadd``, ``20190401/2019/meanclip/diff_drp``.
    """
    return str(Chain(proc_type, subset, coadd_subset, template_type))


def parse_chain(name: str) -> Chain:
    """Return the parts of a processing chain's name; the inverse of `chain_name`.

    Raises
    ------
    ValueError
        If the name is not that of a processing chain.
    """
    match name.split("/"):
        case [subset, ("bias" | "flat" | "drp") as proc_type] if subset:
            return Chain(proc_type, subset)
        case [coadd_subset, template_type, "coadd"] if coadd_subset and template_type:
            return Chain("coadd", "", coadd_subset, template_type)
        case [subset, coadd_subset, template_type, "diff_drp"] if subset and coadd_subset and template_type:
            return Chain("diff_drp", subset, coadd_subset, template_type)
    raise ValueError(f"{name!r} is not the name of a processing chain")


def is_processing_chain(name: str) -> bool:
    """Whether a collection's name is that of a processing chain."""
    try:
        parse_chain(name)
    except ValueError:
        return False
    return True


def run_name(parent: str, pipeline: str, step: str, when: datetime | None = None) -> str:
    """Return the name of a step's RUN, `{parent}/{pipeline}/{step}/{UTC stamp}`."""
    return stamped(f"{parent}/{pipeline}/{step}", when)


def stamped(parent: str, when: datetime | None = None) -> str:
    """Return `{parent}/{UTC stamp}`: the name of what is made now, or was at a given time."""
    return f"{parent}/{(when or datetime.now(UTC)).astimezone(UTC).strftime(STAMP)}"


def raw_collection(night: str, proc_type: str) -> str:
    """Return the TAGGED collection of a night's raws for a proc type."""
    return f"{night}/{proc_type}/raw"


def calib_collection(night: str, dataset: str) -> str:
    """Return the CALIBRATION collection that a night's master calibrations are certified into."""
    return f"{night}/calib/{dataset}"


def coadd_inputs_collection(coadd_subset: str, template_type: str) -> str:
    """Return the TAGGED collection of the warps and tables that a coadd is made from."""
    return f"{coadd_subset}/{template_type}/coadd/inputs"

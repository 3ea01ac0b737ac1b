"""The proc types, one row each: what they process, with which pipeline and steps, from which collections.

Butler chains, asset dependencies and the commands' behaviour are all derived from this table.
"""

import re
from dataclasses import dataclass

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.survey import collections as names
from proc_decam_dagster.survey import datasets

PART = re.compile(r"[\w.+-]+")
"""A part of a chain's name: a slash would make it another chain's, a * or [ find other chains' RUNs."""
TEMPLATE_TYPES = ("mean", "median", "meanclip", "min")


@dataclass(frozen=True)
class ProcType:
    """A kind of processing.

    Attributes
    ----------
    name : `str`
        Last part of its chain's name.
    obs_type : `str` or `None`
        Observation type of its raws in the archive; `None` if it starts from other chains.
    pipeline : `str`
        File name of its pipeline; `{template_type}` is filled in.
    steps : `tuple` [`str`]
        Subsets of the pipeline, in order.
    inputs : `tuple` [`str`]
        Input collections that follow the chain's RUNs, in order; `{subset}`, `{coadd_subset}` and
        `{template_type}` are filled in.
    certifies : `str` or `None`
        Dataset type certified into `{subset}/calib/{certifies}` after the last step.
    axes : `tuple` [`str`]
        The parts of the chain's name that it needs.
    frame_steps : `tuple` [`str`]
        The steps that work on single frames, with the night's masters; those of a calibration after them combine.
    whole_steps : `tuple` [`str`]
        The steps that make something of all of a night's visits together: run on some, they would make it of these.
    """

    name: str
    obs_type: str | None
    pipeline: str
    steps: tuple[str, ...]
    inputs: tuple[str, ...]
    certifies: str | None
    axes: tuple[str, ...]
    frame_steps: tuple[str, ...] = ()
    whole_steps: tuple[str, ...] = ()

    def chain(self, subset: str = "", coadd_subset: str = "", template_type: str = "") -> str:
        """Return the chain's name, from the parts that this proc type uses.

        Raises
        ------
        SurveyError
            If a part is missing or no name, or the template type is unknown.
        """
        parts = {"subset": subset, "coadd_subset": coadd_subset, "template_type": template_type}
        missing = [a for a in self.axes if not parts[a]]
        if missing:
            options = ", ".join("--" + m.replace("_", "-") for m in missing)
            raise SurveyError(f"proc type {self.name} was given no {', '.join(missing)}", fix=f"add {options}")
        for axis in self.axes:
            if not PART.fullmatch(parts[axis]):
                what = axis.replace("_", " ")
                raise SurveyError(f"{what} {parts[axis]!r} is no name", "letters, digits and any of _ . + -")
        if "template_type" in self.axes and template_type not in TEMPLATE_TYPES:
            raise SurveyError(f"template type {template_type!r} is unknown", f"one of {', '.join(TEMPLATE_TYPES)}")
        return names.chain_name(self.name, **{a: parts[a] for a in self.axes})

    def input_collections(self, subset: str = "", coadd_subset: str = "", template_type: str = "") -> list[str]:
        """Return the input collections in chain order."""
        return [c.format(subset=subset, coadd_subset=coadd_subset, template_type=template_type) for c in self.inputs]

    def pipeline_name(self, template_type: str = "") -> str:
        """Return the file name of the pipeline."""
        return self.pipeline.format(template_type=template_type)

    def select_steps(self, wanted: str | None) -> list[str]:
        """Return the chosen steps in pipeline order.

        Parameters
        ----------
        wanted : `str` or `None`
            Comma- or space-separated steps, written ``step2a`` or ``2a``; all if empty.
        """
        if not wanted:
            return list(self.steps)
        chosen = {w if w.startswith("step") else f"step{w}" for w in wanted.replace(",", " ").split()}
        unknown = sorted(chosen - set(self.steps))
        if unknown:
            raise SurveyError(f"{self.name} has no {', '.join(unknown)}", f"some of {', '.join(self.steps)}")
        return [s for s in self.steps if s in chosen]


_ROWS = (
    ProcType(
        "bias", "zero", "bias.yaml", ("step1", "step2"),
        (names.CALIB, "{subset}/bias/raw"),
        datasets.BIAS, ("subset",), ("step1",),
    ),
    ProcType(
        "flat", "dome flat", "flat.yaml", ("step0", "step1", "step2", "step3"),
        ("{subset}/calib/bias", names.CALIB, "{subset}/flat/raw"),
        datasets.FLAT, ("subset",), ("step0", "step1"),
    ),
    ProcType(
        "drp", "object", "DRP.yaml",
        ("step0", "step1", "step2a", "step2b", "step2c", "step2d", "step2e", "step2f", "step3a"),
        (
            names.FAKES, names.REFCATS, names.SKYMAPS, "{subset}/calib/flat", "{subset}/calib/bias",
            names.CALIB_BPM, names.CALIB, "{subset}/drp/raw",
        ),
        None, ("subset",), ("step0", "step1"), ("step2b", "step2f"),
    ),
    ProcType(
        "coadd", None, "{template_type}-template.yaml", ("step3b", "step3c", "step3d"),
        ("{coadd_subset}/{template_type}/coadd/inputs", names.SKYMAPS, names.REFCATS),
        None, ("coadd_subset", "template_type"),
    ),
    ProcType(
        "diff_drp", None, "DRP.yaml", ("step4a", "step4b", "step4c", "step4d", "step4e"),
        ("{coadd_subset}/{template_type}/coadd", "{subset}/drp"),
        None, ("subset", "coadd_subset", "template_type"), (), ("step4d", "step4e"),
    ),
)  # fmt: skip
PROC_TYPES = {row.name: row for row in _ROWS}
ALIASES = {"science": "drp"}
MIN_FRAMES = 5
"""Frames that a master must be made from to be certified, unless somebody says otherwise."""


def proc_type(name: str) -> ProcType:
    """Return a row of the table by its name, or by its alias (``science`` is ``drp``)."""
    try:
        return PROC_TYPES[ALIASES.get(name, name)]
    except KeyError:
        raise SurveyError(f"proc type {name!r} is unknown", f"one of {', '.join(PROC_TYPES)} (or science)") from None


def of_obs_type(obs_type: str) -> ProcType:
    """Return the proc type that processes the raws of an archive observation type."""
    for row in _ROWS:
        if row.obs_type == obs_type:
            return row
    known = ", ".join(r.obs_type for r in _ROWS if r.obs_type)
    raise SurveyError(f"observation type {obs_type!r} is unknown", f"one of {known}")

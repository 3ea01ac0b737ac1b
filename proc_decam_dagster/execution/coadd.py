"""`run_coadd`: the templates of a coadd subset, from the warps of its nights."""

from typing import TYPE_CHECKING, Any

from lsst.daf.butler import CollectionType

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.execution.coadd_memory import limit_warps
from proc_decam_dagster.execution.pipeline import run_pipeline
from proc_decam_dagster.execution.report import PipelineReport
from proc_decam_dagster.repository import associate_coadd_inputs
from proc_decam_dagster.survey.collections import parse_chain
from proc_decam_dagster.survey.datasets import COADD_NAME
from proc_decam_dagster.survey.nights import matching_nights

if TYPE_CHECKING:
    from proc_decam_dagster.repository import Repository


def drp_nights(repository: "Repository") -> list[str]:
    """Return the nights that have a drp chain, sorted."""
    found = []
    for name in repository.butler().collections.query("*/drp", collection_types={CollectionType.CHAINED}):
        try:
            chain = parse_chain(name)
        except ValueError:
            continue
        if chain.proc_type == "drp":
            found.append(chain.subset)
    return sorted(found)


def coadd_subset_nights(repository: "Repository", pattern: str) -> list[str]:
    """Return the processed nights that a pattern selects, given with or without ``/drp``.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    pattern : `str`
        ``2019*``, ``2019*/drp`` or a regular expression.

    Raises
    ------
    SurveyError
        If no night with a drp chain matches; the message names those there are.
    """
    nights = drp_nights(repository)
    if not nights:
        raise SurveyError(
            f"{repository.root} holds no processed night", "warps to make templates of",
            f"run `proc-decam night {repository.root} … --proc-types drp` first",
        )  # fmt: skip
    return matching_nights(pattern.removesuffix("/drp"), nights)


def run_coadd(
    repository: "Repository",
    subset_pattern: str,
    coadd_subset: str,
    template_type: str,
    *,
    warp_coadd_name: str = COADD_NAME,
    where: str = "",
    max_warps: int | None = None,
    **options: Any,
) -> PipelineReport:
    """Gather the warps of all matching nights and make the templates.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    subset_pattern : `str`
        Which nights, see `coadd_subset_nights`.
    coadd_subset, template_type : `str`
        Name the coadd.
    warp_coadd_name : `str`, optional
        Coadd name that the warps' dataset type starts with.
    where : `str`, optional
        Butler query, for the warps as for the steps.
    max_warps : `int`, optional
        The most warps of a patch and band that a coadd takes, see `limit_warps`.
    **options
        Passed on to `run_pipeline`.
    """
    nights = coadd_subset_nights(repository, subset_pattern)
    associate_coadd_inputs(repository, nights, coadd_subset, template_type, warp_coadd_name, where or None)
    limit_warps(repository, coadd_subset, template_type, max_warps)
    if warp_coadd_name != COADD_NAME:
        options["config"] = {"parameters:coaddName": warp_coadd_name} | (options.get("config") or {})
    return run_pipeline(
        repository, "coadd", coadd_subset=coadd_subset, template_type=template_type, where=where, **options
    )

"""The survey's skymap: registered once, never changed, named in every graph's query."""

import numpy as np
from astropy.table import Table
from lsst.daf.butler.registry import ConflictingDefinitionError

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.repository import Repository

DISCRETE = "discrete"


def add_discrete_skymap(repo: Repository, exposures: Table, name: str = DISCRETE) -> str:
    """Register a skymap that fits the science exposures, make it the survey's, and return its name.

    Its tracts contain the camera's outline at each exposure's RA(deg), DEC(deg). A discrete skymap of this name that
    contains them already is kept as it is.

    Raises
    ------
    SurveyError
        If there are no science exposures with coordinates, or if the name is taken by another skymap.
    """
    pointings = require_pointings(exposures)
    known = repo.engine.find_skymap(repo.butler(), name)
    if (
        known is not None
        and known.kind == DISCRETE
        and not any(repo.engine.outside_skymap(repo.butler(), name, sorted(set(pointings))))
    ):
        repo.update_settings(skymap=name, skymap_fits=True)
        return name
    register_skymap(repo, repo.engine.discrete_skymap(name, pointings), fits=True)
    return name


def register_skymap(repo: Repository, skymap, *, fits: bool) -> bool:
    """Register a skymap and make it the survey's; return whether it was new.

    Raises
    ------
    SurveyError
        If the name is taken by another skymap, or the same skymap is registered under another name.
    """
    with repo.lock("skymap", wait_seconds=600):
        try:
            new = repo.engine.register_skymap(repo.butler(writeable=True), skymap)
        except ConflictingDefinitionError as error:
            raise SurveyError(
                f"skymap {skymap.name!r} has the same tracts as one that is registered under another name",
                "one name a skymap",
                f"keep that name: `butler query-dimension-records {repo.root} skymap` lists them",
            ) from error
        repo.update_settings(skymap=skymap.name, skymap_fits=fits)
    return new


def require_pointings(exposures: Table) -> list[tuple[float, float]]:
    """Return the positions (deg) of the science exposures of a table.

    Raises
    ------
    SurveyError
        If there are none.
    """
    _, pointings = science_pointings(exposures)
    if not pointings:
        raise SurveyError(
            "the exposure table has no science exposures with coordinates",
            "rows of obs_type object with RA(deg), DEC(deg)",
            "give the table that `proc-decam exposures` wrote",
        )
    return pointings


def skymap_where(repo: Repository) -> str:
    """Return the term that every graph's query gets.

    Raises
    ------
    SurveyError
        If the repository has no skymap.
    """
    name = repo.settings.skymap
    if not name:
        raise SurveyError(f"{repo.root} has no skymap", fix=f"`proc-decam skymap {repo.root} EXPOSURES_FILE` makes one")
    return f"skymap='{name}'"


def exposures_outside_skymap(repo: Repository, exposures: Table) -> list[int]:
    """Return the science exposures of which a part falls on no tract of the survey's skymap, sorted."""
    skymap_where(repo)
    numbers, pointings = science_pointings(exposures)
    if not pointings:
        return []
    outside = repo.engine.outside_skymap(repo.butler(), repo.settings.skymap, pointings)
    return sorted({n for n, out in zip(numbers, outside) if out})


def science_pointings(exposures: Table) -> tuple[list[int], list[tuple[float, float]]]:
    """Return the numbers and positions (deg) of the science exposures of a table that have a position.

    Raises
    ------
    SurveyError
        If the table has no columns of positions.
    """
    missing = [c for c in ("RA(deg)", "DEC(deg)") if c not in exposures.colnames]
    if missing:
        raise SurveyError(
            f"the exposure table has no column {', '.join(missing)}",
            "RA(deg) and DEC(deg)",
            "write it again with `proc-decam exposures`",
        )
    ra, dec = (np.ma.filled(np.ma.asarray(exposures[c], float), np.nan) for c in ("RA(deg)", "DEC(deg)"))
    keep = np.isfinite(ra) & np.isfinite(dec)
    if "obs_type" in exposures.colnames:
        keep &= np.asarray(exposures["obs_type"]).astype(str) == "object"
    numbers = [int(n) for n in exposures["EXPNUM"][keep]]
    return numbers, list(zip(ra[keep].tolist(), dec[keep].tolist()))

"""What processing would take, before anything is run: the same as `proc-decam plan`, as an asset to look at."""

import dagster as dg
from pydantic import Field

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.presentation import data_version, headings, markdown_table
from proc_decam_dagster.assets.survey import GROUP, exposures
from proc_decam_dagster.resources import ButlerRepository, Survey
from proc_decam_dagster.survey.proc_types import PROC_TYPES, TEMPLATE_TYPES

SHOWN = 200
COLUMNS = (
    "chain", "exposures", "frames", "done", "failed", "excluded", "to_do", "fetch_gb", "write_gb", "core_hours",
)  # fmt: skip


class PlanConfig(dg.Config):
    """What is to be planned."""

    nights: str = Field(default=".*", description="Nights, as a regular expression: 2019.*")
    proc_types: list[str] = Field(default=["bias", "flat", "drp"], description=f"Some of {', '.join(PROC_TYPES)}")
    coadd_subset: str = Field(default="", description="Coadd subset, of coadd and diff_drp")
    template_types: list[str] = Field(default=[], description=f"Some of {', '.join(TEMPLATE_TYPES)}")


@survey_asset(group_name=GROUP, kinds={"table"}, deps=[exposures])
def plan(
    context: dg.AssetExecutionContext, config: PlanConfig, survey: Survey, repository: ButlerRepository
) -> dg.MaterializeResult:
    """What processing would take: GB to fetch and to write, core-hours, calibrations that lack, what would be skipped.

    Changes nothing. Its launch form chooses the nights and proc types; time and size are judged by what the repository
    has processed so far.
    """
    from proc_decam_dagster.archive import downloaded_md5s
    from proc_decam_dagster.execution import make_plan
    from proc_decam_dagster.survey.exposures import nights_of, read_exposures
    from proc_decam_dagster.survey.nights import matching_nights

    table = read_exposures(survey.exposures_file)
    made = make_plan(
        table, matching_nights(config.nights, nights_of(table)), config.proc_types,
        repository=repository.open() if repository.exists() else None,
        verified=downloaded_md5s(survey.images, survey.exposures_file),
        coadds=[(config.coadd_subset, t) for t in config.template_types],
    )  # fmt: skip
    plain = made.to_dict()
    rows = [tuple(_figure(chain[c]) for c in COLUMNS) for chain in plain["chains"][:SHOWN]]
    sums = {name: _figure(made.total(name)) for name in ("to_do", "fetch_gb", "write_gb", "core_hours")}
    lacks = [(c.night, text) for c in made.chains for text in c.lacks]
    why = [(c.chain, text) for c in made.chains for text in c.why]
    return dg.MaterializeResult(
        metadata=sums | {
            "chains": markdown_table(headings(COLUMNS), rows),
            "lacks": markdown_table(("night", "calibration"), lacks[:SHOWN]),
            "skipped": markdown_table(("chain", "why"), why[:SHOWN]),
            "unknown": ", ".join(made.unknown) or "none",
            "plan": dg.MetadataValue.json(plain["costs"]),
        },
        data_version=data_version(plain["chains"]),
    )  # fmt: skip


def _figure(value: object) -> object:
    """Return a figure as people read it; ``?`` where it is unknown."""
    if value is None or value != value:
        return "?"
    return round(value, 2) if isinstance(value, float) else value


ASSETS = [plan]

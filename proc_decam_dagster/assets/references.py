"""What the reductions refer to: curated calibrations, skymap, defects, reference catalogues, fakes."""

import hashlib
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.assets.lineage import dependency
from proc_decam_dagster.assets.presentation import data_version, markdown_table, picture
from proc_decam_dagster.resources import ArchiveClient, ButlerRepository, Survey

GROUP = "references"


@survey_asset(group_name=GROUP, kinds={"butler"})
def curated_calibs(repository: ButlerRepository) -> dg.MaterializeResult:
    """The Butler repository with its instrument and curated calibrations (`DECam/calib`)."""
    repo = repository.ensure()
    return dg.MaterializeResult(
        metadata={"repository": dg.MetadataValue.path(str(repo.root)), "engine": repo.engine.name},
        data_version=data_version([repo.engine.name]),
    )


@survey_asset(group_name=GROUP, kinds={"butler"}, deps=[dependency("exposures", "skymap")])
def skymap(survey: Survey, repository: ButlerRepository) -> dg.MaterializeResult:
    """A discrete skymap that fits the survey's footprint; once there, a skymap never changes."""
    from proc_decam_dagster.repository import add_discrete_skymap, exposures_outside_skymap
    from proc_decam_dagster.survey.exposures import read_exposures

    repo = repository.ensure()
    table = read_exposures(survey.exposures_file)
    name = repo.settings.skymap if repo.settings.skymap_fits else add_discrete_skymap(repo, table)
    outside = exposures_outside_skymap(repo, table)
    return dg.MaterializeResult(
        metadata={
            "skymap": name,
            "exposures_outside": len(outside),
            "outside": markdown_table(("exposure",), [(e,) for e in outside[:50]]),
        },
        data_version=data_version([name]),
    )


class Masks(dg.Config):
    """Which bad-pixel masks are taken."""

    detectors: list[int] = Field(default=[], description="Only these CCDs, such as `[25, 31]`; all 62 if empty")


@survey_asset(group_name=GROUP, kinds={"fits"})
def defects(
    config: Masks, survey: Survey, archive: ArchiveClient, repository: ButlerRepository
) -> dg.MaterializeResult:
    """Bad and suspect pixels from the Community-Pipeline and DES masks, as boxes (`DECam/calib_bpm`)."""
    from proc_decam_dagster.archive import fetch_masks
    from proc_decam_dagster.repository import ingest_defects

    fetch_masks(survey.masks, base_url=archive.mask_url or None)
    report = ingest_defects(repository.ensure(), survey.masks, detectors=config.detectors or None)
    return dg.MaterializeResult(metadata=report.as_dict(), data_version=data_version(report.as_dict().items()))


class Catalogues(dg.Config):
    """Where reference catalogues are from."""

    source: Literal["shards", "tap"] = Field(
        default="shards", description="`shards` that are ready on a site, or made from public `tap` services"
    )
    tap_urls: dict[str, str] = Field(
        default={}, description="Other TAP services, by catalogue (`gaia_dr3`, `ps1`); Data Lab's and MAST's if empty"
    )
    tap_tables: dict[str, str] = Field(default={}, description="Other names of the tables there, by catalogue")


@survey_asset(group_name=GROUP, kinds={"fits"}, deps=[dependency("exposures", "refcats")])
def refcats(
    config: Catalogues, survey: Survey, archive: ArchiveClient, repository: ButlerRepository
) -> dg.MaterializeResult:
    """Reference catalogues of the survey's footprint as htm7 shards (`refcats`), and a map of what is there."""
    from proc_decam_dagster.archive import fetch_refcats, make_shards, shards_for
    from proc_decam_dagster.archive.shard_maker import SOURCES
    from proc_decam_dagster.report import coverage_map
    from proc_decam_dagster.report.sky import COVERAGE_NAME
    from proc_decam_dagster.repository import ingest_refcats
    from proc_decam_dagster.survey.datasets import REFCATS
    from proc_decam_dagster.survey.exposures import read_exposures

    table = read_exposures(survey.exposures_file)
    if config.source == "tap":
        other = [{REFCATS.get(k, k): v for k, v in given.items()} for given in (config.tap_urls, config.tap_tables)]
        shards = make_shards(table, survey.refcats, urls=other[0], tables=other[1])
    else:
        shards = fetch_refcats(table, survey.refcats, base_url=archive.refcat_url or None)
    ingest_refcats(repository.ensure(), shards)
    wanted = set(shards_for(table))
    expected = SOURCES if config.source == "tap" else shards
    present = {name: {int(path.stem) for path in shards.get(name, ())} for name in expected}
    coverage = coverage_map(table, wanted, present)
    (survey.folder / COVERAGE_NAME).write_bytes(coverage)
    counts = [(name, len(there), len(wanted - there)) for name, there in present.items()]
    return dg.MaterializeResult(
        metadata={
            "shards": sum(there for _, there, _ in counts),
            "catalogues": markdown_table(("catalogue", "shards", "missing in the footprint"), counts),
            "coverage": picture(coverage, "trixels of the footprint by catalogue"),
        },
        data_version=data_version(sorted(str(path) for paths in shards.values() for path in paths)),
    )


@survey_asset(group_name=GROUP, kinds={"table"})
def fakes(survey: Survey, repository: ButlerRepository) -> dg.MaterializeResult:
    """Synthetic sources to inject, by EXPNUM; none where the survey names no table."""
    from proc_decam_dagster.repository import ingest_fakes

    if not survey.fakes:
        return dg.MaterializeResult(metadata={"fakes": 0, "note": "no table of fakes is configured (PROC_DECAM_FAKES)"})
    counts = ingest_fakes(repository.ensure(), survey.fakes)
    return dg.MaterializeResult(
        metadata={"fakes": sum(counts.values()), "by_band": markdown_table(("band", "fakes"), counts.items())},
        data_version=data_version([hashlib.sha256(Path(survey.fakes).read_bytes()).hexdigest()]),
    )


ASSETS = [curated_calibs, skymap, defects, refcats, fakes]

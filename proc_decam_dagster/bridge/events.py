"""Work done from a terminal, told to Dagster: it shows as materialisations, what failed as observations."""

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from proc_decam_dagster.execution import PipelineReport
    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)


def tell_dagster(repository: "Repository", report: "PipelineReport", lacks: str = "") -> bool:
    """Report a chain that was processed from a terminal to the survey's Dagster instance; return whether it was told.

    The instance is that of ``DAGSTER_HOME``, and only if it looks after this repository (``PROC_DECAM_REPO``). One
    that cannot be reached is warned of: the work is done all the same. ``lacks`` says why the chain is not complete
    although the report is good, such as a query that selected some of its data.
    """
    if not os.environ.get("DAGSTER_HOME") or not report.steps:
        return False
    import dagster as dg

    from proc_decam_dagster.resources import ButlerRepository

    try:
        if ButlerRepository.from_environment().path.resolve() != Path(repository.root).resolve():
            log.info("%s is not the repository of the Dagster instance (PROC_DECAM_REPO): not told", report.chain)
            return False
        with dg.DagsterInstance.get() as instance:
            for event in events(instance, repository, report, lacks):
                instance.report_runless_asset_event(event)
    except Exception as error:  # whatever is wrong with the instance, the data are there
        log.warning("%s was processed, but Dagster could not be told: %s", report.chain, " ".join(str(error).split()))
        return False
    return True


def events(
    instance: "dg.DagsterInstance", repository: "Repository", report: "PipelineReport", lacks: str = ""
) -> "list[dg.AssetMaterialization | dg.AssetObservation]":
    """Return what there is to tell of a processed chain; its partitions are registered where they are not known."""
    import dagster as dg

    from proc_decam_dagster.assets.lineage import ASSET_OF_PROC_TYPE, asset_key
    from proc_decam_dagster.assets.presentation import report_metadata, versions_of
    from proc_decam_dagster.locks import user_name
    from proc_decam_dagster.partitions import add_coadd_subset, add_nights, cell
    from proc_decam_dagster.repository import coadd_nights
    from proc_decam_dagster.survey.collections import parse_chain

    parts = parse_chain(report.chain)
    if parts.subset:
        add_nights(instance, [parts.subset])
    if parts.coadd_subset:
        add_coadd_subset(instance, parts.coadd_subset)
    partition = parts.subset or parts.coadd_subset
    if parts.subset and parts.coadd_subset:
        partition = cell(parts.subset, parts.coadd_subset)
    key = asset_key(ASSET_OF_PROC_TYPE[parts.proc_type], parts.template_type)
    metadata = {"made_from": f"a terminal, by {user_name()} on {socket.gethostname()}", **report_metadata(report)}
    if lacks or not report.ok:
        why = report.why_not or lacks
        return [dg.AssetObservation(key, partition=partition, metadata={"incomplete": why, **metadata})]
    tags = {"dagster/data_version": versions_of(repository, report.chain).value}
    told = [dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)]
    if parts.proc_type == "coadd":
        inputs = asset_key("coadd_inputs", parts.template_type)
        told[:0] = [
            dg.AssetMaterialization(inputs, partition=cell(night, parts.coadd_subset), metadata={"night": night})
            for night in coadd_nights(repository, parts.coadd_subset, parts.template_type)
        ]
    return told

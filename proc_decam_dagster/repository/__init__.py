"""The Butler repository of a survey: create, ingest, visits, chains, certify; whichever engine it was made with."""

from proc_decam_dagster.repository.association import associate, associate_coadd_inputs, coadd_nights
from proc_decam_dagster.repository.certify import CertifyReport, certify_calibrations, decertify
from proc_decam_dagster.repository.chains import update_chain
from proc_decam_dagster.repository.cleanup import bring_back, empty_trash, find_rubbish, remove, trash
from proc_decam_dagster.repository.create import create_repository, ensure_repository
from proc_decam_dagster.repository.defects import DefectsReport, ingest_defects
from proc_decam_dagster.repository.exclusions import exclude, exclusion_terms, exclusions, include
from proc_decam_dagster.repository.fakes import ingest_fakes
from proc_decam_dagster.repository.raws import IngestReport, ingest_raws, tag_raws
from proc_decam_dagster.repository.refcats import ingest_refcats
from proc_decam_dagster.repository.repository import Repository, open_repository
from proc_decam_dagster.repository.skymap import add_discrete_skymap, exposures_outside_skymap, skymap_where
from proc_decam_dagster.repository.staleness import find_stale
from proc_decam_dagster.repository.takeover import Takeover, take_over
from proc_decam_dagster.repository.visits import define_visits

__all__ = [
    "CertifyReport",
    "DefectsReport",
    "IngestReport",
    "Repository",
    "Takeover",
    "add_discrete_skymap",
    "associate",
    "associate_coadd_inputs",
    "bring_back",
    "certify_calibrations",
    "coadd_nights",
    "create_repository",
    "decertify",
    "define_visits",
    "empty_trash",
    "ensure_repository",
    "exclude",
    "exclusion_terms",
    "exclusions",
    "exposures_outside_skymap",
    "find_rubbish",
    "find_stale",
    "include",
    "ingest_defects",
    "ingest_fakes",
    "ingest_raws",
    "ingest_refcats",
    "open_repository",
    "remove",
    "skymap_where",
    "tag_raws",
    "take_over",
    "trash",
    "update_chain",
]

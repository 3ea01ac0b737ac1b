"""Dagster at work on a copy of the sample survey, and a browser in front of it."""

import shutil

import dagster as dg
import pytest
from dagster_page import DagsterPage, browsing, chromium
from dagster_services import Services
from sample_survey import Sample

from proc_decam_dagster.assets.pages import GROUP as PAGES
from proc_decam_dagster.definitions import defs
from proc_decam_dagster.partitions import (
    COADD_SUBSETS,
    NIGHTS,
    NIGHTS_BY_SUBSET,
    add_coadd_subset,
    add_nights,
    cell,
)  # fmt: skip
from proc_decam_dagster.survey.proc_types import TEMPLATE_TYPES

COADD_SUBSET, TEMPLATE_TYPE = "2019", "meanclip"


@pytest.fixture(scope="module")
def survey(request, tmp_path_factory) -> Sample:
    """The sample survey with a repository of its own, in which the last night's flat is yet to be made.

    One of that night's zeros came late: nothing is there that was made of it.
    """
    chromium()  # nothing is processed in vain
    sample: Sample = request.getfixturevalue("sample")
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(sample.repository, folder / "repo")
    variables = {
        **sample.environment, "PROC_DECAM_REPO": str(folder / "repo"), "PROC_DECAM_DATA": str(sample.folder / "data"),
        "J": "2",
    }  # fmt: skip
    copy = Sample(folder, variables, sample.nights)
    forget(copy, copy.nights[-1], "flat")
    forget_a_zero(copy, copy.nights[-1])
    return copy


def forget(survey: Sample, night: str, proc_type: str) -> None:
    """Delete what a night's chain wrote."""
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.chains import runs_of
    from proc_decam_dagster.survey.proc_types import PROC_TYPES

    repository = open_repository(survey.repository)
    butler, chain = repository.butler(writeable=True), PROC_TYPES[proc_type].chain(night)
    runs = [run for run in runs_of(butler, chain) if run.startswith(f"{chain}/")]
    butler.collections.remove_from_chain(chain, runs)
    butler.removeRuns(runs)
    repository.close()


def forget_a_zero(survey: Sample, night: str) -> None:
    """Delete what a night's bias has of one zero."""
    from proc_decam_dagster.repository import open_repository
    from proc_decam_dagster.repository.queries import find_refs

    repository = open_repository(survey.repository)
    made = find_refs(repository, "cpBiasIsr_metadata", f"{night}/bias")
    late = [ref for ref in made if ref.dataId["exposure"] == made[0].dataId["exposure"]]
    repository.butler(writeable=True).pruneDatasets(late, purge=True, unstore=True, disassociate=True)
    repository.close()


def report_what_is_there(instance: dg.DagsterInstance, nights: list[str]) -> None:
    """Tell Dagster what the commands have made, as a person does with "Report materialization events"."""
    partitions = {
        NIGHTS: nights, COADD_SUBSETS: [COADD_SUBSET], NIGHTS_BY_SUBSET: [cell(n, COADD_SUBSET) for n in nights],
    }  # fmt: skip
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        made = key.path[0] not in TEMPLATE_TYPES or key.path[0] == TEMPLATE_TYPE
        if made and graph.get(key).group_name != PAGES:
            for partition in partitions.get(graph.get(key).partitions_def, [None]):
                instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


@pytest.fixture(scope="module")
def services(survey) -> Services:
    """The code server, the daemon and the web server, on an instance that knows all but the survey's last night."""
    made = Services(survey.folder / "home", survey.environment)
    with made.instance() as instance:
        add_nights(instance, survey.nights[:-1])
        add_coadd_subset(instance, COADD_SUBSET)
        report_what_is_there(instance, survey.nights[:-1])
    try:
        made.start("code", "web", "daemon")
        assert made.load_error() == ""
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def instance(services) -> dg.DagsterInstance:
    """What the processes share."""
    with services.instance() as made:
        yield made


@pytest.fixture(scope="module")
def ui(services, tmp_path_factory) -> DagsterPage:
    """A browser."""
    with browsing(services.url, tmp_path_factory.mktemp("profile")) as page:
        yield page

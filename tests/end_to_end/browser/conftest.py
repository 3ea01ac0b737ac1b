"""Dagster at work on a copy of the sample survey, and a browser in front of it."""

import shutil

import dagster as dg
import pytest
from dagster_page import DagsterPage, browsing, chromium
from dagster_services import Services
from sample_survey import Sample

from proc_decam_dagster.partitions import add_coadd_subset, add_nights

COADD_SUBSET = "2019"


@pytest.fixture(scope="package")
def survey(request, tmp_path_factory) -> Sample:
    """The sample survey with a repository of its own, in which the last night's flat is yet to be made."""
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


@pytest.fixture(scope="package")
def services(survey) -> Services:
    """The code server, the daemon and the web server, on an instance that knows the survey's partitions."""
    made = Services(survey.folder / "home", survey.environment)
    with made.instance() as instance:
        add_nights(instance, survey.nights)
        add_coadd_subset(instance, COADD_SUBSET)
    try:
        made.start("code", "daemon", "web")
        assert made.load_error() == ""
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="package")
def instance(services) -> dg.DagsterInstance:
    """What the processes share."""
    with services.instance() as made:
        yield made


@pytest.fixture(scope="package")
def ui(services, tmp_path_factory) -> DagsterPage:
    """A browser."""
    with browsing(services.url, tmp_path_factory.mktemp("profile")) as page:
        yield page

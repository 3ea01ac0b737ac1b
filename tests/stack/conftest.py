"""What runs beside an installed stack: skipped elsewhere, with what was found there as the reason."""

import pytest

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.repository.science_pipelines.release import require_release


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the marked tests where no supported stack is set up."""
    marked = [item for item in items if item.get_closest_marker("stack")]
    if not marked:
        return
    try:
        require_release()
    except SurveyError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture(scope="session")
def survey(tmp_path_factory):
    """A simulated night of one CCD: raw files of the real format and full size, and their exposure table."""
    from proc_decam_dagster.archive import Archive, query_exposures
    from proc_decam_dagster.simulation.server import ArchiveServer
    from proc_decam_dagster.simulation.survey import simulate_survey

    folder = simulate_survey(
        tmp_path_factory.mktemp("survey"), detectors=(25,), template_nights=1, science_nights=1, exposures_per_night=1,
        zeros=3, flats=3, band="VR",
    )  # fmt: skip
    images = tmp_path_factory.mktemp("data") / "images"
    images.mkdir()
    with ArchiveServer(folder) as server:
        archive = Archive(server.url)
        table, _ = query_exposures(archive, ["2019A-0337"])
        raws = table[table["proc_type"] == "raw"]
        for row in raws:
            archive.retrieve(row["md5sum"], images / f"{row['md5sum']}_{row['archive_filename'].split('/')[-1]}")
    return raws, images


@pytest.fixture(scope="session")
def repository(survey, tmp_path_factory):
    """A repository made with the stack, with the survey's raws ingested."""
    from proc_decam_dagster.repository import create_repository, ingest_raws

    table, images = survey
    made = create_repository(tmp_path_factory.mktemp("stack") / "repo", engine="science-pipelines", exposures=table)
    report = ingest_raws(made, table, images)
    report.raise_on_failure()
    yield made
    made.close()

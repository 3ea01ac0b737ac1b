"""The sample survey: simulated and served once, processed once by the command lines, shared by these tests."""

import os
import shutil

import pytest
from sample_survey import COMMANDS, SECOND_DIFFERENCE, SECOND_NIGHT, SKY, Sample


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The simulated survey behind the archive server; nothing downloaded yet."""
    from proc_decam_dagster.simulation.server import ArchiveServer
    from proc_decam_dagster.simulation.survey import simulate_survey

    folder = tmp_path_factory.mktemp("survey")
    simulate_survey(
        folder / "archive", seed=7, detectors=(1,), sky=SKY, template_nights=1, science_nights=1,
        exposures_per_night=3, zeros=5, flats=5, jobs=os.cpu_count() or 1,
    )  # fmt: skip
    (folder / "path" / "to").mkdir(parents=True)
    shutil.copy(folder / "archive" / "fakes.fits", folder / "path" / "to" / "fakes.fits")
    with ArchiveServer(folder / "archive") as server:
        masks = folder / "data" / "bpm"
        shutil.copytree(folder / "archive" / "bpm", masks)
        yield Sample(
            folder,
            {
                "PROC_DECAM_ARCHIVE_URL": server.url,
                "PROC_DECAM_REFCAT_URL": server.refcats_url,
                "PROC_DECAM_BPM_URL": server.masks_url,
                "OMP_NUM_THREADS": "1",
                "NUMBA_NUM_THREADS": "1",
            },
        )


@pytest.fixture(scope="session")
def sample(served) -> Sample:
    """The survey, processed by the command lines from its proposal id to difference images."""
    for line in COMMANDS:
        served.done[line] = served.run(line)
        if line.endswith("exposures.ecsv --download-dir ./data/images"):
            from proc_decam_dagster.survey.exposures import nights_of, read_exposures

            served.nights = nights_of(read_exposures(served.folder / "data" / "exposures.ecsv"))
    for line in (SECOND_NIGHT, SECOND_DIFFERENCE):
        line = line.format(night=served.nights[-1])
        served.done[line] = served.run(line)
    return served

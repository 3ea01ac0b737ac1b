"""What a failed test leaves running is ended: workflows outlive the programs that submit them."""

import pytest

from proc_decam_dagster.execution.bps import unfinished


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    """End the workflows that are still on record after a test."""
    repository = request.getfixturevalue("repository") if "repository" in request.fixturenames else None
    yield
    for workflow in unfinished(repository.state_dir) if repository else ():
        workflow.cancel()

"""What Dagster loads. `build_definitions` takes overrides, so that tests and the demo bring their own resources."""

from typing import Any

import dagster as dg

from proc_decam_dagster import checks, sensors
from proc_decam_dagster.assets import calibrations, differences, plan, references, science, survey, templates
from proc_decam_dagster.resources import ArchiveClient, ButlerRepository, Execution, Limits, Survey


def build_definitions(**resources: Any) -> dg.Definitions:
    """Return the code location's definitions.

    Parameters
    ----------
    **resources
        Resources by name (``survey``, ``repository``, ``archive``, ``execution``, ``limits``) that replace those
        configured by the environment.
    """
    configured = {
        "survey": Survey.from_environment(),
        "repository": ButlerRepository.from_environment(),
        "archive": ArchiveClient.from_environment(),
        "execution": Execution.from_environment(),
        "limits": Limits.from_environment(),
    }
    return dg.Definitions(
        assets=[
            *survey.ASSETS, *plan.ASSETS, *references.ASSETS, *calibrations.ASSETS,
            *science.ASSETS, *templates.ASSETS, *differences.ASSETS,
        ],
        asset_checks=checks.CHECKS,
        sensors=sensors.SENSORS,
        resources=configured | resources,
        # One process a run: its steps share warm workers, and the cores are theirs.
        executor=dg.in_process_executor,
    )  # fmt: skip


defs = build_definitions()

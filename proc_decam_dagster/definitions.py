"""What Dagster loads. `build_definitions` takes overrides, so that tests and the demo bring their own resources."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from proc_decam_dagster import checks, schedules, sensors
from proc_decam_dagster.assets import calibrations, differences, pages, plan, references, science, survey, templates
from proc_decam_dagster.assets.pods import executor
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
    stages = (survey, plan, references, calibrations, science, templates, differences, pages)
    return dg.Definitions(
        assets=with_links_to_code([asset for stage in stages for asset in stage.ASSETS]),
        asset_checks=checks.CHECKS,
        sensors=sensors.SENSORS,
        schedules=schedules.SCHEDULES,
        jobs=schedules.JOBS,
        resources=configured | resources,
        executor=executor(),
    )


def with_links_to_code(assets: Sequence[dg.AssetsDefinition]) -> Sequence[dg.AssetsDefinition]:
    """Return assets whose pages lead to their code in a git host, if ``PROC_DECAM_GIT_URL`` names one.

    Else they lead to the files on disk. ``PROC_DECAM_GIT_REVISION`` is the branch, tag or commit (``main``).
    """
    url = os.environ.get("PROC_DECAM_GIT_URL", "").removesuffix(".git").rstrip("/")
    if not url:
        return assets
    here = Path(__file__)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.link_code_references_to_git(
            assets, url, os.environ.get("PROC_DECAM_GIT_REVISION", "main"),
            dg.AnchorBasedFilePathMapping(here, f"{here.parent.name}/{here.name}"),
            platform="gitlab" if "gitlab" in url else "github",
        )  # fmt: skip


defs = build_definitions()

"""What the sensors share: a page that says what they do, and mistakes told in one line."""

import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg

from proc_decam_dagster.assets.asset import told_in_one_line


def survey_sensor(make: Callable = dg.sensor, **options: Any) -> Callable[[Callable], dg.SensorDefinition]:
    """Return a decorator of Dagster's with what the survey's sensors share; their docstring is what a page says."""

    def decorate(evaluate: Callable) -> dg.SensorDefinition:
        # Dagster takes the docstrings of assets and checks, but not those of sensors; a page shows them without markup.
        what = inspect.getdoc(evaluate).replace("`", "")
        return make(description=what, **options)(told_in_one_line()(evaluate))

    return decorate

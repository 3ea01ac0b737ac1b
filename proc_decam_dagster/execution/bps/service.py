"""Parsl's service of BPS, whose workers start their jobs without the middleware.

The plug-in's function lives in a package that imports the middleware, and so does a worker that is handed it: a second
or more before each worker's first job, which imports the middleware in a process of its own anyway.
"""

from functools import partial
from typing import Any

from lsst.ctrl.bps import BaseWmsWorkflow, BpsConfig, GenericWorkflow
from lsst.ctrl.bps.parsl import ParslJob, ParslService
from parsl.app.bash import BashApp

from proc_decam_dagster.execution.bps.shell import command_line


class _Job(ParslJob):
    """A job whose function says nothing but its command line."""

    def get_future(self, app: BashApp, *args: Any, **kwargs: Any) -> Any:
        def light(named: Any) -> Any:
            function = partial(command_line)
            function.__name__ = named.__name__
            return app(function)

        return super().get_future(light, *args, **kwargs)


class LightParsl(ParslService):
    """The plug-in's service with such jobs."""

    def prepare(
        self, config: BpsConfig, generic_workflow: GenericWorkflow, out_prefix: str | None = None
    ) -> BaseWmsWorkflow:
        workflow = super().prepare(config, generic_workflow, out_prefix)
        workflow.jobs = {name: _Job(j.generic, j.config, j.file_paths) for name, j in workflow.jobs.items()}
        return workflow

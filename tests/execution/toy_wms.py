"""A workload management system as BPS knows them, which runs jobs after `submit` has returned: a shell script."""

import os
import shlex
import subprocess
from pathlib import Path

from lsst.ctrl.bps import BaseWmsService, BaseWmsWorkflow, WmsStates


class ToyWorkflow(BaseWmsWorkflow):
    """The jobs as lines of a script, in the order of their dependencies."""

    def __init__(self, name, config, script):
        super().__init__(name, config)
        self.script = script

    def write(self, out_prefix):
        pass


class ToyService(BaseWmsService):
    """Runs a workflow's script; its id is the script's path. The first time that it is asked it does not answer."""

    def prepare(self, config, generic_workflow, out_prefix=None):
        lines = []
        for name in generic_workflow:
            job = generic_workflow.get_job(name)
            arguments = job.arguments.format(**job.cmdvals)
            for file in generic_workflow.get_job_inputs(name):
                arguments = arguments.replace(f"<FILE:{file.name}>", file.src_uri)
            lines.append(f"{job.executable.src_uri} {arguments}")
        script = Path(out_prefix) / "jobs.sh"
        script.write_text("\n".join([*lines, f"touch {shlex.quote(str(script))}.done"]) + "\n")
        return ToyWorkflow(generic_workflow.name, config, script)

    def submit(self, workflow, **kwargs):
        subprocess.Popen(["bash", str(workflow.script)], start_new_session=True, stdout=subprocess.DEVNULL)
        workflow.run_id = str(workflow.script)

    def get_status(self, wms_workflow_id=None, hist=1, is_global=False):
        asked = Path(f"{wms_workflow_id}.asked")
        if not asked.exists():
            asked.touch()
            raise ConnectionError("no answer")
        done = os.path.exists(f"{wms_workflow_id}.done")
        return (WmsStates.SUCCEEDED if done else WmsStates.RUNNING), ""

    def run_submission_checks(self):
        pass

"""Parsl's interchange, between the process of a workflow and its workers, which ends with that process.

Parsl's own outlives one that was killed, and hides by the title that it takes which workflow it belonged to.
"""

import runpy

from proc_decam_dagster.interrupts import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__")

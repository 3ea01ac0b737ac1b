"""A driver in a process of its own, to be killed: one step of a toy repository, its report as JSON."""

import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from toy.repository import ToyRepository

from proc_decam_dagster.execution import run_step
from proc_decam_dagster.execution.bps import Bps

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    given = json.loads(sys.argv[1])
    report = run_step(
        ToyRepository(given["root"]), "bias", "20190401", given["step"], pipeline=given["pipeline"],
        config=given["config"], backend=Bps(given["site"]),
    )  # fmt: skip
    print(json.dumps(report.to_dict()))

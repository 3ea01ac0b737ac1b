"""Memory that is freed serves the next arrays, and is given back when it is asked for."""

import json
import subprocess
import sys

PROGRAM = """
import json, resource
import numpy as np
from proc_decam_dagster.execution import heap
from proc_decam_dagster.execution.worker import resident_mb

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def images():
    before = faults()
    for _ in range(5):
        np.ones((2160, 4096), np.float32)
    return faults() - before

plain = images()
heap.keep_freed()
images()
told = {"plain": plain, "kept": images(), "resident": resident_mb()}
heap.give_back()
print(json.dumps(told | {"after": resident_mb()}))
"""


def test_freed_images_are_kept_until_they_are_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["plain"] > 50 and told["kept"] < 0.1 * told["plain"]
    assert told["resident"] - told["after"] > 30

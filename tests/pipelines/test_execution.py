"""The calibration pipelines run: generated tasks, the real middleware, worker processes, certification."""

import json
import os
import subprocess
import sys

import yaml
from contract.night import DETECTORS, storage_classes


def test_bias_then_flat(stack, tmp_path):
    defaults = tmp_path / "butler"
    defaults.mkdir()
    (defaults / "storageClasses.yaml").write_text(yaml.safe_dump({"storageClasses": storage_classes()}))
    done = subprocess.run(
        [sys.executable, "-m", "contract.night", tmp_path / "repo"],
        env=os.environ | {"DAF_BUTLER_CONFIG_PATH": str(defaults)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["failures"] == []
    flat = {
        "isrForCrosstalkSources": 10, "cpFlatIsr": 10, "cpFlatMeasure": 10, "cpFlatNormalize": 1, "cpFlatCombine": 2,
    }  # fmt: skip
    print(json.dumps(found,indent=1))
    assert found["succeeded"] == [{"cpBiasIsr": 10, "cpBiasCombine": 2}, flat, dict.fromkeys(flat, 0)]
    # the bias came through its certification, crosstalk through the overscan-corrected frames of all detectors
    assert {"bias", "ccdExposure", "crosstalk", "crosstalkSources"} <= set(found["read"])
    assert found["certified"] == list(DETECTORS)

"""All pipelines run: generated tasks, the real middleware, worker processes, certification, coadds, differences."""

import json
import os
import subprocess
import sys

import yaml
from contract.night import DETECTORS, storage_classes

FLAT = {"isrForCrosstalkSources": 10, "cpFlatIsr": 10, "cpFlatMeasure": 10, "cpFlatNormalize": 1, "cpFlatCombine": 2}
VISITS, EXPOSURES = 3, 3 * len(DETECTORS)
DRP = {
    "isrForCrosstalkSources": EXPOSURES, "isr": EXPOSURES, "applySuspect": EXPOSURES, "calibrateImage": EXPOSURES,
    "consolidatePreSourceTable": VISITS, "isolatedStarAssociation": 1, "updateVisitSummary": VISITS,
    "inject_exposure": EXPOSURES, "injected_calibrateImage": EXPOSURES, "consolidateSourceTable": VISITS,
    "makeVisitTable": 1, "makeDirectWarp": VISITS, "makePsfMatchedWarp": VISITS,
}  # fmt: skip
DIFFERENCES = {
    "buildTemplate": EXPOSURES, "subtractImages": EXPOSURES, "detectAndMeasureDiaSources": EXPOSURES,
    "filterDiaSrcCat": EXPOSURES, "transformDiaSourceCat": EXPOSURES, "forcedPhotObjectDetector": EXPOSURES,
    "consolidateDiaSourceTable": VISITS, "drpAssociation": 1, "drpDiaCalculation": 1,
    "forcedPhotDiaObjectDetector": EXPOSURES,
}  # fmt: skip


def test_night_from_zeros_to_differences(stack, tmp_path):
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
    bias, flat, again, drp, coadd, clean, injected = found["succeeded"]
    assert bias == {"cpBiasIsr": 10, "cpBiasCombine": 2}
    assert flat == FLAT and again == dict.fromkeys(FLAT, 0)  # the second time all is there
    assert drp.items() >= DRP.items()
    assert (
        set(coadd.values()) == {1} and {"assembleCoadd", "transformObjectTable", "splitPrimaryObject"} <= coadd.keys()
    )
    assert clean == DIFFERENCES
    assert injected == {f"injected_{label}": n for label, n in DIFFERENCES.items()}
    # the bias came through its certification, crosstalk through the overscan-corrected frames of all detectors
    assert {"bias", "ccdExposure", "crosstalk", "crosstalkSources"} <= set(found["read"])
    assert found["certified"] == list(DETECTORS)
    # our own task ran, and what it marks is there with fakes and without
    assert found["planes"] == {"calexp": ["SUSPECT"], "injected_calexp": ["SUSPECT"]}

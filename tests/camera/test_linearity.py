"""The published linearity table: equal to the linearizers made of it, and physical."""

import numpy as np
import pytest

from proc_decam_dagster.camera.detectors import DETECTORS
from proc_decam_dagster.camera.linearity import linearity


@pytest.mark.parametrize(("number", "name"), [(1, "S29"), (28, "S4"), (35, "N4"), (48, "N17")])
def test_table_is_that_of_the_curated_linearizers(shared_data, number, name):
    from astropy.io import fits

    path = shared_data / "calibs" / "linearizer" / f"{name}.fits"
    published = fits.getdata(path, 2)["LOOKUP_VALUES"]
    for row, amplifier in enumerate("AB"):
        adu, correction = linearity(number)[amplifier]
        every = np.arange(int(adu[-1]))
        miss = np.interp(every, adu, correction) - published[row][: len(every)]
        assert (np.abs(miss) < np.maximum(0.7, 3e-4 * every)).all()


def test_every_live_amplifier_has_a_correction_that_keeps_signals_rising():
    assert {ccd for ccd in DETECTORS if not linearity(ccd)} == {61}
    for ccd in set(DETECTORS) - {61}:
        assert set(linearity(ccd)) == {"A", "B"}
        for adu, correction in linearity(ccd).values():
            assert (np.diff(adu + correction) > 0).all()
            # Towards saturation every amplifier answers with more than its share of the light, by a few per cent.
            high = (adu > 20000) & (adu < 45000)
            assert (correction[high] < 0).all()
            assert (np.abs(correction[high]) < 0.05 * adu[high]).all()

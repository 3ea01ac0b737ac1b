"""The fixed pattern of a CCD."""

import numpy as np
from astropy.io import fits

from proc_decam_dagster.simulation.ccd import BAD_CP, BAD_DES, SUSPECT, ccd, write_masks


def test_pattern_is_fixed_and_defects_are_in_it(tmp_path):
    pattern = ccd(5, 28, "r")
    assert np.median(pattern.flat) == np.float32(1).item() or abs(np.median(pattern.flat) - 1) < 2e-4
    bad = (pattern.defects & (BAD_CP | BAD_DES)) != 0
    assert 1e-4 < bad.mean() < 5e-3
    assert (pattern.flat < 0.5).sum() and bad[pattern.flat < 0.5].all()
    assert (pattern.hot > 0).sum() and bad[pattern.hot > 0].all()
    good = pattern.flat[~bad]
    assert 0.009 < good.std() < 0.03
    assert 0.3 < pattern.bias.std() < 5

    write_masks(tmp_path, 5, [28], "r")
    names = (tmp_path / "des" / "index.dat").read_text().split()
    assert len(names) == 62 and {p.name for p in (tmp_path / "des").glob("*.fits")} == set(names)
    assert not fits.getdata(tmp_path / "des" / names[0]).any()
    name = names[27]
    assert name == "D_n20150105t0115_c28_r2134p01_bpm.fits"
    des = fits.getdata(tmp_path / "des" / name)
    cp = fits.getdata(tmp_path / "cp" / "DECam_Master_20140209v2_cd_28.fits")
    assert fits.getheader(tmp_path / "des" / name, 1)["CCDNUM"] == 28
    np.testing.assert_array_equal((cp != 0) | ((des != 0) & (des != 512)), bad)
    assert (pattern.defects[des == 512] & SUSPECT).all() and (des == 512).any()

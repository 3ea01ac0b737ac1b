"""The folder of a simulated survey."""

import numpy as np
import pytest
from astropy.table import Table

from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.simulation.catalogue import trixels_of_circle
from proc_decam_dagster.simulation.scene import TRANSIENT, flux_for_snr, snr_of_flux, transient_fluxes
from proc_decam_dagster.simulation.survey import read_plan, simulate_survey


def test_everything_is_there(survey):
    for name in (
        "archive/files.ecsv", "fakes.fits", "bpm/cp/index.dat", "bpm/des/index.dat",
        "refcats/GAIA_DR3/gaia_dr3/index.dat", "refcats/ps1/ps1_pv3_3pi_20170110/index.dat",
        "truth/exposures.ecsv", "truth/bias_35.fits", "truth/flat_r_35.fits", "truth/defects_35.fits",
        "truth/stars.fits", "truth/galaxies.fits", "truth/transients.fits", "truth/transient_fluxes.ecsv",
        "truth/movers.ecsv", "truth/fakes.ecsv",
    ):  # fmt: skip
        assert (survey / name).is_file(), name
    plan, nights = read_plan(survey)
    assert plan.detectors == (35,) and [kind for _, kind in nights] == ["science"]
    shards = (survey / "refcats/ps1/ps1_pv3_3pi_20170110/index.dat").read_text().split()
    assert {f"{t}.fits" for t in trixels_of_circle(*plan.sky, 1.1)} <= set(shards)


def test_enough_transients_above_snr_10(survey):
    fluxes = Table.read(survey / "truth" / "transient_fluxes.ecsv", format="ascii.ecsv")
    assert len(fluxes) == 60
    assert (fluxes["clean"] & (fluxes["snr"] > 10)).sum() > 25
    assert 2 < fluxes["snr"].min() < 8 and fluxes["snr"].max() > 40
    hosts = Table.read(survey / "truth" / "transients.fits")["host_id"]
    assert 15 < (hosts == 0).sum() < 45
    assert len(Table.read(survey / "truth" / "movers.ecsv", format="ascii.ecsv")) > 5


def test_template_nights_have_no_transients():
    table = np.ones(3, TRANSIENT)
    assert (transient_fluxes(table, 58532.0, "template") == 0).all()
    assert (transient_fluxes(table, 58532.0, "science") > 0).all()


def test_fakes_are_for_injection(survey):
    fakes = Table.read(survey / "fakes.fits")
    truth = Table.read(survey / "truth" / "fakes.ecsv", format="ascii.ecsv")
    exposures = Table.read(survey / "truth" / "exposures.ecsv", format="ascii.ecsv")
    row = exposures[exposures["obs_type"] == "object"][0]
    assert fakes.colnames == ["RA", "DEC", "MAG", "BAND", "EXPNUM"] and len(fakes) == len(truth) == 25
    assert set(fakes["EXPNUM"]) == {row["EXPNUM"]} and set(map(str, fakes["BAND"])) == {"r"}
    np.testing.assert_allclose(fakes["MAG"], row["zero_point"] - 2.5 * np.log10(truth["flux_e"]))
    assert truth["snr"].min() > 9.9 and truth["snr"].max() < 50.1


def test_snr_and_flux_are_inverse():
    snr = np.array([5.0, 10.0, 60.0])
    np.testing.assert_allclose(snr_of_flux(flux_for_snr(snr, 50.0, 1500.0), 50.0, 1500.0), snr)


def test_rows_are_what_the_archive_gives(survey):
    files = Table.read(survey / "archive" / "files.ecsv", format="ascii.ecsv")
    assert sorted(files["obs_type"]) == ["dome flat", "object", "zero"]
    assert len(set(files["caldat"])) == 1
    assert all(f"{n}".startswith("/net/archive/mtn/") for n in files["archive_filename"])
    assert files["FILTER"][files["obs_type"] == "zero"][0] == "solid plate 0.0 0.0"


@pytest.mark.parametrize("wrong", [{"detectors": (63,)}, {"band": "K"}, {"sky": (10.0, 80.0)}])
def test_what_decam_cannot_observe_is_refused(tmp_path, wrong):
    with pytest.raises(SurveyError):
        simulate_survey(tmp_path / "none", **wrong)
    assert not (tmp_path / "none").exists()


def test_folder_without_a_survey(tmp_path):
    with pytest.raises(SurveyError, match="no simulated survey"):
        read_plan(tmp_path)


def test_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    with pytest.raises(SurveyError, match="GB free"):
        simulate_survey(tmp_path / "full")
    assert not any((tmp_path / "full").iterdir())

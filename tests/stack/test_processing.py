"""What only the real stack can tell: that it reads our raws, places them on the sky, and reduces them."""

import numpy as np
import pytest

pytestmark = pytest.mark.stack
DETECTOR = 25


@pytest.fixture
def science(survey):
    """Number, RA and Dec of a science exposure."""
    table = survey[0]
    row = table[table["obs_type"] == "object"][0]
    return int(row["EXPNUM"]), float(row["RA(deg)"]), float(row["DEC(deg)"]), str(row["night"])


def test_the_release_is_told():
    from proc_decam_dagster.repository.science_pipelines.release import SUPPORTED, find_release

    found = find_release()
    assert not found.missing
    assert found.releases in ({SUPPORTED}, set()), str(found)


def test_the_instrument_is_obs_decams(repository):
    butler = repository.butler()
    assert butler.query_dimension_records("instrument")[0].class_name == repository.engine.instrument_class
    assert butler.query_datasets("camera", "DECam/calib", find_first=False)
    assert butler.query_datasets("crosstalk", "DECam/calib", find_first=False, limit=None)
    assert repository.engine.write_curated_calibrations(repository.butler(writeable=True)) == 0


def test_a_raw_is_read_by_obs_decam(repository, science):
    raw = repository.butler().get(
        "raw", instrument="DECam", exposure=science[0], detector=DETECTOR, collections="DECam/raw/all"
    )
    assert raw.getDetector().getId() == DETECTOR
    assert (raw.getWidth(), raw.getHeight()) == (2160, 4146)
    assert raw.getInfo().getVisitInfo().getId() == science[0]


def test_visits_lie_where_the_table_says_and_inside_the_discrete_skymap(repository, science):
    from lsst.sphgeom import LonLat, UnitVector3d

    from proc_decam_dagster.repository import define_visits, exposures_outside_skymap

    number, ra, dec, night = science
    define_visits(repository, night)
    (visit,) = repository.butler().query_dimension_records("visit", instrument="DECam", visit=number)
    assert visit.region.contains(UnitVector3d(LonLat.fromDegrees(ra, dec)))
    assert exposures_outside_skymap(repository, repository.known_exposures()) == []
    with repository.butler().query() as query:
        patches = list(query.where(instrument="DECam", visit=number, skymap="discrete").data_ids(["visit", "patch"]))
    assert patches


def test_the_rings_of_the_whole_sky_are_those_of_obs_decam(repository):
    rings = repository.engine.rings_skymap()
    assert rings.kind == "rings" and len(rings.skymap) == 18938  # not registered: that takes minutes


def test_defects_and_fakes_come_back_as_the_stacks_own(repository, science, tmp_path):
    from astropy.table import Table

    from proc_decam_dagster.repository import ingest_fakes

    boxes = Table(rows=[(10, 20, 3, 4000), (500, 0, 1, 1)], names=("x0", "y0", "width", "height"))
    butler = repository.butler(writeable=True)
    (ref,) = repository.engine.put_defects(butler, "defects", {DETECTOR: boxes}, "test/bad")
    stored = butler.get(ref)
    assert sum(defect.getBBox().getArea() for defect in stored) == 12001
    back = repository.engine.read_defects(butler, ref)
    assert sorted(map(tuple, back.iterrows())) == sorted(map(tuple, boxes.iterrows()))
    number, ra, dec, _ = science
    Table(rows=[(ra, dec, 20.0, "VR", number)], names=("RA", "DEC", "MAG", "BAND", "EXPNUM")).write(tmp_path / "f.fits")
    assert ingest_fakes(repository, tmp_path / "f.fits") == {"VR": 1}
    assert butler.query_datasets("injection_catalog", "fakes")


def test_isr_runs_on_our_zeros(repository, survey):
    from proc_decam_dagster.execution import run_step
    from proc_decam_dagster.repository import tag_raws, update_chain

    table = survey[0]
    night = str(table["night"][table["obs_type"] == "zero"][0])
    zeros = tag_raws(repository, night, "bias")
    update_chain(repository, "bias", night)
    report = run_step(repository, "bias", night, "step1", where=f"detector={DETECTOR}", jobs=1)
    assert report.ok, [f.message for f in report.failures]
    assert sum(count.succeeded for count in report.tasks.values()) == zeros
    butler = repository.butler()
    refs = butler.query_datasets("cpBiasIsrExp", f"{night}/bias", limit=None)
    pixels = butler.get(refs[0]).image.array
    assert pixels.shape == (4096, 2048)
    # Overscan is taken off: what is left of a zero is noise around nothing.
    assert abs(np.median(pixels)) < 5 and np.std(pixels[1000:1100, 500:600]) < 20

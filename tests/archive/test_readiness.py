"""When a night's files are all there: verified, or known never to be had."""

import pytest
from archive.test_ledger import on_disk
from astropy.table import Table

from proc_decam_dagster.archive import final_outcome, known_files, night_files
from proc_decam_dagster.archive.ledger import Ledger
from proc_decam_dagster.archive.outcomes import FileResult, Outcome


@pytest.fixture
def table():
    """Two nights of two files each."""
    return Table(
        {
            "night": [20190401, 20190401, 20190402, 20190402], "EXPNUM": [1, 2, 3, 4],
            "md5sum": [c * 32 for c in "abcd"], "archive_filename": [f"/x/{i}.fits.fz" for i in range(4)],
        }
    )  # fmt: skip


def _stand(table, folder, **outcomes: Outcome):
    with Ledger(folder / "exposures.ledger.sqlite") as ledger:
        for letter, outcome in outcomes.items():
            if outcome is Outcome.VERIFIED:
                result = on_disk(folder, letter * 32)
            else:
                result = FileResult(folder / letter, letter * 32, outcome, until="2030-01-01")
            ledger.record([result])
    return night_files(table, known_files(folder, folder / "exposures.ecsv"), today="2026-01-01")


def test_all_verified_is_ready_and_half_is_not(table, tmp_path):
    nights = _stand(table, tmp_path, a=Outcome.VERIFIED, b=Outcome.VERIFIED, c=Outcome.VERIFIED)
    assert nights["20190401"].ready and not nights["20190402"].ready
    assert nights["20190402"].verified == {"c" * 32}


@pytest.mark.parametrize("outcome", [Outcome.NOT_FOUND, Outcome.ARCHIVE_INVALID, Outcome.PROPRIETARY])
def test_what_is_never_to_be_had_is_not_waited_for(table, tmp_path, outcome):
    night = _stand(table, tmp_path, a=Outcome.VERIFIED, b=outcome)["20190401"]
    assert night.ready and list(night.final.values()) == [outcome] and night.final_exposures == {2}


@pytest.mark.parametrize(
    "outcome", [Outcome.BROKE_OFF, Outcome.UNAVAILABLE, Outcome.AUTH_FAILED, Outcome.MD5_MISMATCH, Outcome.NOT_TRIED]
)
def test_what_another_try_may_bring_is_waited_for(table, tmp_path, outcome):
    assert not _stand(table, tmp_path, a=Outcome.VERIFIED, b=outcome)["20190401"].ready


def test_a_night_of_which_nothing_is_to_be_had_is_never_ready(table, tmp_path):
    assert not _stand(table, tmp_path, a=Outcome.NOT_FOUND, b=Outcome.NOT_FOUND)["20190401"].ready


def test_a_proprietary_file_is_waited_for_again_when_it_is_public():
    assert final_outcome(Outcome.PROPRIETARY, "2020-08-12", today="2020-08-11")
    assert not final_outcome(Outcome.PROPRIETARY, "2020-08-12", today="2020-08-12")
    assert final_outcome(Outcome.PROPRIETARY)


def test_every_outcome_is_judged():
    final = {o for o in Outcome if final_outcome(o)}
    assert final == {Outcome.NOT_FOUND, Outcome.ARCHIVE_INVALID, Outcome.PROPRIETARY}

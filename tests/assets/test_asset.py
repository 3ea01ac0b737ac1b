"""What every asset of the survey has: an owner, and mistakes told in one line with what to do next."""

import dagster as dg

from proc_decam_dagster.assets.asset import survey_asset
from proc_decam_dagster.errors import SurveyError


def test_a_mistake_is_told_in_one_line():
    @survey_asset()
    def broken(context: dg.AssetExecutionContext):
        raise SurveyError("no table", "a table", "proc-decam exposures")

    result = dg.materialize([broken], raise_on_error=False)
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert failure.user_failure_data.description == "no table; expected a table; proc-decam exposures"
    assert failure.user_failure_data.metadata["what to do next"].value == "proc-decam exposures"
    assert failure.error.cause is None
    assert broken.owners_by_key[broken.key]

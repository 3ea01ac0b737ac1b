"""Asset checks on a repository that is not there: what a user can mend is told in one line."""

import dagster as dg
import pytest

from proc_decam_dagster.checks import CHECKS
from proc_decam_dagster.resources import ButlerRepository


@pytest.mark.parametrize("name", ["bias_certified", "calexps_complete"])
def test_a_mistake_is_told_in_one_line(tmp_path, name):
    (check,) = [c for c in CHECKS if next(iter(c.check_keys)).name == name]
    context = dg.build_op_context(partition_key="20190401")
    with pytest.raises(dg.Failure) as failure:
        check(context, repository=ButlerRepository(root=str(tmp_path / "none")))
    assert "none is no Butler repository; expected a folder" in failure.value.description
    assert failure.value.__cause__ is None and failure.value.__suppress_context__

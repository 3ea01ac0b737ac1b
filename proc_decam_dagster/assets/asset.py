"""What all assets share: their owner, the way to their code, and a mistake that a user can mend told in one line."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from proc_decam_dagster.assets.pods import pod_tags
from proc_decam_dagster.errors import SurveyError
from proc_decam_dagster.partitions import SURVEY

# Said once for every asset, in the log of each process that loads the definitions.
for name in ("LocalFileCodeReference", "UrlCodeReference", "CodeReferencesMetadataValue"):
    warnings.filterwarnings("ignore", f"Class `{name}`", dg.BetaWarning)

OWNER = f"team:{SURVEY}"


def survey_asset(**options: Any) -> Callable[[Callable], dg.AssetsDefinition]:
    """Return Dagster's asset decorator with what all assets of the survey share."""

    def decorate(compute: Callable) -> dg.AssetsDefinition:
        name = options.get("name", compute.__name__)
        shared = {"owners": [OWNER], "metadata": _code_of(compute, name), "op_tags": pod_tags(name)}
        return dg.asset(**shared, **options)(told_in_one_line()(compute))

    return decorate


def _code_of(compute: Callable, name: str) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Return the metadata by which an asset's page leads to its code.

    Not by Dagster's `with_source_code_references`: that would lead to the decorator of `told_in_one_line`.
    """
    code = inspect.unwrap(compute).__code__
    file = dg.LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno, label=name)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[file])}


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Make of a `SurveyError` a failure that says what was found, what was expected and what to do next.

    Raises
    ------
    dagster.Failure
        Without the traceback: it would tell the user nothing. No retry would help either.
    """
    try:
        yield
    except SurveyError as error:
        said = {"found": error.found, "expected": error.expected, "what to do next": error.fix}
        # Not chained: the UI shows the causes of an error with their tracebacks.
        raise dg.Failure(str(error), metadata={k: v for k, v in said.items() if v}, allow_retries=False) from None

"""What assets work on: the survey's folders, its Butler repository, the archive, where steps run, limits."""

from proc_decam_dagster.resources.archive import ArchiveClient
from proc_decam_dagster.resources.execution import Execution
from proc_decam_dagster.resources.limits import Limits
from proc_decam_dagster.resources.repository import ButlerRepository
from proc_decam_dagster.resources.survey import Survey

__all__ = ["ArchiveClient", "ButlerRepository", "Execution", "Limits", "Survey"]

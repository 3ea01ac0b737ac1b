"""The Science Pipelines engine: what the repository calls in an installed LSST stack, imported when it is called."""

from proc_decam_dagster.repository.science_pipelines.engine import SciencePipelinesEngine

__all__ = ["SciencePipelinesEngine"]

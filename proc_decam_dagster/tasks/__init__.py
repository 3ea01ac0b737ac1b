"""PipelineTasks of the embedded engine: connections, configurations, and a call into `proc_decam_dagster.pixels`."""

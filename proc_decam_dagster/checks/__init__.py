"""Asset checks, per partition: blocking where the data must not go on. One module a stage of the survey."""

from proc_decam_dagster.checks import calibrations, differences, processing, raws, science, templates

CHECKS = [
    check for stage in (raws, calibrations, science, templates, differences, processing) for check in stage.CHECKS
]

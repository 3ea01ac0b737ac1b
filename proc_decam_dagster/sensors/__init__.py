"""Sensors: they register nights and request runs, look after runs, and tell of failures.

No sensor requests what a condition launches: `raws` and `exposures` are the sensors', bias, flat and calexps are those
of `process_ready_nights`.
"""

from proc_decam_dagster.sensors.conditions import process_ready_nights
from proc_decam_dagster.sensors.dead_runs import dead_runs
from proc_decam_dagster.sensors.downloads import new_downloads
from proc_decam_dagster.sensors.exposures import new_exposures
from proc_decam_dagster.sensors.failures import failures

SENSORS = [new_downloads, new_exposures, process_ready_nights, dead_runs, failures]
